//! `format`: `%s %d %f %e %b %o %x %X %%` of the string extension, in the two ways in which cel-go writes: with the
//! English locale (Kubernetes) and without one (the specification).

use super::convert::{format_double, string_of};
use crate::{
    error::{EvalError, Fallible},
    list::List,
    machine::Machine,
    map::Map,
    types::Type,
    value::Value,
};

/// How numbers and lists are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Locale {
    /// Digits in groups, exponents raised, text in lists quoted.
    English,
    /// Plain.
    None,
}

const DEFAULT_PRECISION: usize = 6;
const MAX_PRECISION: usize = 1000;

/// Writes the arguments into the text.
pub(crate) fn format<'a>(
    machine: &mut Machine<'a>,
    args: &[Value<'a>],
    locale: Locale,
) -> Fallible<Value<'a>> {
    let pattern = super::text(args, 0)?;
    let values = super::list(args, 1)?;
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut next = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if rest.is_empty() {
            return Err(EvalError::failed("unexpected end of string"));
        }
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let Some(value) = values.get(next) else {
            return Err(EvalError::Failed(format!("index {next} out of range")));
        };
        next += 1;
        let (clause, after) = Clause::parse(rest).map_err(|reason| {
            EvalError::Failed(format!("could not parse formatting clause: {reason}"))
        })?;
        rest = after;
        machine.fit(&value)?;
        let written = clause
            .write(&value, locale)
            .map_err(|reason| EvalError::Failed(format!("error during formatting: {reason}")))?;
        machine.reserve(written.len())?;
        if out.len() + written.len() > machine.value_limit() {
            return Err(EvalError::TooLarge { limit: machine.value_limit() });
        }
        out.push_str(&written);
    }
    // Values that nothing asks for are refused where the checker sees them, and nowhere else.
    out.push_str(rest);
    Ok(Value::string(out))
}

/// How one argument is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clause {
    String,
    Decimal,
    Fixed(usize),
    /// With the precision and, in the English way, what stands in its place.
    Scientific(usize),
    Binary,
    Octal,
    Hexadecimal(Case),
}

/// Small or capital letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Lower,
    Upper,
}

impl Clause {
    /// The clause after a percent sign, and what follows it.
    pub(crate) fn parse(text: &str) -> Result<(Clause, &str), String> {
        let mut rest = text;
        let mut precision = DEFAULT_PRECISION;
        if let Some(after) = text.strip_prefix('.') {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            if digits == after.len() {
                return Err(
                    "error while parsing precision: could not find end of precision specifier"
                        .to_owned(),
                );
            }
            precision = after[..digits]
                .parse()
                .ok()
                .filter(|precision| *precision <= MAX_PRECISION)
                .ok_or_else(|| {
                    format!(
                        "error while parsing precision: error while converting precision to integer: strconv.Atoi: parsing \"{}\": invalid syntax",
                        &after[..digits]
                    )
                })?;
            rest = &after[digits..];
        }
        let mut characters = rest.chars();
        let clause = match characters.next() {
            Some('s') => Clause::String,
            Some('d') => Clause::Decimal,
            Some('f') => Clause::Fixed(precision),
            Some('e') => Clause::Scientific(precision),
            Some('b') => Clause::Binary,
            Some('o') => Clause::Octal,
            Some('x') => Clause::Hexadecimal(Case::Lower),
            Some('X') => Clause::Hexadecimal(Case::Upper),
            Some(other) => return Err(format!("unrecognized formatting clause \"{other}\"")),
            None => return Err("unexpected end of string".to_owned()),
        };
        Ok((clause, characters.as_str()))
    }

    /// Whether the clause writes values of a type in the English way: what the API server tells before it runs.
    pub(crate) fn check(self, of: &Type) -> Result<(), String> {
        if of.is_dyn_or_error() {
            return Ok(());
        }
        let (rule, fits) = match self {
            Clause::String => {
                (STRING_RULE, !matches!(of, Type::Opaque(_) | Type::Object(_) | Type::Optional(_)))
            }
            Clause::Decimal => (DECIMAL_RULE, matches!(of, Type::Int | Type::Uint)),
            Clause::Fixed(_) => (FIXED_RULE, matches!(of, Type::Double)),
            Clause::Scientific(_) => (SCIENTIFIC_RULE, matches!(of, Type::Double)),
            Clause::Binary => (BINARY_RULE, matches!(of, Type::Int | Type::Uint | Type::Bool)),
            Clause::Octal => (OCTAL_RULE, matches!(of, Type::Int | Type::Uint)),
            Clause::Hexadecimal(_) => (
                HEXADECIMAL_RULE,
                matches!(of, Type::Int | Type::Uint | Type::String | Type::Bytes),
            ),
        };
        if fits { Ok(()) } else { Err(format!("{rule}, was given {}", of.runtime_name())) }
    }

