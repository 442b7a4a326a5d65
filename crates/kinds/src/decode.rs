//! Reads an object by its types, strictly, into the form in which Go holds it.
//!
//! In that form a missing entry is a nil or an empty value; structures that are no pointers are always there, lists and
//! mappings are there when they were written, even empty. Every fault is found, not only the first.

use nullius_model::FieldPath;
use serde_json::{Map, Number, Value};

use crate::{
    fault::{Fault, FaultKind, MAPPING, Meant, TEXT},
    quantity::Quantity,
    scalar::{self, Digits},
    table::{Field, Shape, ShapeId, Table, Type},
};

/// An object under way.
pub(crate) type Object = Map<String, Value>;

/// The most faults of an object that are told, of those that drop a field and of those that refuse the object.
const FAULTS_MAX: usize = 500;

/// Where a value stands, written down only where something is wrong.
#[derive(Clone, Copy)]
enum At<'a> {
    Root,
    Field(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
    Key(&'a At<'a>, &'a str),
}

impl At<'_> {
    fn path(self) -> FieldPath {
        match self {
            Self::Root => FieldPath::root(),
            Self::Field(above, name) => above.path().field(name.to_owned()),
            Self::Index(above, index) => above.path().index(index),
            Self::Key(above, key) => above.path().key(key),
        }
    }
}

/// Reads objects of a table's types, and collects what is wrong with them.
pub(crate) struct Decoder<'t> {
    table: &'t Table,
    pub(crate) faults: Vec<Fault>,
    /// How many of each sort there were.
    dropped: usize,
    refused: usize,
}

impl<'t> Decoder<'t> {
    pub(crate) fn new(table: &'t Table) -> Self {
        Self { table, faults: Vec::new(), dropped: 0, refused: 0 }
    }

