//! The URL library: Go's reading of absolute URLs and absolute paths.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::{Library, Run, text};
use crate::{
    error::{EvalError, Fallible},
    map::{Entries, Map},
    types::Type,
    value::Value,
};

const URL: Type = Type::Opaque("kubernetes.URL");

/// A URL in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    path: Vec<u8>,
    raw_path: String,
    query: String,
    source: String,
}

/// Declares the library.
pub(crate) fn declare(library: &mut Library) {
    library.global("url", "string_to_url", [Type::String], URL, |_, args| {
        let source = text(args, 0)?;
        check_request(source)
            .and_then(|()| Url::parse(source))
            .map(|url| Value::Url(Arc::new(url)))
            .map_err(|reason| {
                EvalError::Failed(format!(
                    "URL parse error during conversion from string: parse {source:?}: {reason}"
                ))
            })
    });
    library.global("isURL", "is_url_string", [Type::String], Type::Bool, |_, args| {
        Ok(Value::Bool(check_request(text(args, 0)?).is_ok()))
    });
    let parts: [(&str, &str, Run); 5] = [
        ("getScheme", "url_get_scheme", |_, args| Ok(Value::string(url(args)?.scheme.as_str()))),
        ("getHost", "url_get_host", |_, args| Ok(Value::string(url(args)?.host.as_str()))),
        ("getHostname", "url_get_hostname", |_, args| {
            Ok(Value::string(host_and_port(&url(args)?.host).0))
        }),
        ("getPort", "url_get_port", |_, args| Ok(Value::string(host_and_port(&url(args)?.host).1))),
        ("getEscapedPath", "url_get_escaped_path", |_, args| {
            Ok(Value::string(url(args)?.escaped_path()))
        }),
    ];
    for (name, id, run) in parts {
        library.member(name, id, [URL], Type::String, run);
    }
    library.member(
        "getQuery",
        "url_get_query",
        [URL],
        Type::map(Type::String, Type::list(Type::String)),
        |_, args| Ok(Value::Map(Map::of(url(args)?.query_values()))),
    );
}

fn url<'v>(args: &'v [Value<'_>]) -> Fallible<&'v Url> {
    match args.first() {
        Some(Value::Url(url)) => Ok(url),
        _ => Err(EvalError::no_overload()),
    }
}

/// Whether text is a URL of a request: absolute, or a path from the root.
pub(crate) fn check_request(source: &str) -> Result<(), String> {
    if source.is_empty() {
        return Err("empty url".to_owned());
    }
    if source == "*" {
        return Ok(());
    }
    parse_parts(source, "", Reading::Request).map(|_| ())
}

/// Whether the text is a request's or may be relative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Request,
    Any,
}

impl Url {
    fn parse(source: &str) -> Result<Url, String> {
        let (source_part, fragment) = source.split_once('#').unwrap_or((source, ""));
        unescape(fragment, Part::Fragment)?;
        if source_part == "*" {
            return Ok(Url {
                scheme: String::new(),
                host: String::new(),
                path: b"*".to_vec(),
                raw_path: "*".to_owned(),
                query: String::new(),
                source: source.to_owned(),
            });
        }
        parse_parts(source_part, source, Reading::Any)
    }

    fn escaped_path(&self) -> String {
        if is_valid_encoding(&self.raw_path)
            && unescape(&self.raw_path, Part::Path).is_ok_and(|path| path == self.path)
        {
            return self.raw_path.clone();
        }
        if self.path == b"*" {
            return "*".to_owned();
        }
        self.path
            .iter()
            .map(|byte| {
                if may_stand(*byte, Part::Path) {
                    char::from(*byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect()
    }

    fn query_values<'a>(&self) -> Entries<'a> {
        let mut keys: Vec<(String, Vec<Value<'a>>)> = Vec::new();
        for pair in self.query.split('&') {
            if pair.is_empty() || pair.contains(';') {
                continue;
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Ok(key), Ok(value)) = (unescape(key, Part::Query), unescape(value, Part::Query))
            else {
                continue;
            };
            let key = String::from_utf8_lossy(&key).into_owned();
            let value = Value::string(String::from_utf8_lossy(&value).into_owned());
            match keys.iter_mut().find(|(known, _)| *known == key) {
                Some((_, values)) => values.push(value),
                None => keys.push((key, vec![value])),
            }
        }
        let mut entries = Entries::default();
        for (key, values) in keys {
            entries.insert(Value::string(key), Value::list(values));
        }
        entries
    }
}

fn parse_parts(text: &str, source: &str, reading: Reading) -> Result<Url, String> {
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (scheme, rest) = scheme_of(text)?;
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, query),
        None => (rest, ""),
    };
    let mut url = Url {
        scheme: scheme.to_ascii_lowercase(),
        host: String::new(),
        path: Vec::new(),
        raw_path: String::new(),
        query: query.to_owned(),
        source: source.to_owned(),
    };
    if !rest.starts_with('/') {
        if !url.scheme.is_empty() {
            return Ok(url);
        }
        if reading == Reading::Request {
            return Err("invalid URI for request".to_owned());
        }
        if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    let has_authority = rest.starts_with("//")
        && (!url.scheme.is_empty() || (reading == Reading::Any && !rest.starts_with("///")));
    let path = if has_authority {
        let after = &rest[2..];
        let end = after.find('/').unwrap_or(after.len());
        url.host = host_of(&url.scheme, &after[..end])?;
        &after[end..]
    } else {
        rest
    };
    url.path = unescape(path, Part::Path)?;
    path.clone_into(&mut url.raw_path);
    Ok(url)
}

fn scheme_of(text: &str) -> Result<(&str, &str), String> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' => {
                if at == 0 {
                    return Ok(("", text));
                }
            }
            b':' => {
                if at == 0 {
                    return Err("missing protocol scheme".to_owned());
                }
                return Ok((&text[..at], &text[at + 1..]));
            }
            _ => return Ok(("", text)),
        }
    }
    Ok(("", text))
}

