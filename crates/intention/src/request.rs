//! The head of a request: read once, checked for whatever two programs could read in two ways.

use std::borrow::Cow;

use crate::path::{Malformed, Reads, read_target};

/// The head of a request as it came.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a [u8],
    /// Path and query.
    pub target: &'a [u8],
    /// `:authority`; none in HTTP/1, where the first line has no host.
    pub authority: Option<&'a [u8]>,
    /// Headers in the order in which they came, without pseudo-headers.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// The version.
    pub version: Version,
}

/// Versions of HTTP that differ in what a head may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0 and 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A header: its name in lower case, and its value.
type Header<'a> = (Cow<'a, str>, &'a [u8]);

/// A request that was read.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub(crate) method: &'a str,
    target: &'a [u8],
    pub(crate) path: Cow<'a, str>,
    pub(crate) query: Option<&'a str>,
    pub(crate) host: Cow<'a, str>,
    pub(crate) headers: Vec<Header<'a>>,
    pub(crate) reads: Reads,
}

impl<'a> Head<'a> {
    /// Reads it for rules that look at paths, or do not.
    ///
    /// # Errors
    ///
    /// The first thing that could be read in two ways; the request is answered with 400.
    pub fn read(&self, reads: Reads) -> Result<Request<'a>, Malformed> {
        let method = method(self.method)?;
        let headers = headers(self.headers, self.version)?;
        let host = host(self.authority, &headers)?;
        check_framing(&headers)?;
        let target = read_target(self.target, reads)?;
        let (path, query) = (target.path, target.query);
        Ok(Request { method, target: self.target, path, query, host, headers, reads })
    }
}

impl Request<'_> {
    /// The method.
    pub fn method(&self) -> &str {
        self.method
    }

    /// Path and query as they came, to be forwarded byte for byte.
    pub fn target(&self) -> &[u8] {
        self.target
    }

    /// The path: decoded where rules look at it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The host in lower case, without port and final dot.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| *value)
    }
}

fn method(method: &[u8]) -> Result<&str, Malformed> {
    let legal = |c: &u8| c.is_ascii_uppercase() || *c == b'-' || *c == b'_';
    if method.is_empty() || method.len() > 32 || !method.iter().all(legal) {
        return Err(Malformed::Method);
    }
    match std::str::from_utf8(method) {
        Ok("CONNECT") => Err(Malformed::Connect),
        Ok(method) => Ok(method),
        Err(_) => Err(Malformed::Method),
    }
}

fn headers<'a>(
    given: &[(&'a [u8], &'a [u8])],
    version: Version,
) -> Result<Vec<Header<'a>>, Malformed> {
    let mut headers = Vec::with_capacity(given.len());
    for (name, value) in given {
        let name = std::str::from_utf8(name).map_err(|_| Malformed::BadHeader)?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(Malformed::BadHeader);
        }
        // A tab may stand in a value; whatever else is no printable byte could end the header for somebody.
        if value.iter().any(|c| (*c < b' ' && *c != b'\t') || *c == 0x7f) {
            return Err(Malformed::BadHeader);
        }
        let is_lower = !name.bytes().any(|c| c.is_ascii_uppercase());
        if version == Version::Http2 {
            if !is_lower {
                return Err(Malformed::BadHeader);
            }
            let of_connection =
                ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
            if of_connection.contains(&name) || (name == "te" && *value != b"trailers") {
                return Err(Malformed::ConnectionHeader);
            }
        }
        let name =
            if is_lower { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) };
        headers.push((name, value.trim_ascii()));
    }
    Ok(headers)
}

/// Characters of header names (RFC 9110 section 5.6.2).
pub(crate) fn is_token(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c)
}

/// A host with its port, where it has one.
#[derive(PartialEq, Eq)]
struct Authority<'a> {
    host: Cow<'a, str>,
    port: Option<u16>,
}

fn host<'a>(
    authority: Option<&'a [u8]>,
    headers: &[Header<'a>],
) -> Result<Cow<'a, str>, Malformed> {
    let mut hosts = headers.iter().filter(|(name, _)| name == "host").map(|(_, value)| *value);
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Malformed::TwoHosts);
    }
    match (authority, first) {
        (None, None) => Err(Malformed::NoHost),
        (Some(one), None) | (None, Some(one)) => Ok(read_authority(one)?.host),
        (Some(authority), Some(host)) => {
            let (authority, host) = (read_authority(authority)?, read_authority(host)?);
            let is_same_port = match (authority.port, host.port) {
                (Some(one), Some(other)) => one == other,
                _ => true,
            };
            if authority.host != host.host || !is_same_port {
                return Err(Malformed::HostMismatch);
            }
            Ok(authority.host)
        }
    }
}

fn read_authority(text: &[u8]) -> Result<Authority<'_>, Malformed> {
    let bad = Malformed::BadHost;
    let text = std::str::from_utf8(text).map_err(|_| bad)?;
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, after) = rest.split_once(']').ok_or(bad)?;
            inner.parse::<std::net::Ipv6Addr>().map_err(|_| bad)?;
            let port = match after {
                "" => None,
                after => Some(after.strip_prefix(':').ok_or(bad)?),
            };
            (&text[..inner.len() + 2], port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|c| c.is_ascii_digit()) => {
            Some(digits.parse::<u16>().map_err(|_| bad)?)
        }
        Some(_) => return Err(bad),
    };
    let host = match host.starts_with('[') {
        true => host,
        false => {
            let host = host.strip_suffix('.').unwrap_or(host);
            let legal = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
            if host.is_empty() || host.split('.').any(str::is_empty) || !host.bytes().all(legal) {
                return Err(bad);
            }
            host
        }
    };
    let is_lower = !host.bytes().any(|c| c.is_ascii_uppercase());
    let host = if is_lower { Cow::Borrowed(host) } else { Cow::Owned(host.to_ascii_lowercase()) };
    Ok(Authority { host, port })
}

/// Lengths and encodings by which two programs could see two ends of the body, and two answers to who asks.
fn check_framing(headers: &[Header<'_>]) -> Result<(), Malformed> {
    let of = |wanted: &'static str| {
        headers.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| *value)
    };
    if of("authorization").count() > 1 {
        return Err(Malformed::TwoAuthorizations);
    }
    let mut lengths = of("content-length");
    let length = lengths.next();
    let is_number =
        |text: &[u8]| !text.is_empty() && text.len() <= 19 && text.iter().all(u8::is_ascii_digit);
    if lengths.next().is_some() || length.is_some_and(|length| !is_number(length)) {
        return Err(Malformed::BadLength);
    }
    let mut encodings = of("transfer-encoding");
    let encoding = encodings.next();
    if encoding.is_some() && length.is_some() {
        return Err(Malformed::LengthAndEncoding);
    }
    let is_chunked = encoding.is_none_or(|it| it.eq_ignore_ascii_case(b"chunked"));
    if encodings.next().is_some() || !is_chunked {
        return Err(Malformed::BadEncoding);
    }
    Ok(())
}