    fn fault(&mut self, fault: Fault) {
        let told = if fault.is_dropped() { &mut self.dropped } else { &mut self.refused };
        *told += 1;
        if *told <= FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    /// Reads a whole object of a kind.
    pub(crate) fn root(&mut self, of: &Type, fields: &Object) -> Object {
        self.structure(of, fields, At::Root)
    }

    /// Reads a value that the table itself holds.
    pub(crate) fn value_of(&mut self, field: &Field, value: &Value) -> Option<Value> {
        self.field(field, value, At::Root)
    }

    fn structure(&mut self, of: &Type, fields: &Object, at: At<'_>) -> Object {
        let mut object = Object::new();
        for (name, value) in fields {
            let Some(field) = of.field(name) else {
                self.unknown(of, name, at);
                continue;
            };
            if let Some(value) = self.field(field, value, At::Field(&at, field.name)) {
                object.insert(name.clone(), value);
            }
        }
        self.fill(of, &mut object);
        object
    }

    /// Puts the structures in place that Go always has.
    pub(crate) fn fill(&self, of: &Type, object: &mut Object) {
        for field in &of.fields {
            if field.is_pointer || object.contains_key(field.name) {
                continue;
            }
            if let Shape::Struct(inner) = self.table.shape(field) {
                let mut empty = Object::new();
                self.fill(inner, &mut empty);
                object.insert(field.name.to_owned(), Value::Object(empty));
            }
        }
    }

    fn field(&mut self, field: &Field, value: &Value, at: At<'_>) -> Option<Value> {
        let table = self.table;
        if value.is_null() {
            return None;
        }
        if let (Shape::Struct(of), Value::Object(fields)) = (table.shape_at(&field.shape), value) {
            return Some(Value::Object(self.structure(of, fields, at)));
        }
        let value = self.value(&field.shape, value, at)?;
        (field.is_pointer || !is_zero(&field.shape, &value)).then_some(value)
    }

    /// A value that is not null.
    fn value(&mut self, shape: &ShapeId, value: &Value, at: At<'_>) -> Option<Value> {
        match (shape, value) {
            (ShapeId::Raw, value) => Some(value.clone()),
            (ShapeId::Json, value) => Some(through_memory(value)),
            (ShapeId::Either(shapes), value) => self.either(shapes, value, at),
            (ShapeId::Bool, Value::Bool(_)) | (ShapeId::Text, Value::String(_)) => {
                Some(value.clone())
            }
            (ShapeId::Integer { least, most }, Value::Number(number)) => {
                self.integer(number, *least, *most, at)
            }
            (ShapeId::Float, Value::Number(number)) => Some(Value::Number(whole(number))),
            (ShapeId::IntOrString, Value::String(_)) => Some(value.clone()),
            (ShapeId::IntOrString, Value::Number(number)) => {
                self.integer(number, i32::MIN.into(), i32::MAX.into(), at)
            }
            (ShapeId::Bytes, Value::String(text)) => {
                self.read(scalar::bytes(text), "bytes in base64", text, at)
            }
            (ShapeId::Time, Value::String(text)) => {
                let read = scalar::time(text, Digits::Seconds);
                self.read(read, "a time such as `2026-01-02T03:04:05Z`", text, at)
            }
            (ShapeId::MicroTime, Value::String(text)) => {
                let read = scalar::time(text, Digits::Microseconds);
                self.read(read, "a time such as `2026-01-02T03:04:05.000000Z`", text, at)
            }
            (ShapeId::Duration, Value::String(text)) => {
                self.read(scalar::duration(text), "a duration such as `1h30m`", text, at)
            }
            (ShapeId::Quantity, Value::String(text)) => {
                let read = Quantity::parse(text).map(|quantity| quantity.written());
                self.read(read, "an amount such as `500m` or `1Gi`", text, at)
            }
            (ShapeId::Quantity, Value::Number(number)) => {
                let text = number.to_string();
                let read = Quantity::parse(&text).map(|quantity| quantity.written());
                self.read(read, "an amount such as `500m` or `1Gi`", &text, at)
            }
            (ShapeId::List(item), Value::Array(values)) => Some(self.list(item, values, at)),
            (ShapeId::Map(item), Value::Object(values)) => Some(self.map(item, values, at)),
            (ShapeId::Struct(_), Value::Object(fields)) => match self.table.shape_at(shape) {
                Shape::Struct(of) => Some(Value::Object(self.structure(of, fields, at))),
                Shape::List(_) | Shape::Map(_) | Shape::Scalar(_) => None,
            },
            (_, value) => {
                self.fault(Fault::wrong_type(&at.path(), expected(shape), value));
                None
            }
        }
    }

    /// A value that Kubernetes reads by itself: what is unknown in it is passed over without a word, and what is neither a
    /// list nor a structure, where one of them may stand, is nothing.
    fn either(
        &mut self,
        [other, structure]: &[ShapeId; 2],
        value: &Value,
        at: At<'_>,
    ) -> Option<Value> {
        let shape = match (other, value) {
            (_, Value::Object(_)) => structure,
            (ShapeId::List(_), Value::Array(items)) if !items.is_empty() => other,
            (ShapeId::List(_), _) => return Some(Value::Null),
            _ => other,
        };
        if shape == &ShapeId::Bool && !value.is_boolean() {
            self.fault(Fault::wrong_type(&at.path(), "`true`, `false` or a mapping", value));
            return None;
        }
        let (known, dropped) = (self.faults.len(), self.dropped);
        let read = self.value(shape, value, at);
        let new = self.faults.split_off(known);
        self.faults.extend(new.into_iter().filter(|fault| !fault.is_dropped()));
        self.dropped = dropped;
        read
    }

    fn list(&mut self, item: &ShapeId, values: &[Value], at: At<'_>) -> Value {
        let items = values
            .iter()
            .enumerate()
            .map(|(index, value)| self.item(item, value, At::Index(&at, index)));
        Value::Array(items.collect())
    }

    fn map(&mut self, item: &ShapeId, values: &Object, at: At<'_>) -> Value {
        let entries = values
            .iter()
            .map(|(key, value)| (key.clone(), self.item(item, value, At::Key(&at, key))));
        Value::Object(entries.collect())
    }

    /// An item stands even if it is empty.
    fn item(&mut self, shape: &ShapeId, value: &Value, at: At<'_>) -> Value {
        let read = if value.is_null() { None } else { self.value(shape, value, at) };
        read.unwrap_or_else(|| match self.table.shape_at(shape) {
            Shape::Struct(of) => {
                let mut empty = Object::new();
                self.fill(of, &mut empty);
                Value::Object(empty)
            }
            Shape::List(_) | Shape::Map(_) | Shape::Scalar(_) => zero(shape),
        })
    }

    fn integer(&mut self, number: &Number, least: i128, most: i128, at: At<'_>) -> Option<Value> {
        let value = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        if value.is_some_and(|value| least <= value && value <= most) {
            return Some(Value::Number(number.clone()));
        }
        let expected = match (value, most > i32::MAX.into()) {
            (None, _) => "a whole number",
            (Some(_), true) => "a whole number of 64 bits",
            (Some(_), false) => "a whole number of 32 bits",
        };
        self.fault(Fault::wrong_value(&at.path(), expected, &number.to_string()));
        None
    }

    fn read(
        &mut self,
        read: Option<String>,
        expected: &'static str,
        found: &str,
        at: At<'_>,
    ) -> Option<Value> {
        if read.is_none() {
            self.fault(Fault::wrong_value(&at.path(), expected, found));
        }
        read.map(Value::String)
    }

    fn unknown(&mut self, of: &Type, name: &str, at: At<'_>) {
        if self.dropped >= FAULTS_MAX {
            return;
        }
        let meant = nearest(of, name).map(Meant::Named).or_else(|| self.below(of, name, at));
        let path = at.path().field(name.to_owned());
        let kind = FaultKind::Unknown { name: name.to_owned(), meant };
        self.fault(Fault { path, kind });
    }

    /// A field of this name one structure further down, if there is only one.
    fn below(&self, of: &Type, name: &str, at: At<'_>) -> Option<Meant> {
        let mut places = of.fields.iter().filter_map(|field| {
            let Shape::Struct(inner) = self.table.shape(field) else { return None };
            let found = inner.field(name)?;
            Some(at.path().field(field.name).field(found.name))
        });
        let place = places.next()?;
        places.next().is_none().then_some(Meant::At(place))
    }
}

/// The empty value of a shape, as an item of a list has it.
pub(crate) fn zero(shape: &ShapeId) -> Value {
    match shape {
        ShapeId::Bool => Value::Bool(false),
        ShapeId::Integer { .. } | ShapeId::Float | ShapeId::IntOrString => Value::from(0),
        ShapeId::Text => Value::String(String::new()),
        ShapeId::Quantity => Value::from("0"),
        ShapeId::Duration => Value::from("0s"),
        ShapeId::Bytes
        | ShapeId::Time
        | ShapeId::MicroTime
        | ShapeId::Raw
        | ShapeId::Json
        | ShapeId::Either(_)
        | ShapeId::List(_)
        | ShapeId::Map(_) => Value::Null,
        ShapeId::Struct(_) => Value::Object(Object::new()),
    }
}

/// Whether Go's value is its zero: a list that was written is none, even if it is empty.
fn is_zero(shape: &ShapeId, value: &Value) -> bool {
    match shape {
        ShapeId::List(_)
        | ShapeId::Map(_)
        | ShapeId::Struct(_)
        | ShapeId::Raw
        | ShapeId::Json
        | ShapeId::Either(_) => value.is_null(),
        ShapeId::Bytes => false,
        _ => *value == zero(shape),
    }
}

fn expected(shape: &ShapeId) -> &'static str {
    match shape {
        ShapeId::Bool => "`true` or `false`",
        ShapeId::Integer { .. } => "a whole number",
        ShapeId::Float => "a number",
        ShapeId::Text => TEXT,
        ShapeId::Bytes => "bytes in base64",
        ShapeId::Quantity => "an amount such as `500m` or `1Gi`",
        ShapeId::Time | ShapeId::MicroTime => "a time such as `2026-01-02T03:04:05Z`",
        ShapeId::Duration => "a duration such as `1h30m`",
        ShapeId::IntOrString => "a whole number or text",
        ShapeId::Raw | ShapeId::Json | ShapeId::Either(_) => "a value",
        ShapeId::Struct(_) | ShapeId::Map(_) => MAPPING,
        ShapeId::List(_) => "a list",
    }
}

