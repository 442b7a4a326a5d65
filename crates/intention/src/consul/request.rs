//! Paths and regular expressions of Consul, which Envoy reads, as an intention says them.

use nullius_model::IntentionPath;

/// All of a path.
pub(super) fn exact(text: &str) -> Result<IntentionPath, &'static str> {
    rooted(text)?;
    Ok(IntentionPath { exact: Some(text.to_owned()), ..IntentionPath::default() })
}

/// Consul's prefixes end anywhere in a segment; here only whole segments are one.
pub(super) fn prefix(text: &str) -> Result<IntentionPath, &'static str> {
    rooted(text)?;
    let path = IntentionPath::default();
    Ok(match text.ends_with('/') {
        true => IntentionPath { prefix: Some(text.to_owned()), ..path },
        false => IntentionPath { regex: Some(format!("{}.*", regex::escape(text))), ..path },
    })
}

/// All of a path as a regular expression.
pub(super) fn regex(text: &str) -> Result<IntentionPath, &'static str> {
    check_regex(text)?;
    Ok(IntentionPath { regex: Some(text.to_owned()), ..IntentionPath::default() })
}

fn rooted(text: &str) -> Result<(), &'static str> {
    if text.starts_with('/') { Ok(()) } else { Err("a path begins with `/`") }
}

const INNER: &str = "not carried over: a `[` in a class of characters; write `\\[`";

/// Refuses what RE2, by which Envoy reads, and we would read in two ways; what only one of both knows does not compile here.
pub(super) fn check_regex(text: &str) -> Result<(), &'static str> {
    if !text.is_ascii() {
        return Err("not carried over: characters are bytes here; write an exact path or text");
    }
    let mut characters = text.chars().peekable();
    let mut class = None;
    while let Some(c) = characters.next() {
        match (c, class) {
            ('\\', _) => {
                let next = characters.next();
                let is_boundary = next == Some('b') && characters.peek() == Some(&'{');
                if matches!(next, Some('<' | '>')) || is_boundary {
                    return Err("not carried over: boundaries of words other than `\\b`");
                }
            }
            ('[', None) => {
                if characters.peek() == Some(&'^') {
                    characters.next();
                }
                // A bracket that stands first is one of the class.
                if characters.peek() == Some(&']') {
                    characters.next();
                }
                class = Some(());
            }
            ('[', Some(())) => {
                if characters.next() != Some(':') {
                    return Err(INNER);
                }
                // A name of characters, `[:alpha:]`.
                while characters.peek().is_some_and(|c| c.is_ascii_lowercase() || *c == '^') {
                    characters.next();
                }
                if characters.next() != Some(':') || characters.next() != Some(']') {
                    return Err(INNER);
                }
            }
            ('&' | '~' | '-', Some(())) if characters.peek() == Some(&c) => {
                return Err("not carried over: `&&`, `~~` or `--` in a class of characters");
            }
            (']', Some(())) => class = None,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn expressions_that_envoy_reads_otherwise_are_refused() {
        for fine in [
            "/a[a-z]+",
            r"/v[0-9]{1,3}/\[x\]",
            "[]a]",
            "[^]&]x",
            "[[:alpha:]_]",
            r"\ba\b",
            "a--b&&c",
            r"[\]\-a]",
        ] {
            assert_eq!(check_regex(fine), Ok(()), "{fine}");
        }
        for odd in
            ["[[a]]", "[a&&b]", "[a--b]", "[~~]", r"\<a", r"a\>", r"\b{start}", "/é", "[a[:x]b[c]"]
        {
            assert!(check_regex(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn prefixes_end_within_a_segment() {
        assert_eq!(prefix("/a.b").unwrap().regex.as_deref(), Some(r"/a\.b.*"));
        assert_eq!(prefix("/a/").unwrap().prefix.as_deref(), Some("/a/"));
        assert_eq!(prefix("/").unwrap().prefix.as_deref(), Some("/"));
        assert!(prefix("a").is_err() && exact("a").is_err());
    }
}
