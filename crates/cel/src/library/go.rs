//! What shows through of the API server's own language: how it calls types, how it writes values, and what becomes of an
//! optional value that passes through a variable or a choice, where cel-go takes it out and puts it in again.

use std::sync::Arc;

use super::{convert, ip};
use crate::{
    error::{EvalError, Fallible},
    list::List,
    machine::VALUE_LIMIT,
    map::{Entries, Map},
    program::Counted,
    time::Duration,
    value::{Text, Value},
};

/// What Go calls the type of a value of the language.
pub(crate) fn type_of(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "types.Null",
        Value::Bool(_) => "types.Bool",
        Value::Int(_) => "types.Int",
        Value::Uint(_) => "types.Uint",
        Value::Double(_) => "types.Double",
        Value::String(_) => "types.String",
        Value::Bytes(_) => "types.Bytes",
        Value::Timestamp(_) => "types.Timestamp",
        Value::Duration(_) => "types.Duration",
        Value::Optional(_) => "*types.Optional",
        Value::Type(_) => "*types.Type",
        Value::Url(_) => "cel.URL",
        Value::Quantity(quantity) if quantity.is_computed() => "*cel.Quantity",
        Value::Quantity(_) => "cel.Quantity",
        Value::Semver(_) => "cel.Semver",
        Value::Ip(_) => "cel.IP",
        Value::Cidr(_) => "cel.CIDR",
        Value::Format(_) => "cel.Format",
        _ => "ref.Val",
    }
}

/// What Go calls the type of what stands behind a value.
pub(crate) fn native_type_of(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "structpb.NullValue",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Uint(_) => "uint64",
        Value::Double(_) => "float64",
        Value::String(_) | Value::Type(_) => "string",
        Value::Bytes(_) => "[]uint8",
        Value::List(List::Json(_)) => "[]interface {}",
        Value::List(_) => "[]ref.Val",
        Value::Map(Map::Json(_)) => "map[string]interface {}",
        Value::Map(_) => "map[ref.Val]ref.Val",
        Value::Timestamp(_) => "time.Time",
        Value::Duration(_) => "time.Duration",
        Value::Optional(Some(value)) => native_type_of(value),
        Value::Optional(None) => "<nil>",
        Value::Quantity(_) => "*resource.Quantity",
        Value::Semver(_) => "semver.Version",
        Value::Url(_) => "*url.URL",
        Value::Ip(_) => "netip.Addr",
        Value::Cidr(_) => "netip.Prefix",
        Value::Object(object) if object.is_patch() => "*mutation.JSONPatchVal",
        Value::Object(_) => "map[string]interface {}",
        other => type_of(other),
    }
}

/// What an evaluation ends with when an argument, or the error in its place, is not what its cost is counted by.
pub(crate) fn not_counted(counted: Counted, args: &[Value<'_>]) -> EvalError {
    let at = usize::from(counted == Counted::Depth);
    let of = args.get(at).map_or("*types.Err", type_of);
    EvalError::Broken(match (counted, args.get(at)) {
        (Counted::Depth, _) => format!("interface conversion: ref.Val is {of}, not types.Int"),
        (_, value) => {
            // The first that it lacks of what lists have.
            let method = match value {
                Some(
                    Value::Int(_)
                    | Value::Uint(_)
                    | Value::Double(_)
                    | Value::String(_)
                    | Value::Bytes(_)
                    | Value::Timestamp(_)
                    | Value::Duration(_),
                ) => "Contains",
                _ => "Add",
            };
            format!("interface conversion: {of} is not traits.Lister: missing method {method}")
        }
    })
}

/// The text that stands behind a value, if it is text: that of a type is its name.
pub(crate) fn text<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    match value {
        Value::String(text) => Some(Value::String(text.clone())),
        Value::Type(name) => Some(Value::String(Text::Owned(name.clone()))),
        Value::Optional(Some(value)) => text(value),
        _ => None,
    }
}

/// A value as `%v` writes it into a message; one that is too large for any message is only named.
pub(crate) fn shown(value: &Value<'_>) -> String {
    if value.is_made() && !value.is_within(VALUE_LIMIT) {
        return value.type_name().to_owned();
    }
    written(value)
}

