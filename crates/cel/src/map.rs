//! Maps: an object of the JSON input, or made by an expression. Keys compare by value across numbers: `m[1.0]` finds 1.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use serde_json::{Map as JsonMap, Value as Json};

use crate::{
    error::{EvalError, Fallible},
    library::{cidr::Cidr, go},
    machine::Machine,
    value::{Text, Value},
};

/// A map of values.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// An object of the input.
    Json(&'a JsonMap<String, Json>),
    /// A part of the program.
    Borrowed(&'a Entries<'a>),
    /// Made by the expression.
    Owned(Arc<Entries<'a>>),
}

/// Keys and values in the order of their making, found by key.
#[derive(Clone, Debug, Default)]
pub struct Entries<'a> {
    entries: Vec<(Value<'a>, Value<'a>)>,
    places: HashMap<Key, usize>,
}

/// A key in the one form in which keys are compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    /// A double by its bits: no key is not a number.
    Double(u64),
    String(Arc<str>),
    Timestamp(i64, u32, i32),
    Duration(i64),
    Type(Arc<str>),
    Ip(IpAddr),
    Cidr(Cidr),
}

/// Up to this many entries are looked through; more are found by hash.
const SCANNED: usize = 8;

/// What a repeated key of a map literal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// It is an error, as is a key of another type than keys have.
    Unique,
    /// Its last value stands.
    LastWins,
}

impl<'a> Entries<'a> {
    pub(crate) fn put(&mut self, key: Value<'a>, value: Value<'a>, keys: Keys) -> Fallible<()> {
        if keys == Keys::LastWins {
            check_hashable(&key)?;
            self.replace(key, value);
            return Ok(());
        }
        let is_key =
            matches!(key, Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::String(_));
        if !is_key {
            return Err(EvalError::Failed(format!("unsupported key type: {}", key.type_name())));
        }
        let told = go::shown(&key);
        match self.insert(key, value) {
            true => Ok(()),
            false => Err(EvalError::Failed(format!("Failed with repeated key: {told}"))),
        }
    }

    /// Adds an entry in place of one with the same key: of the same value and type, as a map of Go has them.
    fn replace(&mut self, key: Value<'a>, value: Value<'a>) {
        match self.place(&key) {
            Some(place) => {
                // The key too: of two zeros the sign is that of the last.
                if let Some(entry) = self.entries.get_mut(place) {
                    *entry = (key, value);
                }
            }
            None => self.push(key, value),
        }
    }

    /// Adds an entry; false when its key stands already.
    pub fn insert(&mut self, key: Value<'a>, value: Value<'a>) -> bool {
        if self.get(&key).is_some() {
            return false;
        }
        self.push(key, value);
        true
    }

    fn push(&mut self, key: Value<'a>, value: Value<'a>) {
        let place = self.entries.len();
        self.entries.push((key, value));
        if place == SCANNED {
            let places: Vec<_> = self.entries.iter().map(|(key, _)| Key::of(key)).collect();
            self.places =
                places.into_iter().enumerate().filter_map(|(at, key)| Some((key?, at))).collect();
        } else if place > SCANNED
            && let Some((key, _)) = self.entries.last()
            && let Some(key) = Key::of(key)
        {
            self.places.insert(key, place);
        }
    }

    /// Where a key of the same type and value stands.
    fn place(&self, key: &Value<'_>) -> Option<usize> {
        if self.entries.len() <= SCANNED {
            return self.entries.iter().position(|(known, _)| is_same_key(known, key));
        }
        self.places.get(&Key::of(key)?).copied()
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &Value<'_>) -> Option<&Value<'a>> {
        let place = self.place(key).or_else(|| self.alike(key))?;
        self.entries.get(place).map(|(_, value)| value)
    }

    /// Where a key stands that is of another type of number.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "only doubles that stand for the whole number are looked up as one"
    )]
    fn alike(&self, key: &Value<'_>) -> Option<usize> {
        match key {
            Value::Int(number) => self.place(&Value::Uint(u64::try_from(*number).ok()?)),
            Value::Uint(number) => self.place(&Value::Int(i64::try_from(*number).ok()?)),
            Value::Double(number) => {
                let int = *number as i64;
                let uint = *number as u64;
                let int = (int as f64 == *number).then(|| self.place(&Value::Int(int))).flatten();
                int.or_else(|| {
                    (uint as f64 == *number).then(|| self.place(&Value::Uint(uint))).flatten()
                })
            }
            _ => None,
        }
    }

    fn get_text(&self, key: &str) -> Option<&Value<'a>> {
        if self.entries.len() <= SCANNED {
            return self
                .entries
                .iter()
                .find(|(known, _)| matches!(known, Value::String(text) if text.as_str() == key))
                .map(|(_, value)| value);
        }
        self.get(&Value::String(Text::Borrowed(key)))
    }
}

