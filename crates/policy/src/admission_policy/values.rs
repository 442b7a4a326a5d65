//! Values of expressions as JSON: what patches carry, by the rules of the API server, and what traces show.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nullius_cel::{Value, object::Object, tagged};
use serde_json::{Map as JsonMap, Number, Value as Json};

/// The largest whole number that every reader of JSON keeps exact.
const EXACT: u64 = 1 << 53;
/// The most characters of text that a trace shows.
const SHOWN: usize = 400;

/// The value of a patch's operation. Whole numbers beyond what JSON readers keep exact become text, as in the API server.
pub(super) fn patch_value(value: &Value<'_>) -> Result<Json, String> {
    const WRONG: &str =
        "JSONPath valueExpression evaluated to a type that could not marshal to JSON";
    if let Value::Object(object) = value {
        object.check_paths().map_err(|told| format!("type mismatch: {told}"))?;
    }
    convert(value, Whole::ExactOrText).map_err(|told| format!("{WRONG}: {told}"))
}

/// The fields of an `Object{…}` as an object.
pub(super) fn object(object: &Object<'_>) -> Result<JsonMap<String, Json>, String> {
    fields(object, Whole::AsIs)
}

/// A value for people who read a trace.
pub(super) fn shown(value: &Value<'_>) -> Json {
    match convert(value, Whole::AsIs) {
        Ok(json) if json.as_str().is_some_and(|text| text.chars().count() > SHOWN) => {
            let text: String = json.as_str().unwrap_or_default().chars().take(SHOWN).collect();
            Json::from(format!("{text}…"))
        }
        Ok(json) => json,
        Err(_) => tagged::write(value),
    }
}

/// What becomes of a large whole number.
#[derive(Clone, Copy, PartialEq)]
enum Whole {
    AsIs,
    ExactOrText,
}

fn fields(object: &Object<'_>, whole: Whole) -> Result<JsonMap<String, Json>, String> {
    let fields = object.fields.iter().map(|(name, value)| {
        let value = convert(value, whole);
        Ok((
            name.to_string(),
            value.map_err(|told| format!("fail to convert field \"{name}\": {told}"))?,
        ))
    });
    fields.collect()
}

fn convert(value: &Value<'_>, whole: Whole) -> Result<Json, String> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Int(number) if whole == Whole::ExactOrText && number.unsigned_abs() >= EXACT => {
            Json::String(number.to_string())
        }
        Value::Int(number) => Json::from(*number),
        Value::Uint(number) if whole == Whole::ExactOrText && *number >= EXACT => {
            Json::String(number.to_string())
        }
        Value::Uint(number) => Json::from(*number),
        Value::Double(number) => double(*number)?,
        Value::String(text) => Json::from(text.as_str()),
        Value::Bytes(octets) => Json::String(STANDARD.encode(&**octets)),
        Value::List(list) => {
            Json::Array(list.iter().map(|item| convert(&item, whole)).collect::<Result<_, _>>()?)
        }
        Value::Map(map) => {
            let mut entries = JsonMap::new();
            for (key, value) in map.entries() {
                let key = match &key {
                    Value::String(text) => text.as_str().to_owned(),
                    Value::Bool(truth) => truth.to_string(),
                    Value::Int(number) => number.to_string(),
                    Value::Uint(number) => number.to_string(),
                    other => return Err(format!("a key of type {} is no text", other.type_name())),
                };
                entries.insert(key, convert(&value, whole)?);
            }
            Json::Object(entries)
        }
        Value::Object(object) => Json::Object(fields(object, whole)?),
        Value::Timestamp(time) => Json::String(time.to_string()),
        Value::Duration(span) => Json::String(span.to_string()),
        Value::Optional(Some(value)) => convert(value, whole)?,
        Value::Optional(None) => Json::Null,
        other => return Err(format!("unsupported type {}", other.type_name())),
    })
}

/// A whole double is written without a fraction, as Go's encoder writes it.
#[expect(clippy::cast_possible_truncation, reason = "only whole numbers that are exact are cast")]
fn double(number: f64) -> Result<Json, String> {
    if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 {
        return Ok(Json::from(number as i64));
    }
    let told = || format!("unsupported value: {number}");
    Number::from_f64(number).map(Json::Number).ok_or_else(told)
}