/// JSON that Kubernetes reads into memory and writes again.
fn through_memory(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(whole(number)),
        Value::Array(items) => items.iter().map(through_memory).collect(),
        Value::Object(entries) => Value::Object(
            entries.iter().map(|(name, value)| (name.clone(), through_memory(value))).collect(),
        ),
        other => other.clone(),
    }
}

/// Go writes a number without a fraction as a whole one.
#[expect(clippy::cast_possible_truncation, reason = "it is whole and has at most 53 bits")]
fn whole(number: &Number) -> Number {
    match number.as_f64() {
        Some(value) if number.is_f64() && value.fract() == 0.0 && value.abs() < 9e15 => {
            Number::from(value as i64)
        }
        Some(_) | None => number.clone(),
    }
}

/// The field whose name is most alike, if one is alike at all.
fn nearest(of: &Type, name: &str) -> Option<&'static str> {
    nearest_name(of.fields.iter().map(|field| field.name), name)
}

/// The name that is most alike, if one is alike at all.
pub fn nearest_name<'k>(known: impl Iterator<Item = &'k str>, name: &str) -> Option<&'k str> {
    let most = (name.chars().count() / 3).clamp(1, 3);
    let distance = |known: &str| match known.eq_ignore_ascii_case(name) {
        true => 0,
        false => distance(known, name),
    };
    known
        .map(|known| (distance(known), known))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, known)| known)
}

/// How many letters must be changed, put in, taken out or exchanged; long names are not compared.
fn distance(one: &str, two: &str) -> usize {
    let (one, two): (Vec<char>, Vec<char>) = (one.chars().collect(), two.chars().collect());
    if two.len() > 80 {
        return usize::MAX;
    }
    let mut above: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in two.iter().enumerate() {
            let at =
                |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&previous, j) + usize::from(a != b))
                .min(at(&previous, j + 1) + 1)
                .min(at(&row, j) + 1);
            let exchanged =
                i > 0 && j > 0 && one.get(i - 1) == Some(b) && two.get(j - 1) == Some(a);
            if exchanged {
                best = best.min(at(&above, j - 1) + 1);
            }
            row.push(best);
        }
        above = std::mem::replace(&mut previous, row);
    }
    previous.last().copied().unwrap_or_default()
}