    fn write(self, value: &Value<'_>, locale: Locale) -> Result<String, String> {
        match self {
            Clause::String => match locale {
                Locale::English => write_english(value),
                Locale::None => write_plain(value),
            },
            Clause::Decimal => match value {
                Value::Int(number) => Ok(number.to_string()),
                Value::Uint(number) => Ok(number.to_string()),
                Value::Double(number) if locale == Locale::None => Ok(plain_double(*number)),
                other => Err(refused(DECIMAL_RULE, other)),
            },
            Clause::Fixed(precision) => write_fixed(value, precision, locale),
            Clause::Scientific(precision) => write_scientific(value, precision, locale),
            Clause::Binary => match value {
                Value::Bool(truth) => Ok(u8::from(*truth).to_string()),
                Value::Int(number) => Ok(signed(*number, format!("{:b}", number.unsigned_abs()))),
                Value::Uint(number) => Ok(format!("{number:b}")),
                other => Err(refused(BINARY_RULE, other)),
            },
            Clause::Octal => match value {
                Value::Int(number) => Ok(signed(*number, format!("{:o}", number.unsigned_abs()))),
                Value::Uint(number) => Ok(format!("{number:o}")),
                other => Err(refused(OCTAL_RULE, other)),
            },
            Clause::Hexadecimal(case) => {
                let written = match value {
                    Value::Int(number) => signed(*number, format!("{:x}", number.unsigned_abs())),
                    Value::Uint(number) => format!("{number:x}"),
                    Value::String(text) => hexadecimal(text.as_bytes()),
                    Value::Bytes(octets) => hexadecimal(octets),
                    other => {
                        return Err(refused(HEXADECIMAL_RULE, other));
                    }
                };
                Ok(if case == Case::Upper { written.to_ascii_uppercase() } else { written })
            }
        }
    }
}

fn refused(rule: &str, value: &Value<'_>) -> String {
    format!("{rule}, was given {}", value.type_name())
}

