//! Targets of requests, read in exactly one way or not at all.
//!
//! A server behind us may merge slashes, resolve dots, drop parameters, decode once more. Whatever two servers could read in two
//! ways is refused, so that what is judged is what they all see.

use std::{borrow::Cow, fmt};

/// Why a request cannot be read in exactly one way; each is answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Malformed {
    /// The method is no word of letters.
    Method,
    /// A plain CONNECT, which opens no request here.
    Connect,
    /// The target is a whole URL, `*`, or otherwise no path.
    AbsoluteForm,
    /// The target has a fragment.
    Fragment,
    /// The path has a backslash.
    Backslash,
    /// The target has a byte that must be encoded.
    RawByte,
    /// A `%` without two hexadecimal digits.
    BadPercent,
    /// The path has an empty segment.
    EmptySegment,
    /// The path has a segment `.` or `..`.
    DotSegment,
    /// The path has a parameter, `;`.
    PathParameter,
    /// The path has an encoded `/`, `\` or NUL.
    EncodedSeparator,
    /// The path is encoded twice.
    DoubleEncoding,
    /// The path is no UTF-8 when it is decoded.
    NotUtf8,
    /// No host is named.
    NoHost,
    /// Two hosts are named.
    TwoHosts,
    /// `Host` is another one than `:authority`.
    HostMismatch,
    /// The host is no name and no address.
    BadHost,
    /// Two `Authorization` headers.
    TwoAuthorizations,
    /// `Content-Length` twice, or no number.
    BadLength,
    /// `Content-Length` beside `Transfer-Encoding`.
    LengthAndEncoding,
    /// A `Transfer-Encoding` other than `chunked`.
    BadEncoding,
    /// A header whose name or value has bytes that no header has.
    BadHeader,
    /// A header of the connection in HTTP/2.
    ConnectionHeader,
}

impl Malformed {
    /// Every one.
    pub const ALL: [Self; 23] = [
        Self::Method,
        Self::Connect,
        Self::AbsoluteForm,
        Self::Fragment,
        Self::Backslash,
        Self::RawByte,
        Self::BadPercent,
        Self::EmptySegment,
        Self::DotSegment,
        Self::PathParameter,
        Self::EncodedSeparator,
        Self::DoubleEncoding,
        Self::NotUtf8,
        Self::NoHost,
        Self::TwoHosts,
        Self::HostMismatch,
        Self::BadHost,
        Self::TwoAuthorizations,
        Self::BadLength,
        Self::LengthAndEncoding,
        Self::BadEncoding,
        Self::BadHeader,
        Self::ConnectionHeader,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "bad-method",
            Self::Connect => "connect",
            Self::AbsoluteForm => "absolute-form",
            Self::Fragment => "fragment",
            Self::Backslash => "backslash",
            Self::RawByte => "raw-byte",
            Self::BadPercent => "bad-percent",
            Self::EmptySegment => "empty-segment",
            Self::DotSegment => "dot-segment",
            Self::PathParameter => "path-parameter",
            Self::EncodedSeparator => "encoded-separator",
            Self::DoubleEncoding => "double-encoding",
            Self::NotUtf8 => "not-utf8",
            Self::NoHost => "no-host",
            Self::TwoHosts => "two-hosts",
            Self::HostMismatch => "host-mismatch",
            Self::BadHost => "bad-host",
            Self::TwoAuthorizations => "two-authorizations",
            Self::BadLength => "bad-length",
            Self::LengthAndEncoding => "length-and-encoding",
            Self::BadEncoding => "bad-encoding",
            Self::BadHeader => "bad-header",
            Self::ConnectionHeader => "connection-header",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "its method is no word of upper-case letters",
            Self::Connect => "a plain CONNECT is no request",
            Self::AbsoluteForm => "its target does not begin with `/`",
            Self::Fragment => "its target has a `#`",
            Self::Backslash => "its path has a `\\`",
            Self::RawByte => "its target has a byte that must be percent-encoded",
            Self::BadPercent => "its path has a `%` without two hexadecimal digits",
            Self::EmptySegment => "its path has `//`",
            Self::DotSegment => "its path has a segment `.` or `..`",
            Self::PathParameter => "its path has a `;`",
            Self::EncodedSeparator => "its path has an encoded `/`, `\\` or NUL",
            Self::DoubleEncoding => "its path is percent-encoded twice",
            Self::NotUtf8 => "its path is no UTF-8 when it is decoded",
            Self::NoHost => "it names no host",
            Self::TwoHosts => "it has two `Host` headers",
            Self::HostMismatch => "its `Host` is another one than its `:authority`",
            Self::BadHost => "its host is no name and no address",
            Self::TwoAuthorizations => "it has two `Authorization` headers",
            Self::BadLength => "its `Content-Length` stands twice or is no number",
            Self::LengthAndEncoding => "it has `Content-Length` beside `Transfer-Encoding`",
            Self::BadEncoding => "its `Transfer-Encoding` is not `chunked`",
            Self::BadHeader => "a header has bytes that no header has",
            Self::ConnectionHeader => "it has a header of the connection in HTTP/2",
        })
    }
}

