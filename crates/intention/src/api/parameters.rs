//! Parameters of a request: texts that stand for values. A text that two servers could read as two values must be right as both.

use std::borrow::Cow;

use nullius_fields::shown;

use super::{
    decimal::Decimal,
    document::percent_decoded,
    evaluate::{Unfit, bits_of},
    schema::{Id, Schemas, types},
    value::Value,
    work::{Spent, Work},
};
use crate::request::Request;

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
    Header,
}

impl Place {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
        }
    }
}

/// Whether a request must have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Required,
    Optional,
}

/// How many values a parameter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Many {
    One,
    /// A list, each item in a place of its own.
    Repeated,
    /// A list, divided by commas.
    Commas,
}

#[derive(Debug, Clone)]
pub(super) struct Parameter {
    pub(super) name: Box<str>,
    pub(super) place: Place,
    pub(super) need: Need,
    /// Whether it may stand there without a value.
    pub(super) may_be_empty: bool,
    pub(super) many: Many,
    pub(super) schema: Id,
    /// Where it is written, as a pointer.
    pub(super) pointer: Box<str>,
}

/// What is wrong with a parameter.
type Wrong = Result<(), String>;

impl Parameter {
    /// Asks about all that a request has.
    pub(super) fn check_all(
        all: &[Self],
        schemas: &Schemas,
        of_path: &[(&str, &str)],
        request: &Request<'_>,
        work: &mut Work,
    ) -> Wrong {
        // Each name is looked for among all.
        let length = request.query.map_or(0, str::len) + request.headers.len();
        work.spend(length * (1 + all.len() / 4)).map_err(costly)?;
        let query = query(request.query)?;
        let declared =
            |name: &str| all.iter().any(|it| it.place == Place::Query && *it.name == *name);
        if let Some((name, _)) = query.iter().find(|(name, _)| !declared(name)) {
            return Err(format!("its query has {}, which is not declared", shown(name)));
        }
        all.iter().try_for_each(|parameter| {
            let checked = match parameter.place {
                Place::Path => parameter.check_path(schemas, of_path, work),
                Place::Query => parameter.check_query(schemas, &query, work),
                Place::Header => parameter.check_header(schemas, request, work),
            };
            let place = parameter.place.as_str();
            checked.map_err(|told| {
                format!("the parameter {} of its {place} {told}", shown(&parameter.name))
            })
        })
    }

    fn check_path(&self, schemas: &Schemas, of_path: &[(&str, &str)], work: &mut Work) -> Wrong {
        let value = of_path.iter().find(|(name, _)| **name == *self.name);
        value.map_or(Ok(()), |(_, value)| fits(schemas, self.schema, value, work))
    }

    fn check_query(&self, schemas: &Schemas, query: &[(String, &str)], work: &mut Work) -> Wrong {
        let values = query.iter().filter(|(name, _)| **name == *self.name).map(|(_, raw)| *raw);
        let values: Vec<&str> = values.collect();
        let parts: Vec<&str> = match (self.many, &values[..]) {
            (_, []) => return self.missing(),
            (Many::One, [""]) if self.may_be_empty => return Ok(()),
            (Many::One | Many::Commas, [_, _, ..]) => return Err("stands there twice".to_owned()),
            (Many::One | Many::Repeated, _) => values,
            (Many::Commas, [one]) => one.split(',').collect(),
        };
        let has_plus = parts.iter().any(|part| part.contains('+'));
        for plus in [Plus::Itself, Plus::Space] {
            let texts: Option<Vec<String>> = parts.iter().map(|part| decoded(part, plus)).collect();
            let texts = texts.ok_or("is no text when it is decoded")?;
            self.check_texts(schemas, &texts, work)?;
            if !has_plus {
                break;
            }
        }
        Ok(())
    }

    fn check_header(&self, schemas: &Schemas, request: &Request<'_>, work: &mut Work) -> Wrong {
        // By the rules of CGI both become one name, and what is checked would not be what is read.
        let is_same = |known: &str| {
            let dashed = |name: &str| name.replace('_', "-");
            *known != *self.name
                && known.len() == self.name.len()
                && dashed(known) == dashed(&self.name)
        };
        if let Some((other, _)) = request.headers.iter().find(|(known, _)| is_same(known)) {
            return Err(format!("stands there as {}, which some servers read as it", shown(other)));
        }
        let lines: Option<Vec<&str>> =
            request.values(&self.name).map(|value| std::str::from_utf8(value).ok()).collect();
        let lines = lines.ok_or("is no text")?;
        let texts: Vec<String> = match (self.many, &lines[..]) {
            (_, []) => return self.missing(),
            (Many::One, [_, _, ..]) => return Err("stands there twice".to_owned()),
            (Many::One, [one]) => vec![(*one).to_owned()],
            (Many::Repeated | Many::Commas, lines) => lines
                .iter()
                .flat_map(|line| line.split(','))
                .map(|it| it.trim().to_owned())
                .collect(),
        };
        self.check_texts(schemas, &texts, work)
    }

    fn missing(&self) -> Wrong {
        match self.need {
            Need::Required => Err("is missing".to_owned()),
            Need::Optional => Ok(()),
        }
    }