fn signed(number: i64, digits: String) -> String {
    if number < 0 { format!("-{digits}") } else { digits }
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A double without an exponent.
fn plain_double(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        format!("{number}")
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers are written as doubles")]
fn as_double(value: &Value<'_>, locale: Locale) -> Option<f64> {
    match value {
        Value::Double(number) => Some(*number),
        Value::Int(number) if locale == Locale::None => Some(*number as f64),
        Value::Uint(number) if locale == Locale::None => Some(*number as f64),
        _ => None,
    }
}

fn write_fixed(value: &Value<'_>, precision: usize, locale: Locale) -> Result<String, String> {
    let Some(number) = as_double(value, locale) else {
        return Err(refused(FIXED_RULE, value));
    };
    if locale == Locale::None {
        return Ok(if number.is_finite() {
            format!("{number:.precision$}")
        } else {
            plain_double(number)
        });
    }
    Ok(match number {
        number if number.is_nan() => "NaN".to_owned(),
        number if number.is_infinite() => if number > 0.0 { "∞" } else { "-∞" }.to_owned(),
        // The locale's printer knows no negative zero.
        0.0 => grouped(&format!("{:.precision$}", 0.0)),
        number => grouped(&format!("{number:.precision$}")),
    })
}

/// Digits before the point in groups of three.
fn grouped(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(w, f)| (w, Some(f)));
    let mut out = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

fn write_scientific(value: &Value<'_>, precision: usize, locale: Locale) -> Result<String, String> {
    let Some(number) = as_double(value, locale) else {
        return Err(refused(SCIENTIFIC_RULE, value));
    };
    if locale == Locale::None {
        if !number.is_finite() {
            return Ok(plain_double(number));
        }
        let (digits, sign, exponent) = scientific(number, precision);
        return Ok(format!("{digits}e{sign}{exponent:0>2}"));
    }
    // The locale's printer takes the precision for a width.
    let written = match number {
        number if number.is_nan() => "NaN".to_owned(),
        number if number.is_infinite() => if number > 0.0 { "∞" } else { "-∞" }.to_owned(),
        number => {
            let number = if number == 0.0 { 0.0 } else { number };
            let (digits, sign, exponent) = scientific(number, DEFAULT_PRECISION);
            let sign = if sign == '-' { "⁻" } else { "" };
            let raised: String = format!("{exponent:0>2}").chars().map(raise).collect();
            format!("{digits}×10{sign}{raised}")
        }
    };
    let missing = precision.saturating_sub(written.chars().count());
    Ok(format!("{}{written}", " ".repeat(missing)))
}

fn scientific(number: f64, precision: usize) -> (String, char, String) {
    let written = format!("{number:.precision$e}");
    let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    match exponent.strip_prefix('-') {
        Some(exponent) => (digits.to_owned(), '-', exponent.to_owned()),
        None => (digits.to_owned(), '+', exponent.to_owned()),
    }
}

fn raise(digit: char) -> char {
    match digit {
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4' => '⁴',
        '5' => '⁵',
        '6' => '⁶',
        '7' => '⁷',
        '8' => '⁸',
        '9' => '⁹',
        _ => '⁰',
    }
}

const DECIMAL_RULE: &str = "decimal clause can only be used on integers";
const BINARY_RULE: &str = "only integers and bools can be formatted as binary";
const OCTAL_RULE: &str = "octal clause can only be used on integers";
const FIXED_RULE: &str = "fixed-point clause can only be used on doubles";
const SCIENTIFIC_RULE: &str = "scientific clause can only be used on doubles";
const HEXADECIMAL_RULE: &str = "only integers, byte buffers, and strings can be formatted as hex";
const STRING_RULE: &str = "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps";

fn write_plain(value: &Value<'_>) -> Result<String, String> {
    match value {
        Value::Null => Ok("null".to_owned()),
        Value::Double(number) => Ok(plain_double(*number)),
        Value::Bytes(octets) => Ok(String::from_utf8_lossy(octets).into_owned()),
        Value::List(list) => {
            let items: Result<Vec<_>, _> = list.iter().map(|item| write_plain(&item)).collect();
            Ok(format!("[{}]", items?.join(", ")))
        }
        Value::Map(map) => {
            let mut entries = Vec::with_capacity(map.len());
            for (key, value) in map.entries() {
                entries.push((write_plain(&key)?, write_plain(&value)?));
            }
            Ok(braced(entries, ": "))
        }
        Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::String(_)
        | Value::Timestamp(_)
        | Value::Duration(_)
        | Value::Type(_) => {
            string_of(value).map(|text| text.to_string()).map_err(|error| error.to_string())
        }
        other => Err(refused(STRING_RULE, other)),
    }
}

fn braced(mut entries: Vec<(String, String)>, between: &str) -> String {
    entries.sort();
    let entries: Vec<String> =
        entries.into_iter().map(|(key, value)| format!("{key}{between}{value}")).collect();
    format!("{{{}}}", entries.join(", "))
}

fn write_english(value: &Value<'_>) -> Result<String, String> {
    match value {
        Value::Null => Ok("null".to_owned()),
        Value::Double(number) => Ok(format_double(*number)),
        Value::Bytes(_) => string_of(value)
            .map(|text| text.to_string())
            .map_err(|error| format!("could not convert argument \"{error}\" to string")),
        Value::List(list) => write_list(list),
        Value::Map(map) => write_map(map),
        _ => write_plain(value),
    }
}

fn write_list(list: &List<'_>) -> Result<String, String> {
    let items: Result<Vec<_>, _> = list.iter().map(|item| write_literal(&item)).collect();
    Ok(format!("[{}]", items?.join(", ")))
}

fn write_map(map: &Map<'_>) -> Result<String, String> {
    let mut entries = Vec::with_capacity(map.len());
    for (key, value) in map.entries() {
        let key = match &key {
            Value::String(_) | Value::Bool(_) | Value::Int(_) | Value::Uint(_) => {
                write_literal(&key)?
            }
            other => {
                return Err(format!(
                    "no formatting function for map key of type {}",
                    other.type_name()
                ));
            }
        };
        entries.push((key, write_literal(&value)?));
    }
    Ok(braced(entries, ":"))
}

/// A value inside of a list or map: as a literal of the language.
fn write_literal(value: &Value<'_>) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(format!("\"{}\"", escaped(text))),
        Value::Bytes(_) => Ok(format!("b\"{}\"", escaped(&write_english(value)?))),
        Value::Double(number) if number.is_finite() => Ok(format!("{number:.6}")),
        Value::Double(number) => Ok(format!("\"{}\"", format_double(*number))),
        Value::Timestamp(time) => Ok(format!("timestamp(\"{time}\")")),
        Value::Duration(span) => Ok(format!("duration(\"{span}\")")),
        Value::List(list) => write_list(list),
        Value::Map(map) => write_map(map),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Type(_) => {
            write_english(value)
        }
        other => Err(format!("no formatting function for {}", other.type_name())),
    }
}

/// Go's quoted form without its quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            other if other.is_ascii_control() => {
                out.push_str(&format!("\\x{:02x}", u32::from(other)));
            }
            other => out.push(other),
        }
    }
    out
}
