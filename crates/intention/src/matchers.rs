//! What a permission says of a request, and whether it fits.
//!
//! An allow fits only if nobody could read the request otherwise; a deny fits as soon as somebody could. So one path, header or
//! method is looked at in one way for an allow, and in all of its ways for a deny.

use std::fmt;

use nullius_model::IntentionAction;
use regex::bytes::{Regex, RegexBuilder};
use serde_json::{Map, Value as Json};

use crate::request::Request;

/// The most memory that a compiled regular expression may take, in bytes.
const REGEX_MAX: usize = 64 * 1024;

/// A regular expression that all of a text must fit.
#[derive(Debug, Clone)]
pub(crate) struct Whole {
    source: Box<str>,
    regex: Regex,
}

impl Whole {
    pub(crate) fn compile(source: &str) -> Result<Self, String> {
        // Alone first, so that no bracket of it closes ours.
        let build = |pattern: &str| {
            RegexBuilder::new(pattern)
                .unicode(false)
                .dot_matches_new_line(true)
                .size_limit(REGEX_MAX)
                .build()
        };
        let built = build(source).and_then(|_| build(&format!(r"\A(?:{source})\z")));
        match built {
            Ok(regex) => Ok(Self { source: source.into(), regex }),
            Err(regex::Error::CompiledTooBig(_)) => {
                Err("it is larger than 64 KiB when it is compiled: write a shorter one".to_owned())
            }
            Err(error) => {
                let told = error.to_string();
                let last = told.lines().last().unwrap_or_default();
                Err(last.trim_start_matches("error: ").to_owned())
            }
        }
    }

    fn fits(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }
}

/// Paths.
#[derive(Debug, Clone)]
pub(crate) enum PathMatcher {
    Exact(Box<str>),
    /// Without a slash at its end, but for those that had one.
    Prefix(Box<str>),
    Regex(Whole),
}

impl PathMatcher {
    pub(crate) fn fits(&self, path: &str, action: IntentionAction) -> bool {
        match (self, action) {
            (Self::Exact(wanted), IntentionAction::Allow) => **wanted == *path,
            (Self::Exact(wanted), IntentionAction::Deny) => {
                without_slash(wanted) == without_slash(path)
            }
            (Self::Prefix(wanted), IntentionAction::Allow) => is_below(path, wanted),
            (Self::Prefix(wanted), IntentionAction::Deny) => is_below(path, without_slash(wanted)),
            (Self::Regex(regex), IntentionAction::Allow) => regex.fits(path.as_bytes()),
            (Self::Regex(regex), IntentionAction::Deny) => {
                let bare = without_slash(path);
                regex.fits(path.as_bytes())
                    || regex.fits(bare.as_bytes())
                    || regex.fits(format!("{bare}/").as_bytes())
            }
        }
    }
}

fn without_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

/// Whether a path is another one or below it, by whole segments.
fn is_below(path: &str, above: &str) -> bool {
    match path.strip_prefix(above) {
        Some(rest) => rest.is_empty() || rest.starts_with('/') || above.ends_with('/'),
        None => false,
    }
}

impl fmt::Display for PathMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "`{path}`"),
            Self::Prefix(path) => write!(f, "below `{path}`"),
            Self::Regex(regex) => write!(f, "like `{}`", regex.source),
        }
    }
}

/// Hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostMatcher {
    Exact(Box<str>),
    /// All below, with the dot before it.
    Below(Box<str>),
}

impl HostMatcher {
    pub(crate) fn fits(&self, host: &str) -> bool {
        match self {
            Self::Exact(wanted) => **wanted == *host,
            Self::Below(end) => host.len() > end.len() && host.ends_with(&**end),
        }
    }
}

impl fmt::Display for HostMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => write!(f, "`{host}`"),
            Self::Below(end) => write!(f, "`*{end}`"),
        }
    }
}

/// A header.
#[derive(Debug, Clone)]
pub(crate) struct HeaderMatcher {
    pub(crate) name: Box<str>,
    pub(crate) values: Values,
    /// Whether values must not be so.
    pub(crate) sense: Sense,
}

/// What values must be.
#[derive(Debug, Clone)]
pub(crate) enum Values {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<str>),
    Regex(Whole),
    Present,
    Absent,
}

/// Whether a matcher is turned round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sense {
    Is,
    IsNot,
}

impl HeaderMatcher {
    pub(crate) fn fits(&self, request: &Request<'_>, action: IntentionAction) -> bool {
        let mut values = request.values(&self.name).peekable();
        let is_there = values.peek().is_some();
        match (&self.values, action) {
            (Values::Present, _) => is_there,
            (Values::Absent, _) => !is_there,
            // What is not there cannot be what an allow asks for, nor be other than what a deny wants to see.
            (_, IntentionAction::Allow) => is_there && values.all(|value| self.is_wanted(value)),
            (_, IntentionAction::Deny) if !is_there => self.sense == Sense::IsNot,
            (_, IntentionAction::Deny) => self.any_reading(request),
        }
    }

    /// Whether any way to read the values is wanted: each line, each part between commas, and all lines as one.
    fn any_reading(&self, request: &Request<'_>) -> bool {
        let lines = || request.values(&self.name);
        let mut parts = lines().flat_map(|line| line.split(|c| *c == b',')).map(<[u8]>::trim_ascii);
        if lines().any(|line| self.is_wanted(line)) || parts.any(|part| self.is_wanted(part)) {
            return true;
        }
        if lines().nth(1).is_none() {
            return false;
        }
        let all: Vec<&[u8]> = lines().collect();
        [b",".as_slice(), b", "].iter().any(|between| self.is_wanted(&all.join(*between)))
    }