impl std::error::Error for Malformed {}

/// Whether rules look at the path of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reads {
    /// They do: a path that could be read in two ways is refused.
    Paths,
    /// They do not.
    NoPaths,
}

/// A target in its two parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// Decoded where rules look at it, else as it came.
    pub(crate) path: Cow<'a, str>,
    /// As it came.
    pub(crate) query: Option<&'a str>,
}

/// Reads a target.
pub(crate) fn read_target(target: &[u8], reads: Reads) -> Result<Target<'_>, Malformed> {
    if target.contains(&b'#') {
        return Err(Malformed::Fragment);
    }
    if target.iter().any(|byte| *byte <= b' ' || *byte >= 0x7f) {
        return Err(Malformed::RawByte);
    }
    let target = std::str::from_utf8(target).map_err(|_| Malformed::RawByte)?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if path == "*" && reads == Reads::NoPaths {
        return Ok(Target { path: Cow::Borrowed(path), query });
    }
    if !path.starts_with('/') {
        return Err(Malformed::AbsoluteForm);
    }
    if path.contains('\\') {
        return Err(Malformed::Backslash);
    }
    let decoded = decode(path)?;
    if reads == Reads::NoPaths {
        return Ok(Target { path: Cow::Borrowed(path), query });
    }
    check_encoded(path)?;
    let decoded = match decoded {
        Cow::Borrowed(_) => Cow::Borrowed(path),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)?),
    };
    check_segments(&decoded)?;
    // Also where the digits were encoded themselves: `%25%32%66`.
    if has_code(&decoded) {
        return Err(Malformed::DoubleEncoding);
    }
    Ok(Target { path: decoded, query })
}

/// Decodes once.
fn decode(path: &str) -> Result<Cow<'_, [u8]>, Malformed> {
    let bytes = path.as_bytes();
    if !bytes.contains(&b'%') {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let [high, low, ..] = *rest else { return Err(Malformed::BadPercent) };
        let (Some(high), Some(low)) = (hex(high), hex(low)) else {
            return Err(Malformed::BadPercent);
        };
        decoded.push(high << 4 | low);
        rest = &rest[2..];
    }
    Ok(Cow::Owned(decoded))
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// What must not be encoded at all; every `%` has its two digits.
fn check_encoded(path: &str) -> Result<(), Malformed> {
    for (at, _) in path.match_indices('%') {
        let code = path.get(at + 1..at + 3).unwrap_or_default().to_ascii_lowercase();
        match code.as_str() {
            "2f" | "5c" | "00" => return Err(Malformed::EncodedSeparator),
            "3b" => return Err(Malformed::PathParameter),
            _ => {}
        }
    }
    Ok(())
}

/// Whether somebody who decodes once more would see another path.
fn has_code(decoded: &str) -> bool {
    let is_code =
        |three: &[u8]| three[0] == b'%' && hex(three[1]).is_some() && hex(three[2]).is_some();
    decoded.as_bytes().windows(3).any(is_code)
}

