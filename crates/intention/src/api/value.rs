//! JSON as it came: read in exactly one way, bounded, and compared as JSON Schema compares.

use std::{cell::Cell, cmp::Ordering, fmt};

use nullius_fields::shown;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value as Json};

/// How deep a body may be.
const DEPTH_MAX: usize = 64;
/// Values in a body.
const VALUES_MAX: usize = 50_000;

/// Reads a body; a name that stands twice, for which programs take the first or the last, is refused.
pub(super) fn read(body: &[u8]) -> Result<Json, String> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let values = Cell::new(0);
    let read = Strict { depth: 0, values: &values }.deserialize(&mut reader);
    let read = read.and_then(|value| reader.end().map(|()| value));
    read.map_err(|error| format!("it is no JSON that all programs read alike: {error}"))
}

#[derive(Clone, Copy)]
struct Strict<'c> {
    depth: usize,
    values: &'c Cell<usize>,
}

impl Strict<'_> {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format!("it is deeper than {DEPTH_MAX} levels")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Json;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Json, D::Error> {
        let count = self.values.get() + 1;
        self.values.set(count);
        if count > VALUES_MAX {
            return Err(D::Error::custom(format!("it has more than {VALUES_MAX} values")));
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Json, E> {
        Ok(Json::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(number.into())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Json, E> {
        let number = Number::from_f64(number).ok_or_else(|| E::custom("a number is too large"))?;
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let inner = self.below()?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            all.push(item);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let inner = self.below()?;
        let mut all = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(inner)?;
            if all.contains_key(&name) {
                let told = format!("the name {} stands twice", shown(&name));
                return Err(A::Error::custom(told));
            }
            all.insert(name, value);
        }
        Ok(all.into())
    }
}

/// Whether a number is whole.
pub(super) fn is_whole(number: &Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|it| it.fract() == 0.0)
}

fn whole(number: &Number) -> Option<i128> {
    let signed = number.as_i64().map(i128::from);
    signed.or_else(|| number.as_u64().map(i128::from))
}

/// Which of two numbers is larger; exactly, where both are whole and written so.
pub(super) fn compare(left: &Number, right: &Number) -> Ordering {
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => {
            let of = |number: &Number| number.as_f64().unwrap_or(f64::NAN);
            of(left).total_cmp(&of(right))
        }
    }
}

/// A number by its decimal digits: what somebody wrote, and not what is nearest to it in binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    digits: u128,
    /// The power of ten by which they are multiplied.
    power: i32,
}

impl Decimal {
    pub(super) fn of(number: &Number) -> Option<Self> {
        let text = number.to_string();
        let text = text.trim_start_matches('-').to_ascii_lowercase();
        let (mantissa, power) = match text.split_once('e') {
            Some((mantissa, power)) => (mantissa, power.parse::<i32>().ok()?),
            None => (text.as_str(), 0),
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let part = part.trim_end_matches('0');
        let digits = format!("{whole}{part}").parse::<u128>().ok()?;
        Some(Self { digits, power: power - i32::try_from(part.len()).ok()? })
    }

    pub(super) fn is_zero(self) -> bool {
        self.digits == 0
    }

    /// Whether it is a multiple of another one, whatever their signs.
    pub(super) fn is_multiple_of(self, other: Self) -> bool {
        if self.digits == 0 {
            return true;
        }
        let shift = self.power - other.power;
        if shift >= 0 {
            return multiply_by_tens(
                self.digits % other.digits,
                shift.unsigned_abs(),
                other.digits,
            ) == Some(0);
        }
        let tens = 10_u128.checked_pow(shift.unsigned_abs());
        let step = tens.and_then(|tens| other.digits.checked_mul(tens));
        step.is_some_and(|step| self.digits.is_multiple_of(step))
    }
}

/// `rest · 10^times`, of which the multiples of `modulus` are taken away; none where that is larger than can be counted.
fn multiply_by_tens(mut rest: u128, times: u32, modulus: u128) -> Option<u128> {
    for _ in 0..times {
        if rest == 0 {
            return Some(0);
        }
        rest = rest.checked_mul(10)? % modulus;
    }
    Some(rest)
}

/// A text that is the same for values that JSON Schema calls equal, and for no others.
pub(super) fn canonical(value: &Json) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Json, text: &mut String) {
    match value {
        Json::Null => text.push_str("null"),
        Json::Bool(truth) => text.push_str(if *truth { "true" } else { "false" }),
        Json::Number(number) => {
            let exact = whole(number).map(|it| it.to_string());
            let float = || {
                let number = number.as_f64().unwrap_or_default();
                let is_exact = number.fract() == 0.0 && number.abs() < 1e18;
                if is_exact {
                    format!("{number:.0}").replace("-0", "0")
                } else {
                    format!("{number:e}")
                }
            };
            text.push_str(&exact.unwrap_or_else(float));
        }
        Json::String(inner) => text.push_str(&format!("{inner:?}")),
        Json::Array(items) => {
            text.push('[');
            for item in items {
                write(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Json::Object(map) => {
            let mut names: Vec<&String> = map.keys().collect();
            names.sort();
            text.push('{');
            for name in names {
                text.push_str(&format!("{name:?}:"));
                write(&map[name], text);
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
        assert_eq!(read(b" {\"a\": [1, -2.5, true, null, \"\\u00e9\"]} ").unwrap()["a"][4], "é");
        for (body, why) in [
            (&b"{\"a\":1,\"\\u0061\":2}"[..], "the name `a` stands twice"),
            (b"{\"a\":1}x", "trailing characters"),
            (b"{'a':1}", "key must be a string"),
            (b"{\"a\":1,}", "trailing comma"),
            (b"[01]", "invalid number"),
            (b"[1e999]", "out of range"),
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
    fn multiples_are_those_of_the_digits() {
        let of = |value: Json| Decimal::of(value.as_number().unwrap()).unwrap();
        for (value, step, is) in [
            (json!(0.0075), json!(0.0001), true),
            (json!(0.00751), json!(0.0001), false),
            (json!(4.5), json!(1.5), true),
            (json!(35), json!(1.5), false),
            (json!(-7), json!(7), true),
            (json!(1e308), json!(0.123_456_789), false),
            (json!(12_391_239_123_i64), json!(1e-8), true),
            (json!(0), json!(3), true),
            (json!(1e300), json!(1e-300), true),
            (json!(1e-300), json!(1e300), false),
        ] {
            assert_eq!(of(value.clone()).is_multiple_of(of(step.clone())), is, "{value} {step}");
        }
    }

    #[test]
    fn equal_values_have_one_text_and_others_another() {
        let same = |left: Json, right: Json| canonical(&left) == canonical(&right);
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