    fn is_wanted(&self, value: &[u8]) -> bool {
        let is = match &self.values {
            Values::Exact(wanted) => value == wanted.as_bytes(),
            Values::Prefix(wanted) => value.starts_with(wanted.as_bytes()),
            Values::Suffix(wanted) => value.ends_with(wanted.as_bytes()),
            Values::Contains(wanted) => {
                let wanted = wanted.as_bytes();
                value.windows(wanted.len()).any(|part| part == wanted)
            }
            Values::Regex(regex) => regex.fits(value),
            Values::Present => true,
            Values::Absent => false,
        };
        is == (self.sense == Sense::Is)
    }
}

impl fmt::Display for HeaderMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.sense == Sense::IsNot { "not " } else { "" };
        write!(f, "header `{}` ", self.name)?;
        match &self.values {
            Values::Exact(text) => write!(f, "{not}`{text}`"),
            Values::Prefix(text) => write!(f, "{not}beginning with `{text}`"),
            Values::Suffix(text) => write!(f, "{not}ending with `{text}`"),
            Values::Contains(text) => write!(f, "{not}with `{text}` in it"),
            Values::Regex(regex) => write!(f, "{not}like `{}`", regex.source),
            Values::Present => f.write_str("present"),
            Values::Absent => f.write_str("absent"),
        }
    }
}

/// A token whose signature, times and issuer somebody verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Who issued it.
    pub issuer: String,
    /// For whom.
    pub audiences: Vec<String>,
    /// What it says.
    pub claims: Map<String, Json>,
}

/// What a token must say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JwtMatcher {
    pub(crate) issuer: Box<str>,
    pub(crate) audiences: Vec<String>,
    pub(crate) claims: Vec<ClaimMatcher>,
}

/// What a claim must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClaimMatcher {
    pub(crate) path: Vec<String>,
    pub(crate) values: Vec<Json>,
    /// In place of values: parts of a text between spaces.
    pub(crate) words: Vec<Box<str>>,
}

impl JwtMatcher {
    /// The first token that fits.
    pub(crate) fn find<'t>(&self, tokens: &'t [Token]) -> Option<&'t Token> {
        tokens.iter().find(|token| {
            *token.issuer == *self.issuer
                && (self.audiences.is_empty()
                    || self.audiences.iter().any(|wanted| token.audiences.contains(wanted)))
                && self.claims.iter().all(|claim| claim.fits(&token.claims))
        })
    }
}

impl ClaimMatcher {
    fn fits(&self, claims: &Map<String, Json>) -> bool {
        let Some((first, rest)) = self.path.split_first() else { return false };
        let found = rest
            .iter()
            .try_fold(claims.get(first), |value, step| value.map(|value| value.get(step)))
            .flatten();
        match found {
            Some(Json::Array(items)) => items.iter().any(|item| self.is_wanted(item)),
            Some(value) => self.is_wanted(value),
            None => false,
        }
    }

    fn is_wanted(&self, value: &Json) -> bool {
        let has =
            |text: &str| text.split(' ').any(|word| self.words.iter().any(|it| **it == *word));
        self.values.contains(value) || value.as_str().is_some_and(has)
    }
}

impl fmt::Display for JwtMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a token of `{}`", self.issuer)?;
        if !self.audiences.is_empty() {
            write!(f, " for `{}`", self.audiences.join("` or `"))?;
        }
        for claim in &self.claims {
            let values = claim.values.iter().map(Json::to_string);
            let words = claim.words.iter().map(|word| format!("the word `{word}`"));
            let all: Vec<_> = values.chain(words).collect();
            write!(f, " with `{}` {}", claim.path.join("."), all.join(" or "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;
    use IntentionAction::{Allow, Deny};

    #[test]
    fn prefixes_are_whole_segments_and_a_deny_covers_the_slash() {
        let api = PathMatcher::Prefix("/api".into());
        for (path, fits) in [("/api", true), ("/api/", true), ("/api/x", true), ("/apix", false)] {
            assert_eq!(api.fits(path, Allow), fits, "{path}");
            assert_eq!(api.fits(path, Deny), fits, "{path}");
        }
        let below = PathMatcher::Prefix("/api/".into());
        assert!(!below.fits("/api", Allow) && below.fits("/api", Deny));
        assert!(below.fits("/api/x", Allow) && below.fits("/api/x", Deny));
        let root = PathMatcher::Prefix("/".into());
        assert!(root.fits("/x", Allow) && root.fits("/x", Deny) && root.fits("/", Deny));
        let exact = PathMatcher::Exact("/x".into());
        assert!(!exact.fits("/x/", Allow) && exact.fits("/x/", Deny));
        let regex = PathMatcher::Regex(Whole::compile("/v[0-9]+").unwrap());
        assert!(!regex.fits("/v1/", Allow) && regex.fits("/v1/", Deny));
        assert!(!regex.fits("/a/v1", Deny) && !regex.fits("/v1/x", Deny));
    }

    #[test]
    fn regular_expressions_are_whole_bounded_and_see_line_breaks() {
        assert!(Whole::compile("a.*c").unwrap().fits(b"a\nc"));
        assert!(!Whole::compile("a|b").unwrap().fits(b"ax"));
        for bad in ["(", "a)|(b", "[", "(?x)a #", "\\w{1000}{1000}", "(a{500}){500}"] {
            assert!(Whole::compile(bad).is_err(), "{bad}");
        }
    }
}
