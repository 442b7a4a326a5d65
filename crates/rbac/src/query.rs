//! The query of a list or watch, read as the API server reads its list options.

/// A query that two readers could understand differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What a query says about the verb and name of a request that names no object in its path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ListOptions {
    pub(crate) watch: bool,
    /// The name that `fieldSelector` pins with `metadata.name=`, empty where it pins none.
    pub(crate) name: String,
}

/// A decoded parameter and its value.
type Pair = (Vec<u8>, Vec<u8>);

/// Decoded pairs in order; `+` is a space, as in `application/x-www-form-urlencoded`.
pub(crate) fn pairs(query: &str) -> Result<Vec<Pair>, Malformed> {
    let mut pairs = Vec::new();
    for pair in query.split('&') {
        if pair.is_empty() {
            continue;
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((decode(key)?, decode(value)?));
    }
    Ok(pairs)
}

/// Reads the list options. Of a repeated parameter the first counts. Where any option does not parse, the API
/// server forgets the name and keeps `watch`, and so does this.
pub(crate) fn list_options(query: &str) -> Result<ListOptions, Malformed> {
    let pairs = pairs(query)?;
    let first = |wanted: &str| {
        pairs.iter().find(|(key, _)| key == wanted.as_bytes()).map(|(_, value)| value.as_slice())
    };
    let watch = match first("watch") {
        None => false,
        Some(value) => value != b"0" && !value.eq_ignore_ascii_case(b"false"),
    };
    let number = |key: &str| first(key).is_none_or(is_int64);
    let selects = first("labelSelector").is_none_or(is_plain_label_selector);
    let name = match first("fieldSelector") {
        Some(text) if number("limit") && number("timeoutSeconds") && selects => {
            let text = std::str::from_utf8(text).map_err(|_| Malformed)?;
            pinned_name(text).unwrap_or_default()
        }
        Some(_) | None => String::new(),
    };
    Ok(ListOptions { watch, name })
}

fn decode(text: &str) -> Result<Vec<u8>, Malformed> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => hex_pair(bytes.next(), bytes.next()).ok_or(Malformed)?,
            byte => byte,
        });
    }
    Ok(decoded)
}

/// The byte that two hexadecimal digits stand for.
pub(crate) fn hex_pair(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high?)? << 4 | digit(low?)?)
}

/// A decimal number as Go's `ParseInt` takes it.
fn is_int64(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<i64>().is_ok())
}

/// Whether a label selector is surely well formed: terms `key`, `!key`, `key=value`, `key==value`, `key!=value`.
///
/// Of others it is not known, so that no name is taken beside them: that makes a request ask for more, never less.
fn is_plain_label_selector(selector: &[u8]) -> bool {
    let Ok(selector) = std::str::from_utf8(selector) else { return false };
    selector.is_empty()
        || selector.split(',').all(|term| {
            let (key, value) = match (term.split_once("!="), term.split_once('=')) {
                (Some((key, value)), _) => (key, value),
                (None, Some((key, value))) => (key, value.strip_prefix('=').unwrap_or(value)),
                (None, None) => (term.strip_prefix('!').unwrap_or(term), ""),
            };
            let (prefix, name) = key.split_once('/').unwrap_or(("a", key));
            let is_prefix = prefix.split('.').all(|part| {
                !part.is_empty() && is_label_text(part) && part == part.to_ascii_lowercase()
            });
            is_prefix && !name.is_empty() && is_label_text(name) && is_label_text(value)
        })
}

fn is_label_text(text: &str) -> bool {
    let edge = |c: Option<&u8>| c.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && !matches!(text, "in" | "notin")
        && bytes.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c))
        && edge(bytes.first())
        && edge(bytes.last())
}

/// The name that a field selector pins: the first term in sorted order that says `metadata.name=` or `==`.
fn pinned_name(selector: &str) -> Option<String> {
    let mut terms = terms(selector);
    terms.sort_unstable();
    let mut pinned: Option<String> = None;
    for term in terms.into_iter().filter(|term| !term.is_empty()) {
        let (field, equals, value) = operator(term)?;
        let value = unescaped(value)?;
        if equals && field == "metadata.name" && pinned.is_none() {
            pinned = Some(value);
        }
    }
    pinned.filter(|name| !matches!(name.as_str(), "." | "..") && !name.contains(['/', '%']))
}

/// Splits at commas that no backslash escapes.
fn terms(selector: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in selector.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&selector[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&selector[start..]);
    terms
}

/// Field, whether it is compared for equality, and value; split at the first `!=`, `==` or `=`.
fn operator(term: &str) -> Option<(&str, bool, &str)> {
    term.char_indices().find_map(|(at, _)| {
        let (field, rest) = term.split_at(at);
        [("!=", false), ("==", true), ("=", true)]
            .into_iter()
            .find_map(|(sign, equals)| Some((field, equals, rest.strip_prefix(sign)?)))
    })
}

/// The value with `\\`, `\,` and `\=` resolved; none where it is not well formed.
fn unescaped(value: &str) -> Option<String> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next().filter(|c| matches!(c, '\\' | ',' | '='))?),
            ',' | '=' => return None,
            c => plain.push(c),
        }
    }
    Some(plain)
}