impl Key {
    fn of(value: &Value<'_>) -> Option<Key> {
        match value {
            Value::Bool(truth) => Some(Key::Bool(*truth)),
            Value::Null => Some(Key::Null),
            Value::Int(number) => Some(Key::Int(*number)),
            Value::Uint(number) => Some(Key::Uint(*number)),
            Value::Double(number) if *number == 0.0 => Some(Key::Double(0)),
            Value::Double(number) if !number.is_nan() => Some(Key::Double(number.to_bits())),
            Value::String(text) => Some(Key::String(Arc::from(text.as_str()))),
            Value::Timestamp(time) => {
                Some(Key::Timestamp(time.seconds(), time.nanoseconds(), time.known_zone()?))
            }
            Value::Duration(span) => Some(Key::Duration(span.nanoseconds())),
            Value::Type(name) => Some(Key::Type(name.clone())),
            Value::Ip(address) => Some(Key::Ip(*address)),
            Value::Cidr(cidr) => Some(Key::Cidr(*cidr)),
            _ => None,
        }
    }
}

/// Whether Go's maps can have a value as a key; where not, the API server's evaluation ends.
pub(crate) fn check_hashable(value: &Value<'_>) -> Fallible<()> {
    match value {
        Value::Bytes(_) | Value::Semver(_) | Value::Format(_) => {
            let of = go::type_of(value);
            Err(EvalError::Broken(format!("runtime error: hash of unhashable type {of}")))
        }
        _ => Ok(()),
    }
}

/// Whether two keys are of one type and value; what Go knows by its place alone is no key that can be found.
fn is_same_key(one: &Value<'_>, two: &Value<'_>) -> bool {
    match (one, two) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(one), Value::Bool(two)) => one == two,
        (Value::Int(one), Value::Int(two)) => one == two,
        (Value::Uint(one), Value::Uint(two)) => one == two,
        (Value::Double(one), Value::Double(two)) => one == two,
        (Value::String(one), Value::String(two)) => one.as_str() == two.as_str(),
        (
            Value::Timestamp(_)
            | Value::Duration(_)
            | Value::Type(_)
            | Value::Ip(_)
            | Value::Cidr(_),
            _,
        ) => Key::of(one).is_some_and(|key| Key::of(two) == Some(key)),
        _ => false,
    }
}

impl<'a> Map<'a> {
    /// A map of entries.
    #[must_use]
    pub fn of(entries: Entries<'a>) -> Map<'a> {
        Map::Owned(Arc::new(entries))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Map::Json(entries) => entries.len(),
            Map::Borrowed(entries) => entries.entries.len(),
            Map::Owned(entries) => entries.entries.len(),
        }
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &Value<'_>) -> Option<Value<'a>> {
        match (self, key) {
            (Map::Json(entries), Value::String(text)) => {
                entries.get(text.as_str()).map(Value::from_json)
            }
            (Map::Json(_), _) => None,
            (Map::Borrowed(entries), key) => entries.get(key).map(|value| value.borrow()),
            (Map::Owned(entries), key) => entries.get(key).cloned(),
        }
    }

    /// The value of a field: a key that is text.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Map::Json(entries) => entries.get(name).map(Value::from_json),
            Map::Borrowed(entries) => entries.get_text(name).map(|value| value.borrow()),
            Map::Owned(entries) => entries.get_text(name).cloned(),
        }
    }

    /// The entries in order.
    #[must_use]
    pub fn entries(&self) -> Vec<(Value<'a>, Value<'a>)> {
        match self {
            Map::Json(entries) => entries
                .iter()
                .map(|(key, value)| (Value::String(Text::Borrowed(key)), Value::from_json(value)))
                .collect(),
            Map::Borrowed(entries) => {
                entries.entries.iter().map(|(key, value)| (key.borrow(), value.borrow())).collect()
            }
            Map::Owned(entries) => entries.entries.clone(),
        }
    }

    /// Whether something holds for each entry.
    pub(crate) fn all(&self, mut holds: impl FnMut(&Value<'_>, &Value<'_>) -> bool) -> bool {
        match self {
            Map::Json(entries) => entries.iter().all(|(key, value)| {
                holds(&Value::String(Text::Borrowed(key)), &Value::from_json(value))
            }),
            Map::Borrowed(entries) => entries.entries.iter().all(|(key, value)| holds(key, value)),
            Map::Owned(entries) => entries.entries.iter().all(|(key, value)| holds(key, value)),
        }
    }

    pub(crate) fn borrow(&'a self) -> Map<'a> {
        match self {
            Map::Json(entries) => Map::Json(entries),
            Map::Borrowed(entries) => Map::Borrowed(entries),
            Map::Owned(entries) => Map::Borrowed(entries),
        }
    }

    /// Values that cannot be compared count as equal, as they do in cel-go.
    pub(crate) fn equals(&self, other: &Map<'_>, machine: &mut Machine<'_>) -> Fallible<bool> {
        if self.len() != other.len() {
            return Ok(false);
        }
        for (key, value) in self.entries() {
            machine.compare_one()?;
            let Some(found) = other.get(&key) else { return Ok(false) };
            if value.equality(&found, machine)? == Some(false) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
