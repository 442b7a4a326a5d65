//! JSON as it came: read in exactly one way, bounded, and compared as JSON Schema compares.

use std::{cell::Cell, collections::BTreeMap, fmt};

use nullius_fields::shown;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use super::decimal::Decimal;

/// How deep a body may be.
const DEPTH_MAX: usize = 64;
/// Values in a body.
const VALUES_MAX: usize = 50_000;

/// A value; numbers have all of their digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Truth(bool),
    Number(Decimal),
    Text(String),
    List(Vec<Value>),
    Mapping(BTreeMap<String, Value>),
}

/// A body that was read.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) value: Value,
    /// As programs read it that keep numbers in floats, where that is something else.
    pub(super) rounded: Option<Value>,
}

/// Reads a body; a name that stands twice, for which programs take the first or the last, is refused.
pub(super) fn read(body: &[u8]) -> Result<Body, String> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let (values, at, are_rounded) = (Cell::new(0), Cell::new(0), Cell::new(false));
    let seed = Strict { depth: 0, values: &values, body, at: &at, are_rounded: &are_rounded };
    let read = seed.deserialize(&mut reader);
    let read = read.and_then(|value| reader.end().map(|()| value));
    let value =
        read.map_err(|error| format!("it is no JSON that all programs read alike: {error}"))?;
    let rounded = are_rounded.get().then(|| value.rounded());
    Ok(Body { value, rounded })
}

#[derive(Clone, Copy)]
struct Strict<'c> {
    depth: usize,
    values: &'c Cell<usize>,
    /// The body, and up to where its numbers were read.
    body: &'c [u8],
    at: &'c Cell<usize>,
    /// Whether a float is another number than was written.
    are_rounded: &'c Cell<bool>,
}

impl<'c> Strict<'c> {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format!("it is deeper than {DEPTH_MAX} levels")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    /// The next number as it is written. What stands before it has been read as JSON already.
    fn written(self) -> Option<&'c str> {
        let mut at = self.at.get();
        loop {
            match self.body.get(at)? {
                b'"' => at = end_of_text(self.body, at + 1),
                b'-' | b'0'..=b'9' => break,
                _ => at += 1,
            }
        }
        let rest = self.body.get(at..)?;
        let is_other = |c: &u8| !matches!(c, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
        let length = rest.iter().position(is_other).unwrap_or(rest.len());
        self.at.set(at + length);
        std::str::from_utf8(rest.get(..length)?).ok()
    }

    fn number<E: serde::de::Error>(self) -> Result<Value, E> {
        let number = self.written().and_then(Decimal::read);
        let number = number.ok_or_else(|| E::custom("a number has more than 38 digits"))?;
        if !number.has_float() {
            return Err(E::custom("a number is too small: some take it for 0"));
        }
        if number.rounded() != number {
            self.are_rounded.set(true);
        }
        Ok(Value::Number(number))
    }
}

/// The place behind a text of which this is the first byte.
fn end_of_text(body: &[u8], begin: usize) -> usize {
    let mut at = begin;
    loop {
        match body.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') | None => return at + 1,
            Some(_) => at += 1,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        let count = self.values.get() + 1;
        self.values.set(count);
        if count > VALUES_MAX {
            return Err(D::Error::custom(format!("it has more than {VALUES_MAX} values")));
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Truth(truth))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Value, E> {
        self.number()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Value, E> {
        self.number()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Value, E> {
        self.number()
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.below()?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            all.push(item);
        }
        Ok(Value::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.below()?;
        let mut all = BTreeMap::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(inner)?;
            if all.contains_key(&name) {
                let told = format!("the name {} stands twice", shown(&name));
                return Err(A::Error::custom(told));
            }
            all.insert(name, value);
        }
        Ok(Value::Mapping(all))
    }
}

impl From<&Json> for Value {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(truth) => Self::Truth(*truth),
            // A float has no more digits than are held.
            Json::Number(number) => Self::Number(Decimal::of(number).unwrap_or(Decimal::ZERO)),
            Json::String(text) => Self::Text(text.clone()),
            Json::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Json::Object(map) => {
                let each = map.iter().map(|(name, value)| (name.clone(), Self::from(value)));
                Self::Mapping(each.collect())
            }
        }
    }
}