    fn check_texts(&self, schemas: &Schemas, texts: &[String], work: &mut Work) -> Wrong {
        if self.many == Many::One {
            return texts.iter().try_for_each(|text| fits(schemas, self.schema, text, work));
        }
        work.spend(texts.iter().map(|text| 4 + text.len() / 16).sum()).map_err(costly)?;
        let of_items = schemas.items_of(self.schema);
        let possible = of_items.map_or(types::ANY, |id| schemas.possible(id));
        let mut items = Vec::with_capacity(texts.len());
        for text in texts {
            let literal = literal(text).filter(|it| bits_of(it) & possible != 0);
            let is_literal = match (&literal, of_items) {
                (Some(literal), Some(id)) if may_be_text(possible) && possible != types::ANY => {
                    match both_hold(schemas, id, literal, work) {
                        Err(Unfit::Costly) => return Err(words(Unfit::Costly)),
                        held => held.is_ok(),
                    }
                }
                (literal, _) => literal.is_some(),
            };
            items.push(literal.filter(|_| is_literal).unwrap_or_else(|| text_of(text)));
        }
        both_hold(schemas, self.schema, &Value::List(items), work).map_err(words)?;
        if possible != types::ANY {
            return Ok(());
        }
        let texts = Value::List(texts.iter().map(|text| text_of(text)).collect());
        schemas.check(self.schema, &texts, work).map_err(words)
    }
}

fn costly(_: Spent) -> String {
    "its parameters take too many steps to check".to_owned()
}

fn words(unfit: Unfit) -> String {
    match unfit {
        Unfit::Wrong(told) => format!("is not as its schema says: {told}"),
        Unfit::Costly => "takes too many steps to check".to_owned(),
    }
}

fn may_be_text(possible: u8) -> bool {
    possible & types::STRING != 0
}

fn text_of(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// Whether a text stands for a value that a schema takes. Where the schema names types, for a value of one of them; else nobody knows as
/// what it is read, and it must hold as each.
fn fits(schemas: &Schemas, id: Id, text: &str, work: &mut Work) -> Wrong {
    let possible = schemas.possible(id);
    let literal = literal(text).filter(|it| bits_of(it) & possible != 0);
    let held = literal.map(|literal| both_hold(schemas, id, &literal, work));
    match held {
        Some(Ok(())) if possible != types::ANY => Ok(()),
        Some(Err(Unfit::Wrong(_))) if may_be_text(possible) && possible != types::ANY => {
            schemas.check(id, &text_of(text), work).map_err(words)
        }
        Some(Err(unfit)) => Err(words(unfit)),
        Some(Ok(())) | None => schemas.check(id, &text_of(text), work).map_err(words),
    }
}

/// Whether a value holds as it is, and as programs read it that keep numbers in floats.
fn both_hold(schemas: &Schemas, id: Id, value: &Value, work: &mut Work) -> Result<(), Unfit> {
    schemas.check(id, value, work)?;
    let rounded = value.rounded();
    if rounded == *value { Ok(()) } else { schemas.check(id, &rounded, work) }
}

/// A number or a truth, written in the one way in which all read it.
fn literal(text: &str) -> Option<Value> {
    match text {
        "true" => return Some(Value::Truth(true)),
        "false" => return Some(Value::Truth(false)),
        _ => {}
    }
    let bare = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = match bare.split_once('.') {
        Some((whole, part)) => (whole, Some(part)),
        None => (bare, None),
    };
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let is_number = are_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && part.is_none_or(are_digits)
        && text.len() <= 40;
    if is_number { Decimal::read(text).map(Value::Number) } else { None }
}

/// Names, decoded, and values as they came.
fn query(query: Option<&str>) -> Result<Vec<(String, &str)>, String> {
    let Some(query) = query else { return Ok(Vec::new()) };
    if query.contains(';') {
        return Err(
            "its query has a `;`, at which some servers divide it: encode it as `%3B`".to_owned()
        );
    }
    let pieces = query.split('&').filter(|piece| !piece.is_empty());
    let read = pieces.map(|piece| {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let name = decoded(name, Plus::Itself)
            .ok_or("a name in its query is no text when it is decoded")?;
        Ok((name, value))
    });
    read.collect()
}

/// What `+` in a query stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Itself,
    Space,
}

/// A part of a query, decoded once; none where it is no text, or has a byte that ends texts for some.
fn decoded(text: &str, plus: Plus) -> Option<String> {
    let text = match plus {
        Plus::Itself => Cow::Borrowed(text),
        Plus::Space => Cow::Owned(text.replace('+', " ")),
    };
    percent_decoded(&text).filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_a_number_only_in_the_form_that_all_read_alike() {
        for (text, value) in [
            ("7", json!(7)),
            ("-7", json!(-7)),
            ("0", json!(0)),
            ("1.50", json!(1.5)),
            ("true", json!(true)),
        ] {
            assert_eq!(literal(text), Some(Value::from(&value)), "{text}");
        }
        for text in [
            "", "-", "+7", "07", "0x7", "1e3", "7 ", " 7", "1.", ".5", "NaN", "True", "null", "٧",
            "1_0",
        ] {
            assert_eq!(literal(text), None, "{text}");
        }
    }

    #[test]
    fn a_query_is_decoded_once() {
        assert_eq!(decoded("a%20b%2526", Plus::Itself).as_deref(), Some("a b%26"));
        assert_eq!(decoded("a+b", Plus::Space).as_deref(), Some("a b"));
        for bad in ["%", "%2", "%zz", "%00", "%ff", "%c0%af"] {
            assert_eq!(decoded(bad, Plus::Itself), None, "{bad}");
        }
        assert!(query(Some("a=1;b=2")).is_err() && query(Some("%ff=1")).is_err());
    }
}
