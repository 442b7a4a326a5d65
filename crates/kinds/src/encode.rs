//! Writes an object as Go does: what is empty is left out, unless Go never leaves it out.

use serde_json::Value;

use crate::{
    decode::{Object, zero},
    table::{Field, Shape, ShapeId, Table, Type, Written},
};

/// Writes an object in place.
pub(crate) fn encode(table: &Table, of: &Type, object: &mut Object) {
    for field in &of.fields {
        if let Some(value) = object.get_mut(field.name) {
            below(table, &field.shape, value);
        }
        match object.get(field.name) {
            None if stands_when_missing(field) => {
                let value = if field.is_pointer { Value::Null } else { zero(&field.shape) };
                object.insert(field.name.to_owned(), value);
            }
            None => {}
            Some(value) if is_left_out(table, field, value) => {
                object.remove(field.name);
            }
            Some(_) => {}
        }
    }
}

fn below(table: &Table, shape: &ShapeId, value: &mut Value) {
    if let ShapeId::Either(shapes) = shape {
        let [other, structure] = &**shapes;
        return below(table, if value.is_object() { structure } else { other }, value);
    }
    match (table.shape_at(shape), value) {
        (Shape::Struct(of), Value::Object(fields)) => encode(table, of, fields),
        (Shape::List(_), Value::Array(items)) => {
            if let ShapeId::List(item) = shape {
                items.iter_mut().for_each(|value| below(table, item, value));
            }
        }
        (Shape::Map(_), Value::Object(entries)) => {
            if let ShapeId::Map(item) = shape {
                entries.values_mut().for_each(|value| below(table, item, value));
            }
        }
        _ => {}
    }
}

/// Go's `omitempty` knows no empty structures, and these are structures in Go.
fn is_struct_in_go(shape: &ShapeId) -> bool {
    matches!(
        shape,
        ShapeId::Quantity
            | ShapeId::Time
            | ShapeId::MicroTime
            | ShapeId::Duration
            | ShapeId::IntOrString
            | ShapeId::Raw
            | ShapeId::Json
            | ShapeId::Either(_)
            | ShapeId::Struct(_)
    )
}

fn stands_when_missing(field: &Field) -> bool {
    match field.written {
        Written::Always => true,
        Written::NotEmpty => !field.is_pointer && is_struct_in_go(&field.shape),
        Written::NotZero => false,
    }
}

fn is_left_out(table: &Table, field: &Field, value: &Value) -> bool {
    if field.is_pointer || field.written == Written::Always {
        return false;
    }
    match (&field.shape, value) {
        (ShapeId::List(_), Value::Array(items)) => items.is_empty(),
        (ShapeId::Map(_), Value::Object(entries)) => entries.is_empty(),
        (ShapeId::Bytes, Value::String(text)) => text.is_empty(),
        (ShapeId::Struct(_), Value::Object(fields)) => {
            field.written == Written::NotZero && is_empty(table, &field.shape, fields)
        }
        _ => false,
    }
}

/// Whether a structure that is written holds nothing but what is written of an empty one.
fn is_empty(table: &Table, shape: &ShapeId, fields: &Object) -> bool {
    let Shape::Struct(of) = table.shape_at(shape) else { return false };
    let mut empty = Object::new();
    crate::decode::Decoder::new(table).fill(of, &mut empty);
    encode(table, of, &mut empty);
    empty == *fields
}
