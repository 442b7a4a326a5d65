//! What a plain scalar means: by YAML 1.2's core schema, or by the rules of kubectl's YAML.

use serde_json::Number;

use crate::node::Content;

/// A plain scalar of the core schema (YAML 1.2.2, section 10.3.2).
pub(crate) fn core(text: &str) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "true" | "True" | "TRUE" => Content::Bool(true),
        "false" | "False" | "FALSE" => Content::Bool(false),
        _ => core_number(text).map_or_else(|| Content::Text(text.to_owned()), Content::Number),
    }
}

fn core_number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(digits) = text.strip_prefix("0x") {
        let hex = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_hexdigit());
        return if hex { u64::from_str_radix(digits, 16).ok().map(Number::from) } else { None };
    }
    if let Some(digits) = text.strip_prefix("0o") {
        let octal = !digits.is_empty() && digits.bytes().all(|c| (b'0'..=b'7').contains(&c));
        return if octal { u64::from_str_radix(digits, 8).ok().map(Number::from) } else { None };
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|c| c.is_ascii_digit()) {
        let signed = text.strip_prefix('+').unwrap_or(text);
        return signed
            .parse::<u64>()
            .map(Number::from)
            .or_else(|_| signed.parse::<i64>().map(Number::from))
            .ok()
            .or_else(|| signed.parse().ok().and_then(Number::from_f64));
    }
    let float = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.bytes().any(|c| c.is_ascii_digit())
        && unsigned.bytes().all(|c| c.is_ascii_digit() || b".eE+-".contains(&c));
    if float { text.parse().ok().and_then(Number::from_f64) } else { None }
}

/// A number that JSON does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotFinite;

/// A plain scalar as kubectl's YAML takes it: the words of YAML 1.1 are booleans, `0755` is octal, `1_000` a number.
pub(crate) fn kubernetes(text: &str) -> Result<Content, NotFinite> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Content::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Content::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF"
        | "-.inf" | "-.Inf" | "-.INF" => return Err(NotFinite),
        _ => match kubernetes_number(text)? {
            Some(number) => Content::Number(number),
            None => Content::Text(text.to_owned()),
        },
    })
}

fn kubernetes_number(text: &str) -> Result<Option<Number>, NotFinite> {
    let starts = |c: u8| c.is_ascii_digit() || matches!(c, b'+' | b'-' | b'.');
    if !text.bytes().next().is_some_and(starts) {
        return Ok(None);
    }
    let plain = text.replace('_', "");
    if !text.starts_with('.')
        && let Some(number) = integer(text, &plain)
    {
        return Ok(Some(number));
    }
    if !is_float(&plain) {
        return Ok(None);
    }
    let Ok(value) = plain.parse::<f64>() else { return Ok(None) };
    if value.is_infinite() {
        return Ok(None);
    }
    // kubectl writes the number as JSON, which has no fraction of zero.
    let whole = value.fract() == 0.0 && value.abs() < 1e15;
    let number = if whole { Some(Number::from(value as i64)) } else { Number::from_f64(value) };
    number.map(Some).ok_or(NotFinite)
}

/// Go's integers with a base by prefix.
fn integer(text: &str, plain: &str) -> Option<Number> {
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, plain.get(1..)?),
        b'+' => (false, plain.get(1..)?),
        _ => (false, plain),
    };
    let (radix, digits) = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (16, digits.get(2..)?),
        Some("0o") => (8, digits.get(2..)?),
        Some("0b") => (2, digits.get(2..)?),
        Some(start) if start.starts_with('0') => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) || text.starts_with('_') {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    if !negative {
        return Some(Number::from(value));
    }
    0i64.checked_sub_unsigned(value).map(Number::from)
}

/// `[-+]?[0-9]*\.?[0-9]+([eE][-+][0-9]+)?`, and `1.` with nothing behind the point.
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let is_mantissa =
        digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let is_exponent = exponent.is_none_or(|exponent| {
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !unsigned.is_empty() && digits(unsigned)
    });
    is_mantissa && is_exponent
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(text: &str) -> Value {
        match kubernetes(text) {
            Ok(Content::Null) => Value::Null,
            Ok(Content::Bool(value)) => Value::Bool(value),
            Ok(Content::Number(value)) => Value::Number(value),
            Ok(Content::Text(value)) => Value::String(value),
            Ok(Content::List(_) | Content::Map(_)) | Err(NotFinite) => json!(["refused"]),
        }
    }

    #[test]
    fn scalars_mean_what_kubectl_makes_of_them() {
        for (text, value) in [
            ("yes", json!(true)),
            ("off", json!(false)),
            ("n", json!(false)),
            ("yEs", json!("yEs")),
            ("0755", json!(493)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("0b101", json!(5)),
            ("-0x10", json!(-16)),
            ("1_000", json!(1000)),
            ("08", json!(8)),
            ("1.0", json!(1)),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("12e+3", json!(12000)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("18446744073709551615", json!(u64::MAX)),
            ("1.2.3", json!("1.2.3")),
            ("2026-01-01", json!("2026-01-01")),
            ("1:30", json!("1:30")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("+", json!("+")),
            ("-", json!("-")),
            (".", json!(".")),
            ("100m", json!("100m")),
            ("1e", json!("1e")),
            ("é", json!("é")),
            (".inf", json!(["refused"])),
        ] {
            assert_eq!(read(text), value, "{text}");
        }
    }
}
