//! Conversions between types, with Go's ways of reading and writing numbers.

use super::Library;
use crate::{
    error::{EvalError, Fallible},
    machine::Machine,
    time::{Duration, Timestamp},
    types::Type,
    value::{Text, Value},
};

const A: Type = Type::Param("A");

/// Functions that convert one value to a type: they are folded when their argument is a literal.
pub(crate) const CONVERSIONS: &[&str] =
    &["bool", "bytes", "double", "dyn", "duration", "int", "string", "timestamp", "type", "uint"];

/// Declares the conversions.
pub(crate) fn declare(library: &mut Library) {
    library.global("type", "type", [A], Type::type_of(A), |_, args| match args.first() {
        Some(value) => Ok(Value::type_named(value.type_name())),
        None => Err(EvalError::no_overload()),
    });
    library.global("dyn", "to_dyn", [A], Type::Dyn, same);
    library.global("bool", "bool_to_bool", [Type::Bool], Type::Bool, same);
    library.global("bool", "string_to_bool", [Type::String], Type::Bool, to_bool);
    library.global("bytes", "bytes_to_bytes", [Type::Bytes], Type::Bytes, same);
    library.global("bytes", "string_to_bytes", [Type::String], Type::Bytes, to_bytes);
    library.global("double", "double_to_double", [Type::Double], Type::Double, same);
    library.global("double", "int64_to_double", [Type::Int], Type::Double, to_double);
    library.global("double", "string_to_double", [Type::String], Type::Double, to_double);
    library.global("double", "uint64_to_double", [Type::Uint], Type::Double, to_double);
    library.global("duration", "duration_to_duration", [Type::Duration], Type::Duration, same);
    library.global("duration", "int64_to_duration", [Type::Int], Type::Duration, to_duration);
    library.global("duration", "string_to_duration", [Type::String], Type::Duration, to_duration);
    library.global("int", "int64_to_int64", [Type::Int], Type::Int, same);
    library.global("int", "double_to_int64", [Type::Double], Type::Int, to_int);
    library.global("int", "duration_to_int64", [Type::Duration], Type::Int, to_int);
    library.global("int", "string_to_int64", [Type::String], Type::Int, to_int);
    library.global("int", "timestamp_to_int64", [Type::Timestamp], Type::Int, to_int);
    library.global("int", "uint64_to_int64", [Type::Uint], Type::Int, to_int);
    library.global("string", "string_to_string", [Type::String], Type::String, same);
    library.global("string", "bool_to_string", [Type::Bool], Type::String, to_string);
    library.global("string", "bytes_to_string", [Type::Bytes], Type::String, to_string);
    library.global("string", "double_to_string", [Type::Double], Type::String, to_string);
    library.global("string", "duration_to_string", [Type::Duration], Type::String, to_string);
    library.global("string", "int64_to_string", [Type::Int], Type::String, to_string);
    library.global("string", "timestamp_to_string", [Type::Timestamp], Type::String, to_string);
    library.global("string", "uint64_to_string", [Type::Uint], Type::String, to_string);
    library.global("timestamp", "timestamp_to_timestamp", [Type::Timestamp], Type::Timestamp, same);
    library.global("timestamp", "int64_to_timestamp", [Type::Int], Type::Timestamp, to_timestamp);
    library.global(
        "timestamp",
        "string_to_timestamp",
        [Type::String],
        Type::Timestamp,
        to_timestamp,
    );
    library.global("uint", "uint64_to_uint64", [Type::Uint], Type::Uint, same);
    library.global("uint", "double_to_uint64", [Type::Double], Type::Uint, to_uint);
    library.global("uint", "int64_to_uint64", [Type::Int], Type::Uint, to_uint);
    library.global("uint", "string_to_uint64", [Type::String], Type::Uint, to_uint);
}

fn same<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    args.first().cloned().ok_or_else(EvalError::no_overload)
}

fn not_a(of: &str) -> EvalError {
    EvalError::Failed(format!("type conversion error from 'string' to '{of}'"))
}

fn integer_overflow() -> EvalError {
    EvalError::failed("integer overflow")
}

fn unsigned_overflow() -> EvalError {
    EvalError::failed("unsigned integer overflow")
}

fn to_bool<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    match args.first() {
        Some(Value::String(text)) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(not_a("bool")),
        },
        _ => Err(EvalError::no_overload()),
    }
}

fn to_bytes<'a>(machine: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    match args.first() {
        Some(Value::String(text)) => {
            machine.reserve(text.len())?;
            Ok(Value::bytes(text.as_bytes()))
        }
        _ => Err(EvalError::no_overload()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "the nearest double is what is asked for")]
fn to_double<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    match args.first() {
        Some(Value::Int(number)) => Ok(Value::Double(*number as f64)),
        Some(Value::Uint(number)) => Ok(Value::Double(*number as f64)),
        Some(Value::String(text)) => {
            parse_double(text).map(Value::Double).ok_or_else(|| not_a("double"))
        }
        _ => Err(EvalError::no_overload()),
    }
}