fn written(value: &Value<'_>) -> String {
    match value {
        Value::Null => "0".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => convert::format_double(*number),
        Value::String(text) => text.to_string(),
        Value::Bytes(octets) => {
            let octets: Vec<String> = octets.iter().map(u8::to_string).collect();
            format!("[{}]", octets.join(" "))
        }
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| written(&item)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let entries: Vec<String> = map
                .entries()
                .iter()
                .map(|(key, value)| format!("{}: {}", written(key), written(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Duration(span) => shown_duration(*span),
        Value::Timestamp(time) => {
            let text = time.to_string().replacen('T', " ", 1);
            match text.strip_suffix('Z') {
                Some(clock) => format!("{clock} +0000 UTC"),
                None => {
                    let (clock, zone) = text.split_at(text.len().saturating_sub(6));
                    let zone = zone.replace(':', "");
                    format!("{clock} {zone} {zone}")
                }
            }
        }
        Value::Type(name) => name.to_string(),
        Value::Optional(Some(value)) => format!("optional({})", written(value)),
        Value::Optional(None) => "optional.none()".to_owned(),
        Value::Ip(address) => ip::shown(*address),
        Value::Cidr(cidr) => cidr.to_string(),
        other => other.type_name().to_owned(),
    }
}

/// Go's form of a span: `1h0m1.5s`, below a second in the unit that fits.
fn shown_duration(span: Duration) -> String {
    let nanoseconds = span.nanoseconds();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let rest = nanoseconds.unsigned_abs();
    let decimal = |whole: u64, part: u64, digits: usize| {
        let fraction = format!("{part:0digits$}");
        match fraction.trim_end_matches('0') {
            "" => whole.to_string(),
            fraction => format!("{whole}.{fraction}"),
        }
    };
    let text = match rest {
        0 => "0s".to_owned(),
        1..1_000 => format!("{rest}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", decimal(rest / 1_000, rest % 1_000, 3)),
        1_000_000..1_000_000_000 => {
            format!("{}ms", decimal(rest / 1_000_000, rest % 1_000_000, 6))
        }
        _ => {
            let seconds = rest / 1_000_000_000;
            let last = decimal(seconds % 60, rest % 1_000_000_000, 9);
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => format!("{last}s"),
                (0, minutes) => format!("{minutes}m{last}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{last}s"),
            }
        }
    };
    format!("{sign}{text}")
}

/// A value as a variable or a choice yields it: what is in an optional value is taken out as Go has it and made a value
/// again. An optional in an optional is one then, an object is a map, and what Go's values of an extension are is known to
/// nobody.
pub(crate) fn read(value: Value<'_>) -> Fallible<Value<'_>> {
    match value {
        Value::Optional(Some(inner)) => match inner.as_ref() {
            // What stays as it is keeps its place.
            Value::Optional(_)
            | Value::Type(_)
            | Value::Object(_)
            | Value::Quantity(_)
            | Value::Semver(_)
            | Value::Url(_)
            | Value::Ip(_)
            | Value::Cidr(_) => {
                if !inner.is_within(VALUE_LIMIT) {
                    return Err(EvalError::TooLarge { limit: VALUE_LIMIT });
                }
                native(&inner).map(Value::some)
            }
            _ => Ok(Value::Optional(Some(inner))),
        },
        other => Ok(other),
    }
}

fn native<'a>(value: &Value<'a>) -> Fallible<Value<'a>> {
    match value {
        Value::Optional(Some(value)) => native(value),
        Value::Optional(None) => Ok(Value::Null),
        Value::Type(name) => Ok(Value::String(Text::Owned(name.clone()))),
        Value::Object(object) if !object.is_patch() => {
            let mut entries = Entries::default();
            for (name, field) in &object.fields {
                entries.insert(Value::String(Text::Owned(Arc::clone(name))), native(field)?);
            }
            Ok(Value::Map(Map::of(entries)))
        }
        Value::Quantity(_) | Value::Semver(_) | Value::Url(_) | Value::Ip(_) | Value::Cidr(_) => {
            let (of, shown) = (native_type_of(value), shown(value));
            Err(EvalError::Failed(format!("unsupported conversion to ref.Val: ({of}){shown}")))
        }
        other => Ok(other.clone()),
    }
}
