//! Names in which a `*` stands for any text.

use std::collections::BTreeSet;

/// A name with stars.
pub(crate) struct Glob<'a>(&'a str);

impl<'a> Glob<'a> {
    /// Whether any of the names is one for a text.
    pub(crate) fn any(globs: &'a BTreeSet<String>, text: &str) -> bool {
        globs.iter().any(|glob| Glob(glob).matches(text))
    }

    fn matches(&self, text: &str) -> bool {
        let mut pieces = self.0.split('*');
        let Some(mut rest) = text.strip_prefix(pieces.next().unwrap_or_default()) else {
            return false;
        };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            // The first place leaves the most for those that follow.
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_nothing_else_does() {
        for (glob, text) in [
            ("web", "web"),
            ("web-*", "web-"),
            ("web-*", "web-1"),
            ("*-web", "a-web"),
            ("a*b*c", "abc"),
            ("a*b*c", "axbxbyc"),
            ("registry.example/*/a:*", "registry.example/team/a:1.2"),
        ] {
            assert!(Glob(glob).matches(text), "{glob} {text}");
        }
        for (glob, text) in [
            ("web", "web2"),
            ("web-*", "web"),
            ("a*a", "a"),
            ("a*b*c", "acb"),
            ("ab*bc", "abc"),
            ("registry.example/*", "evil.example/registry.example/a"),
            ("", "a"),
        ] {
            assert!(!Glob(glob).matches(text), "{glob} {text}");
        }
    }
}