/// Go's `ParseFloat` without its hexadecimal form: a finite number, infinity or NaN by name, `_` between digits.
fn parse_double(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let is_digit =
        |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let apart = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_').map(|(at, _)| at);
    let apart: Vec<usize> = apart.collect();
    if apart.iter().any(|at| !is_digit(at.checked_sub(1)) || !is_digit(Some(at + 1))) {
        return None;
    }
    let number: f64 = match apart.is_empty() {
        true => text.parse().ok()?,
        false => text.replace('_', "").parse().ok()?,
    };
    let signed = text.starts_with(['+', '-']);
    let named = text.bytes().any(|byte| matches!(byte, b'n' | b'N'));
    (number.is_finite() || (named && !(signed && number.is_nan()))).then_some(number)
}

fn to_duration<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    match args.first() {
        // It is declared, and nobody can do it.
        Some(Value::Int(_)) => {
            Err(EvalError::failed("type conversion error from 'int' to 'google.protobuf.Duration'"))
        }
        Some(Value::String(text)) => Duration::parse(text)
            .map(Value::Duration)
            .ok_or_else(|| not_a("google.protobuf.Duration")),
        _ => Err(EvalError::no_overload()),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked before the cast")]
fn to_int<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    match args.first() {
        // Both ends of the range are left out: a double there stands for whole numbers beyond it.
        Some(Value::Double(number)) if *number > -LIMIT && *number < LIMIT => {
            Ok(Value::Int(*number as i64))
        }
        Some(Value::Double(_)) => Err(integer_overflow()),
        Some(Value::Uint(number)) => {
            i64::try_from(*number).map(Value::Int).map_err(|_| integer_overflow())
        }
        Some(Value::Timestamp(time)) => Ok(Value::Int(time.seconds())),
        Some(Value::Duration(span)) => Ok(Value::Int(span.nanoseconds())),
        Some(Value::String(text)) => text.parse().map(Value::Int).map_err(|_| not_a("int")),
        _ => Err(EvalError::no_overload()),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked before the cast"
)]
fn to_uint<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    match args.first() {
        Some(Value::Double(number)) if *number >= 0.0 && *number < 18_446_744_073_709_551_616.0 => {
            Ok(Value::Uint(*number as u64))
        }
        Some(Value::Double(_)) => Err(unsigned_overflow()),
        Some(Value::Int(number)) => {
            u64::try_from(*number).map(Value::Uint).map_err(|_| unsigned_overflow())
        }
        Some(Value::String(text)) if text.starts_with('+') => Err(not_a("uint")),
        Some(Value::String(text)) => text.parse().map(Value::Uint).map_err(|_| not_a("uint")),
        _ => Err(EvalError::no_overload()),
    }
}

fn to_timestamp<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    match args.first() {
        Some(Value::Int(seconds)) => Timestamp::new(*seconds, 0)
            .map(Value::Timestamp)
            .ok_or_else(|| EvalError::failed("timestamp overflow")),
        Some(Value::String(text)) => match Timestamp::parse(text) {
            Ok(Some(time)) => Ok(Value::Timestamp(time)),
            Ok(None) => Err(EvalError::failed("timestamp overflow")),
            Err(_) => Err(not_a("google.protobuf.Timestamp")),
        },
        _ => Err(EvalError::no_overload()),
    }
}

fn to_string<'a>(machine: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    let value = args.first().ok_or_else(EvalError::no_overload)?;
    if let Value::Bytes(octets) = value {
        machine.reserve(octets.len())?;
    }
    string_of(value).map(Value::String)
}

/// A value as text: what `string(x)` yields and `%s` writes.
pub(crate) fn string_of<'a>(value: &Value<'a>) -> Fallible<Text<'a>> {
    let owned = match value {
        Value::String(text) => return Ok(text.clone()),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => format_double(*number),
        Value::Timestamp(time) => time.to_string(),
        Value::Duration(span) => span.to_string(),
        Value::Type(name) => return Ok(Text::Owned(name.clone())),
        Value::Bytes(octets) => std::str::from_utf8(octets)
            .map_err(|_| EvalError::failed("invalid UTF-8 in bytes, cannot convert to string"))?
            .to_owned(),
        Value::Ip(address) => super::ip::shown(*address),
        Value::Cidr(cidr) => cidr.to_string(),
        _ => return Err(EvalError::no_overload()),
    };
    Ok(Text::Owned(owned.into()))
}

/// Go's `%g` of a double: digits as needed, an exponent below 1e-4 and from 1e6.
pub(crate) fn format_double(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let magnitude = number.abs();
    if number == 0.0 || (1e-4..1e6).contains(&magnitude) {
        return format!("{number}");
    }
    let shown = format!("{number:e}");
    let Some((digits, exponent)) = shown.split_once('e') else { return shown };
    let (sign, exponent) =
        exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_go_writes_them() {
        for (number, shown) in [
            (1.0, "1"),
            (-0.0, "-0"),
            (123.456, "123.456"),
            (999_999.5, "999999.5"),
            (1e6, "1e+06"),
            (-1_234_567.5, "-1.2345675e+06"),
            (1e20, "1e+20"),
            (1e21, "1e+21"),
            (1e100, "1e+100"),
            (123_456.0, "123456"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-10, "1.5e-10"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(format_double(number), shown);
        }
    }
}