impl Value {
    /// As programs read it that keep numbers in floats.
    pub(super) fn rounded(&self) -> Self {
        match self {
            Self::Number(number) => Self::Number(number.rounded()),
            Self::List(items) => Self::List(items.iter().map(Self::rounded).collect()),
            Self::Mapping(map) => {
                let each = map.iter().map(|(name, value)| (name.clone(), value.rounded()));
                Self::Mapping(each.collect())
            }
            Self::Null | Self::Truth(_) | Self::Text(_) => self.clone(),
        }
    }
}

/// A text that is the same for values that JSON Schema calls equal, and for no others.
pub(super) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Truth(truth) => text.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) => number.write(text),
        Value::Text(inner) => text.push_str(&format!("{inner:?}")),
        Value::List(items) => {
            text.push('[');
            for item in items {
                write(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Mapping(map) => {
            text.push('{');
            for (name, value) in map {
                text.push_str(&format!("{name:?}:"));
                write(value, text);
                text.push(',');
            }
            text.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_is_read_in_one_way_or_not() {
        let body = read(b" {\"a\": [1, -2.5, true, null, \"\\u00e9\"]} ").unwrap();
        assert_eq!(body.value, Value::from(&json!({ "a": [1, -2.5, true, null, "é"] })));
        assert_eq!(body.rounded, None);
        for (body, why) in [
            (&b"{\"a\":1,\"\\u0061\":2}"[..], "the name `a` stands twice"),
            (b"{\"a\":1}x", "trailing characters"),
            (b"{'a':1}", "key must be a string"),
            (b"{\"a\":1,}", "trailing comma"),
            (b"[01]", "invalid number"),
            (b"[1e999]", "out of range"),
            (b"[1e-999]", "too small"),
            (b"[1.00000000000000000000000000000000000000001]", "more than 38 digits"),
            (b"[\"\\ud800\"]", "unexpected end of hex escape"),
            (b"[\"\xff\"]", "invalid unicode"),
            (b"\xef\xbb\xbf{}", "expected value"),
            (b"{\"a\":", "EOF"),
            (b"NaN", "expected value"),
            (b"", "EOF"),
        ] {
            let told = read(body).unwrap_err();
            assert!(told.contains(why), "{}: {told}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn what_is_too_deep_or_too_much_is_refused_before_it_is_held() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(deep(64).as_bytes()).is_ok());
        assert!(read(deep(65).as_bytes()).unwrap_err().contains("deeper than 64 levels"));
        assert!(read("[".repeat(1_000_000).as_bytes()).is_err());
        let many = format!("[{}0]", "0,".repeat(50_000));
        assert!(read(many.as_bytes()).unwrap_err().contains("more than 50000 values"));
    }

    #[test]
    fn numbers_have_the_digits_that_were_written_wherever_they_stand() {
        let body = br#"{"7\"-1": [0.10, "-5\\", {"e": -1E+2}], "x": 99.99999999999999999}"#;
        let read = read(body).unwrap();
        let told = [canonical(&read.value), canonical(&read.rounded.unwrap())];
        let rest = r#"{"7\"-1":[1e-1,"-5\\",{"e":-1e2,},],"x":"#;
        assert_eq!(told, ["9999999999999999999e-17", "1e2"].map(|x| format!("{rest}{x},}}")));
    }

    #[test]
    fn equal_values_have_one_text_and_others_another() {
        let same =
            |left: Json, right: Json| canonical(&(&left).into()) == canonical(&(&right).into());
        assert!(
            same(json!(1), json!(1.0)) && same(json!({"a": 1, "b": 2}), json!({"b": 2.0, "a": 1}))
        );
        assert!(same(json!(0), json!(-0.0)) && same(json!(-10), json!(-10.0)));
        assert!(!same(json!(1), json!(true)) && !same(json!("1"), json!(1)));
        assert!(!same(json!(["a", "b"]), json!(["a,b"])) && !same(json!([[], 1]), json!([[1]])));
        assert!(!same(json!({"a": 0}), json!({"a": false})) && !same(json!(1.5), json!(1)));
        assert!(!same(json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992_i64)));
    }
}
