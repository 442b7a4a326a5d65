//! Values as tagged JSON, `{"t":"int","v":"1"}`: every type stays what it is on the way through a file.

use std::sync::Arc;

use serde_json::{Map as JsonMap, Value as Json, json};

use crate::{
    list::List,
    map::{Entries, Keys, Map},
    object::Object,
    time::{Duration, Timestamp},
    value::Value,
};

/// JSON that is no tagged value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is no tagged value: {reason}")]
pub struct NotTagged {
    /// The JSON, shortened.
    pub shown: String,
    /// What is wrong.
    pub reason: &'static str,
}

/// The value of tagged JSON.
///
/// # Errors
///
/// Says which part is no tagged value.
pub fn read<'a>(json: &Json) -> Result<Value<'a>, NotTagged> {
    let wrong = |reason| NotTagged { shown: json.to_string().chars().take(80).collect(), reason };
    let tag = json.get("t").and_then(Json::as_str).ok_or_else(|| wrong("it has no tag `t`"))?;
    let value = json.get("v");
    let text = || value.and_then(Json::as_str).ok_or_else(|| wrong("`v` is not text"));
    Ok(match tag {
        "null" => Value::Null,
        "bool" => Value::Bool(
            value.and_then(Json::as_bool).ok_or_else(|| wrong("`v` is neither true nor false"))?,
        ),
        "int" => Value::Int(text()?.parse().map_err(|_| wrong("`v` is not an int"))?),
        "uint" => Value::Uint(text()?.parse().map_err(|_| wrong("`v` is not a uint"))?),
        "double" => Value::Double(text()?.parse().map_err(|_| wrong("`v` is not a double"))?),
        "string" => Value::string(text()?),
        "bytes" => {
            let octets: Option<Vec<u8>> = value.and_then(Json::as_array).and_then(|octets| {
                octets.iter().map(|octet| u8::try_from(octet.as_u64()?).ok()).collect()
            });
            Value::bytes(octets.ok_or_else(|| wrong("`v` is not a list of octets"))?)
        }
        "list" => {
            let items = value.and_then(Json::as_array).ok_or_else(|| wrong("`v` is not a list"))?;
            Value::list(items.iter().map(read).collect::<Result<_, _>>()?)
        }
        "map" => {
            let pairs = value
                .and_then(Json::as_array)
                .ok_or_else(|| wrong("`v` is not a list of pairs"))?;
            let mut entries = Entries::default();
            for pair in pairs {
                let (Some(key), Some(value)) = (pair.get(0), pair.get(1)) else {
                    return Err(wrong("an entry is not a pair"));
                };
                entries
                    .put(read(key)?, read(value)?, Keys::Unique)
                    .map_err(|_| wrong("a key stands twice or is no key"))?;
            }
            Value::Map(Map::of(entries))
        }
        "type" => Value::type_named(text()?),
        "duration" => {
            let part = |name| json.get(name).and_then(Json::as_i64).unwrap_or_default();
            Duration::new(part("s"), part("n"))
                .map(Value::Duration)
                .ok_or_else(|| wrong("the duration is out of range"))?
        }
        "timestamp" => {
            let part = |name| json.get(name).and_then(Json::as_i64).unwrap_or_default();
            u32::try_from(part("n"))
                .ok()
                .and_then(|nanoseconds| Timestamp::new(part("s"), nanoseconds))
                .map(Value::Timestamp)
                .ok_or_else(|| wrong("the time is out of range"))?
        }
        // To the language the value of an enum is its number.
        "enum" => Value::Int(
            value
                .and_then(Json::as_i64)
                .ok_or_else(|| wrong("`v` is not the number of an enum"))?,
        ),
        "optional" => match value {
            None | Some(Json::Null) => Value::Optional(None),
            Some(value) => Value::some(read(value)?),
        },
        _ => return Err(wrong("the tag is unknown")),
    })
}

/// Whether JSON has the form of a tagged value, right or wrong: a known tag, and beside it nothing but a value.
#[must_use]
pub fn has_tag(json: &Json) -> bool {
    const TAGS: [&str; 13] = [
        "null",
        "bool",
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "list",
        "map",
        "type",
        "duration",
        "timestamp",
        "optional",
    ];
    const ENUM: &str = "enum";
    const PARTS: [&str; 5] = ["t", "v", "s", "n", "type"];
    let Some(fields) = json.as_object() else { return false };
    let is_known = |tag: &str| TAGS.contains(&tag) || tag == ENUM;
    fields.get("t").and_then(Json::as_str).is_some_and(is_known)
        && fields.keys().all(|field| PARTS.contains(&field.as_str()))
}

/// A value as tagged JSON.
#[must_use]
pub fn write(value: &Value<'_>) -> Json {
    match value {
        Value::Null => json!({"t": "null"}),
        Value::Bool(truth) => json!({"t": "bool", "v": truth}),
        Value::Int(number) => json!({"t": "int", "v": number.to_string()}),
        Value::Uint(number) => json!({"t": "uint", "v": number.to_string()}),
        Value::Double(number) => json!({"t": "double", "v": format!("{number:?}")}),
        Value::String(text) => json!({"t": "string", "v": text.as_str()}),
        Value::Bytes(octets) => json!({"t": "bytes", "v": octets.to_vec()}),
        Value::List(list) => json!({"t": "list", "v": write_list(list)}),
        Value::Map(map) => {
            let entries: Vec<Json> = map
                .entries()
                .iter()
                .map(|(key, value)| json!([write(key), write(value)]))
                .collect();
            json!({"t": "map", "v": entries})
        }
        Value::Timestamp(time) => {
            json!({"t": "timestamp", "s": time.seconds(), "n": time.nanoseconds()})
        }
        Value::Duration(span) => {
            let nanoseconds = span.nanoseconds();
            json!({"t": "duration", "s": nanoseconds / 1_000_000_000, "n": nanoseconds % 1_000_000_000})
        }
        Value::Type(name) => json!({"t": "type", "v": &**name}),
        Value::Optional(None) => json!({"t": "optional"}),
        Value::Optional(Some(value)) => json!({"t": "optional", "v": write(value)}),
        Value::Ip(address) => json!({"t": "ip", "v": address.to_string()}),
        Value::Cidr(cidr) => json!({"t": "cidr", "v": cidr.to_string()}),
        Value::Object(object) => write_object(object),
        other => json!({"t": other.type_name()}),
    }
}

fn write_list(list: &List<'_>) -> Vec<Json> {
    list.iter().map(|item| write(&item)).collect()
}

fn write_object(object: &Arc<Object<'_>>) -> Json {
    let fields: JsonMap<String, Json> =
        object.fields.iter().map(|(name, value)| (name.to_string(), write(value))).collect();
    json!({"t": "object", "n": &*object.type_name, "v": fields})
}