fn host_of(scheme: &str, authority: &str) -> Result<String, String> {
    let host = match authority.rsplit_once('@') {
        None => authority,
        Some((user, host)) => {
            let valid = user
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte));
            if !valid {
                return Err("net/url: invalid userinfo".to_owned());
            }
            unescape(user, Part::Path)?;
            host
        }
    };
    match host.rfind('[') {
        Some(0) => return bracketed(&host[1..]),
        Some(_) => return Err("invalid IP-literal".to_owned()),
        None => {}
    }
    // Only the web's own schemes are read strictly: others may list hosts with their ports.
    let colon = if matches!(scheme, "http" | "https") { host.find(':') } else { host.rfind(':') };
    if let Some(colon) = colon {
        check_port(&host[colon..])?;
    }
    let unescaped = unescape(host, Part::Host)?;
    Ok(String::from_utf8_lossy(&unescaped).into_owned())
}

/// `::1]:80`, `fe80::1%25eth0]`: an address of IPv6 and what follows it.
fn bracketed(host: &str) -> Result<String, String> {
    let Some((address, port)) = host.rsplit_once(']') else {
        return Err("missing ']' in host".to_owned());
    };
    check_port(port)?;
    let (plain, zone) = match address.split_once("%25") {
        Some((plain, zone)) => (plain, Some(zone)),
        None => (address, None),
    };
    let mut unescaped = unescape(plain, Part::Host)?;
    if let Some(zone) = zone {
        unescaped.push(b'%');
        unescaped.extend(unescape(zone, Part::Zone)?);
    }
    let address = String::from_utf8_lossy(&unescaped).into_owned();
    let (plain, zone) = match address.split_once('%') {
        Some((plain, zone)) => (plain, Some(zone)),
        None => (address.as_str(), None),
    };
    if zone.is_none() && plain.parse::<Ipv4Addr>().is_ok() {
        return Err("invalid IP-literal".to_owned());
    }
    if plain.parse::<Ipv6Addr>().is_err() || zone == Some("") {
        return Err(format!("invalid host: ParseAddr({address:?}): unable to parse IP"));
    }
    Ok(format!("[{address}]{port}"))
}

fn check_port(port: &str) -> Result<(), String> {
    let valid = port.is_empty()
        || port.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|d| d.is_ascii_digit()));
    if valid { Ok(()) } else { Err(format!("invalid port {port:?} after host")) }
}

fn host_and_port(host: &str) -> (&str, &str) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    };
    (name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name), port)
}

/// Which part of a URL is read: each lets other characters stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Path,
    Host,
    Zone,
    Query,
    Fragment,
}

fn may_stand(byte: u8, part: Part) -> bool {
    byte.is_ascii_alphanumeric()
        || b"-_.~".contains(&byte)
        || match part {
            Part::Path => b"$&+,/:;=@".contains(&byte),
            Part::Host | Part::Zone => b"!$&'()*+,;=:[]<>\"".contains(&byte),
            Part::Query => false,
            Part::Fragment => b"$&+,/:;=?@!()*".contains(&byte),
        }
}

/// Whether a path is written as a valid encoding of itself.
fn is_valid_encoding(path: &str) -> bool {
    path.bytes().all(|byte| b"!$&'()*+,;=:@[]%".contains(&byte) || may_stand(byte, Part::Path))
}

fn unescape(text: &str, part: Part) -> Result<Vec<u8>, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let digits = text
                    .get(at + 1..at + 3)
                    .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                let Some(value) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())
                else {
                    let end = (at + 3).min(text.len());
                    let shown = String::from_utf8_lossy(&bytes[at..end]);
                    return Err(format!("invalid URL escape {shown:?}"));
                };
                // In a host only octets outside of ASCII, and what starts a zone, may be escaped.
                if part == Part::Host && value < 0x80 && value != b'%' {
                    return Err(format!("invalid URL escape \"%{value:02X}\""));
                }
                out.push(value);
                at += 3;
                continue;
            }
            b'+' if part == Part::Query => out.push(b' '),
            other => {
                if matches!(part, Part::Host | Part::Zone)
                    && *other < 0x80
                    && !may_stand(*other, part)
                {
                    let shown = char::from(*other).to_string();
                    return Err(format!("invalid character {shown:?} in host name"));
                }
                out.push(*other);
            }
        }
        at += 1;
    }
    Ok(out)
}
