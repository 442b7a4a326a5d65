//! Bodies of requests: which kinds are declared, and what is to be asked about one.

use nullius_fields::shown;

use super::schema::Id;
use crate::request::{Request, is_token};

/// A kind of content, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Media {
    kind: Box<str>,
    subtype: Box<str>,
}

/// What is known of a kind of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// It is not looked into.
    Any,
    Json(Id),
}

/// What an operation declares.
#[derive(Debug)]
pub(super) struct Bodies {
    pub(super) is_required: bool,
    pub(super) kinds: Vec<(Media, Content)>,
}

/// What is to be asked about the body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Nothing.
    Pass,
    /// That there is none; else this is wrong.
    Empty(String),
    /// That there is one.
    Present,
    /// That it is JSON as a schema says.
    Json { schema: usize, is_required: bool },
}

impl Media {
    /// Reads `application/json`, perhaps with parameters, which it gives back.
    pub(super) fn read(text: &str) -> Option<(Self, Vec<(String, String)>)> {
        let mut parts = text.split(';');
        let (kind, subtype) = parts.next()?.trim().split_once('/')?;
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(is_token);
        if !is_word(kind) || !is_word(subtype) {
            return None;
        }
        let parameters = parts.map(|part| {
            let (name, value) = part.trim().split_once('=')?;
            let bare = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            let value = bare.unwrap_or(value);
            let is_plain = is_word(name) && !value.is_empty() && !value.contains(['"', '\\']);
            is_plain.then(|| (name.to_ascii_lowercase(), value.to_ascii_lowercase()))
        });
        let parameters = parameters.collect::<Option<Vec<_>>>()?;
        let lower = |text: &str| text.to_ascii_lowercase().into();
        Some((Self { kind: lower(kind), subtype: lower(subtype) }, parameters))
    }

    pub(super) fn is_json(&self) -> bool {
        &*self.subtype == "json" || self.subtype.ends_with("+json")
    }

    pub(super) fn is_range(&self) -> bool {
        &*self.subtype == "*"
    }

    /// How exactly it stands for another one; none where it does not.
    fn covers(&self, other: &Self) -> Option<u8> {
        match (&*self.kind, &*self.subtype) {
            ("*", "*") => Some(0),
            (kind, "*") => (*kind == *other.kind).then_some(1),
            _ => (self == other).then_some(2),
        }
    }
}

/// Whether parameters say nothing but that a text is UTF-8.
pub(super) fn are_plain(parameters: &[(String, String)]) -> bool {
    match parameters {
        [] => true,
        [(name, value)] => name == "charset" && value == "utf-8",
        _ => false,
    }
}

impl Bodies {
    /// What is to be asked about the body of a request.
    pub(super) fn duty(&self, request: &Request<'_>) -> Result<Duty, String> {
        let mut lines = request.values("content-type");
        let none = |told: String| match self.is_required {
            true => Err(told),
            false => Ok(Duty::Empty(told)),
        };
        let line = match (lines.next(), lines.next()) {
            (None, _) => return none("it has no `Content-Type`".to_owned()),
            (Some(line), None) => line,
            (Some(_), Some(_)) => return Err("it has two `Content-Type`s".to_owned()),
        };
        let text = std::str::from_utf8(line).ok();
        let Some((media, parameters)) = text.and_then(Media::read) else {
            return Err("its `Content-Type` is none".to_owned());
        };
        let known = self.kinds.iter().filter_map(|(known, content)| {
            known.covers(&media).map(|exactness| (exactness, *content))
        });
        let Some((_, content)) = known.max_by_key(|(exactness, _)| *exactness) else {
            let shown = shown(&format!("{}/{}", media.kind, media.subtype));
            return none(format!("bodies of {shown} are not declared"));
        };
        let Content::Json(schema) = content else {
            return Ok(if self.is_required { Duty::Present } else { Duty::Pass });
        };
        if !are_plain(&parameters) {
            return Err(
                "its `Content-Type` says more than `charset=utf-8`: JSON is UTF-8".to_owned()
            );
        }
        let is_plain = |value: &[u8]| value.eq_ignore_ascii_case(b"identity");
        if !request.values("content-encoding").all(is_plain) {
            return Err(
                "its body is compressed (`Content-Encoding`): nobody would look into it".to_owned()
            );
        }
        Ok(Duty::Json { schema, is_required: self.is_required })
    }
}