fn check_segments(path: &str) -> Result<(), Malformed> {
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "" if segments.peek().is_some() => return Err(Malformed::EmptySegment),
            "." | ".." => return Err(Malformed::DotSegment),
            _ if segment.contains(';') => return Err(Malformed::PathParameter),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn path(target: &str) -> Result<String, Malformed> {
        read_target(target.as_bytes(), Reads::Paths).map(|target| target.path.into_owned())
    }

    #[test]
    fn a_path_is_decoded_once() {
        assert_eq!(path("/a%20b/%C3%A9?x=%2f").unwrap(), "/a b/é");
        assert_eq!(path("/100%25").unwrap(), "/100%");
        assert_eq!(path("/").unwrap(), "/");
        assert_eq!(path("/a/").unwrap(), "/a/");
        let target = read_target(b"/a?b=c?d", Reads::Paths).unwrap();
        assert_eq!(target.query, Some("b=c?d"));
    }

    #[test]
    fn each_trick_has_its_word() {
        for (target, why) in [
            ("http://a/b", Malformed::AbsoluteForm),
            ("", Malformed::AbsoluteForm),
            ("*", Malformed::AbsoluteForm),
            ("a:80", Malformed::AbsoluteForm),
            ("/a#b", Malformed::Fragment),
            ("/a\\b", Malformed::Backslash),
            ("/a b", Malformed::RawByte),
            ("/a\tb", Malformed::RawByte),
            ("/a\0", Malformed::RawByte),
            ("/é", Malformed::RawByte),
            ("/a\u{7f}", Malformed::RawByte),
            ("/a%", Malformed::BadPercent),
            ("/a%2", Malformed::BadPercent),
            ("/a%zz", Malformed::BadPercent),
            ("/a%u002f", Malformed::BadPercent),
            ("//a", Malformed::EmptySegment),
            ("/a//b", Malformed::EmptySegment),
            ("/a//", Malformed::EmptySegment),
            ("/a/./b", Malformed::DotSegment),
            ("/a/..", Malformed::DotSegment),
            ("/a/%2e%2e/b", Malformed::DotSegment),
            ("/a/.%2E/b", Malformed::DotSegment),
            ("/a/%2e", Malformed::DotSegment),
            ("/a;x=1", Malformed::PathParameter),
            ("/a/..;/b", Malformed::PathParameter),
            ("/a%3bx", Malformed::PathParameter),
            ("/a%2fb", Malformed::EncodedSeparator),
            ("/a%2Fb", Malformed::EncodedSeparator),
            ("/a%5cb", Malformed::EncodedSeparator),
            ("/a%00", Malformed::EncodedSeparator),
            ("/a%252fb", Malformed::DoubleEncoding),
            ("/a%252e", Malformed::DoubleEncoding),
            ("/a%25%32%66", Malformed::DoubleEncoding),
            ("/%25%61dmin", Malformed::DoubleEncoding),
            ("/%c0%af", Malformed::NotUtf8),
            ("/%ff", Malformed::NotUtf8),
        ] {
            assert_eq!(path(target), Err(why), "{target:?}");
        }
    }

    #[test]
    fn where_no_rule_looks_at_paths_only_what_breaks_framing_is_refused() {
        for target in ["/a//b", "/a/../b", "/a;x", "/a%2fb", "/a%252f", "/%ff", "*"] {
            assert!(read_target(target.as_bytes(), Reads::NoPaths).is_ok(), "{target}");
        }
        for target in ["http://a/", "/a#b", "/a\\b", "/a b", "/%", "/\r\nx: y"] {
            assert!(read_target(target.as_bytes(), Reads::NoPaths).is_err(), "{target}");
        }
    }

    #[test]
    fn every_word_is_another_one() {
        let words: std::collections::BTreeSet<_> =
            Malformed::ALL.iter().map(|each| each.as_str()).collect();
        assert_eq!(words.len(), Malformed::ALL.len());
    }
}
