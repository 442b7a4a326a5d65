//! An object as the API server holds it before it judges it.

use nullius_model::FieldPath;
use serde_json::Value;

use crate::{
    decode::{Decoder, Object},
    encode::encode,
    fault::{Fault, MAPPING},
    rules::Moment,
    table::{Field, Kind, Shape, ShapeId, Table, Type},
};

/// An object after the API server's reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalized {
    /// The object.
    pub object: Value,
    /// How far that is what an API server would hold.
    pub form: Form,
    /// Fields that the API server refuses or drops; they are not in the object.
    pub dropped: Vec<Fault>,
}

/// How far an object is what an API server would hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// It is one of Kubernetes' own kinds, read, defaulted and written as the API server does.
    Builtin,
    /// It is of a kind that clusters define themselves: it is as it was, without the defaults of its definition.
    AsWritten,
    /// It is of a kind that Kubernetes does not serve any more: it is as it was.
    Gone,
}

/// Reads an object of any kind as the API server of [`Table::builtin`]'s version does, up to the point where admission
/// begins: before a server adds a namespace, what its plugins put in, and the times that it knows.
///
/// # Errors
///
/// All faults of an object that no API server takes, those among them that it would drop too.
pub fn normalize(object: &Value) -> Result<Normalized, Vec<Fault>> {
    let table = Table::builtin();
    let Value::Object(fields) = object else {
        return Err(vec![Fault::wrong_type(&FieldPath::root(), MAPPING, object)]);
    };
    let word = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (word("apiVersion"), word("kind"));
    match table.kind(api_version, kind) {
        Some(kind) => of_kind(table, kind, fields),
        None => {
            let form = if table.is_gone(api_version, kind) { Form::Gone } else { Form::AsWritten };
            Ok(Normalized { object: object.clone(), form, dropped: Vec::new() })
        }
    }
}

fn of_kind(table: &Table, kind: &Kind, fields: &Object) -> Result<Normalized, Vec<Fault>> {
    let Some(of) = table.root(kind) else { return Err(Vec::new()) };
    let mut decoder = Decoder::new(table);
    let mut object = decoder.root(of, fields);
    let faults = decoder.faults;
    if !faults.iter().all(Fault::is_dropped) {
        return Err(faults);
    }
    default(table, of, &mut object);
    convert(table, of, &mut object);
    encode(table, of, &mut object);
    Ok(Normalized { object: Value::Object(object), form: Form::Builtin, dropped: faults })
}

/// Defaults, from the outside in.
fn default(table: &Table, of: &Type, object: &mut Object) {
    for field in &of.fields {
        if let Some(value) = &field.default
            && is_missing(field, object)
            && let Some(value) = Decoder::new(table).value_of(field, value)
        {
            object.insert(field.name.to_owned(), value);
        }
    }
    of.rules.apply(Moment::Default, object);
    for field in &of.fields {
        if let Some(value) = object.get_mut(field.name) {
            if field.is_rounded() {
                crate::rules::round_up(value);
            }
            each_struct(table, &field.shape, value, &mut |of, object| default(table, of, object));
        }
    }
}

fn is_missing(field: &Field, object: &Object) -> bool {
    match object.get(field.name) {
        None => true,
        // What a default fills is judged by its length.
        Some(Value::Array(items)) => items.is_empty() && !field.is_pointer,
        Some(_) => false,
    }
}

/// What the way through the version in memory does.
fn convert(table: &Table, of: &Type, object: &mut Object) {
    of.rules.apply(Moment::Convert, object);
    for field in &of.fields {
        if let Some(value) = object.get_mut(field.name) {
            each_struct(table, &field.shape, value, &mut |of, object| convert(table, of, object));
        }
    }
}

fn each_struct(
    table: &Table,
    shape: &ShapeId,
    value: &mut Value,
    each: &mut impl FnMut(&Type, &mut Object),
) {
    match (shape, value) {
        (ShapeId::Struct(_), Value::Object(object)) => {
            if let Shape::Struct(of) = table.shape_at(shape) {
                each(of, object);
            }
        }
        (ShapeId::List(item), Value::Array(values)) => {
            for value in values {
                each_struct(table, item, value, each);
            }
        }
        (ShapeId::Map(item), Value::Object(values)) => {
            for value in values.values_mut() {
                each_struct(table, item, value, each);
            }
        }
        _ => {}
    }
}
