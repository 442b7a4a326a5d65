//! Values of expressions as JSON: what patches carry, by the rules of the API server, and what traces show.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nullius_cel::{Value, object::Object, tagged};
use serde_json::{Map as JsonMap, Number, Value as Json};

/// The largest whole number that every reader of JSON keeps exact.
const EXACT: u64 = 1 << 53;
/// The most characters of text that a trace shows.
const SHOWN: usize = 400;
/// The most values within a value that a trace shows.
const SHOWN_VALUES: usize = 200;
/// How deep a trace shows values in one another.
const SHOWN_DEPTH: usize = 12;

/// Why a value cannot stand in a patch.
pub(super) enum Unfit {
    /// The API server says so.
    Refused(String),
    /// The API server ends the request without an answer.
    Fatal(&'static str),
}

/// The value of a patch's operation. Whole numbers beyond what JSON readers keep exact become text, within an `Object{…}` the
/// nearest double, as in the API server.
pub(super) fn patch_value(value: &Value<'_>) -> Result<Json, Unfit> {
    const WRONG: &str =
        "JSONPath valueExpression evaluated to a type that could not marshal to JSON";
    const FATAL: &str = "the value of a JSON patch is a list or a map with `Object{…}` in it, on which API servers fail; write the \
                         items as maps, or put them into an `Object{…}`";
    let form = match value {
        Value::Object(object) => {
            let mismatch = |told| Unfit::Refused(format!("type mismatch: {told}"));
            object.check_paths().map_err(mismatch)?;
            Form::WithinObject
        }
        value if holds_object(value) => return Err(Unfit::Fatal(FATAL)),
        _ => Form::Patch,
    };
    convert(value, form).map_err(|told| Unfit::Refused(format!("{WRONG}: {told}")))
}

/// Whether an object stands in a list or a map, however deep.
fn holds_object(value: &Value<'_>) -> bool {
    let is_one = |item: &Value<'_>| matches!(item, Value::Object(_)) || holds_object(item);
    match value {
        Value::List(list) => list.iter().any(|item| is_one(&item)),
        Value::Map(map) => map.entries().iter().any(|(_, item)| is_one(item)),
        _ => false,
    }
}

/// The fields of an `Object{…}` as an object.
pub(super) fn object(object: &Object<'_>) -> Result<JsonMap<String, Json>, String> {
    fields(object, Form::AsIs)
}

/// A value for people who read a trace: as much of it as they can look at.
pub(super) fn shown(value: &Value<'_>) -> Json {
    let mut left = SHOWN_VALUES;
    shown_within(value, SHOWN_DEPTH, &mut left)
}

fn shown_within(value: &Value<'_>, depth: usize, left: &mut usize) -> Json {
    *left = left.saturating_sub(1);
    let more = |count: usize| Json::from(format!("… {count} more"));
    match value {
        Value::List(list) => {
            let (mut items, mut rest) = (Vec::new(), list.len());
            while rest > 0 && *left > 0 && depth > 0 {
                let Some(item) = list.get(list.len() - rest) else { break };
                items.push(shown_within(&item, depth - 1, left));
                rest -= 1;
            }
            items.extend((rest > 0).then(|| more(rest)));
            Json::Array(items)
        }
        Value::Map(map) => {
            let entries = map.entries().into_iter().map(|(key, value)| {
                let key = convert(&key, Form::AsIs).unwrap_or_else(|_| tagged::write(&key));
                let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                (cut(key), value)
            });
            shown_fields(entries, depth, left, more)
        }
        Value::Object(object) => {
            let fields = object.fields.iter();
            let fields = fields.map(|(name, value)| (name.to_string(), value.clone()));
            shown_fields(fields, depth, left, more)
        }
        Value::Optional(Some(value)) => shown_within(value, depth, left),
        single => match convert(single, Form::AsIs) {
            Ok(Json::String(text)) => Json::String(cut(text)),
            Ok(json) => json,
            Err(_) => tagged::write(single),
        },
    }
}

fn shown_fields<'v>(
    fields: impl Iterator<Item = (String, Value<'v>)>,
    depth: usize,
    left: &mut usize,
    more: impl Fn(usize) -> Json,
) -> Json {
    let (mut shown, mut fields) = (JsonMap::new(), fields);
    while *left > 0 && depth > 0 {
        let Some((name, value)) = fields.next() else { break };
        shown.insert(name, shown_within(&value, depth - 1, left));
    }
    let rest = fields.count();
    shown.extend((rest > 0).then(|| ("…".to_owned(), more(rest))));
    Json::Object(shown)
}

/// A text that is not too long.
fn cut(text: String) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What becomes of a whole number that JSON readers do not keep exact.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// It stays.
    AsIs,
    /// It becomes text.
    Patch,
    /// It becomes the nearest double.
    WithinObject,
}

fn fields(object: &Object<'_>, form: Form) -> Result<JsonMap<String, Json>, String> {
    let fields = object.fields.iter().map(|(name, value)| {
        let value = convert(value, form);
        Ok((
            name.to_string(),
            value.map_err(|told| format!("fail to convert field \"{name}\": {told}"))?,
        ))
    });
    fields.collect()
}

fn convert(value: &Value<'_>, form: Form) -> Result<Json, String> {
    Ok(match value {
        Value::Null if form == Form::WithinObject => {
            return Err("proto: invalid type: structpb.NullValue".to_owned());
        }
        Value::Null => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Int(number) if number.unsigned_abs() >= EXACT => large(*number, form)?,
        Value::Int(number) => Json::from(*number),
        Value::Uint(number) if *number >= EXACT => large(*number, form)?,
        Value::Uint(number) => Json::from(*number),
        Value::Double(number) => double(*number)?,
        Value::String(text) => Json::from(text.as_str()),
        Value::Bytes(octets) => Json::String(STANDARD.encode(&**octets)),
        Value::List(list) => {
            Json::Array(list.iter().map(|item| convert(&item, form)).collect::<Result<_, _>>()?)
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
                entries.insert(key, convert(&value, form)?);
            }
            Json::Object(entries)
        }
        Value::Object(object) => Json::Object(fields(object, form)?),
        Value::Timestamp(time) => Json::String(time.to_string()),
        Value::Duration(span) => Json::String(span.to_string()),
        Value::Optional(Some(value)) => convert(value, form)?,
        Value::Optional(None) => Json::Null,
        other => return Err(format!("unsupported type {}", other.type_name())),
    })
}

#[expect(clippy::cast_precision_loss, reason = "the API server goes through doubles")]
fn large<N: Copy + Into<Number> + Into<i128> + ToString>(
    number: N,
    form: Form,
) -> Result<Json, String> {
    match form {
        Form::AsIs => Ok(Json::Number(number.into())),
        Form::Patch => Ok(Json::String(number.to_string())),
        Form::WithinObject => {
            let whole: i128 = number.into();
            let number = Number::from_f64(whole as f64);
            number.map(Json::Number).ok_or_else(|| format!("unsupported value: {whole}"))
        }
    }
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
