//! Maps: an object of the JSON input, or made by an expression. Keys compare by value across numbers: `m[1.0]` finds 1.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Map as JsonMap, Value as Json};

use crate::{
    error::{EvalError, Fallible},
    library::operators::shown_key,
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
    Bool(bool),
    Whole(i128),
    String(Arc<str>),
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
        let is_key =
            matches!(key, Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::String(_))
                || (keys == Keys::LastWins && matches!(key, Value::Double(_) | Value::Null));
        if !is_key {
            return Err(EvalError::Failed(format!("unsupported key type: {}", key.type_name())));
        }
        let place = self.entries.iter().position(|(known, _)| known.equals(&key));
        match place {
            Some(_) if keys == Keys::Unique => {
                Err(EvalError::Failed(format!("Failed with repeated key: {}", shown_key(&key))))
            }
            Some(place) => {
                if let Some(entry) = self.entries.get_mut(place) {
                    entry.1 = value;
                }
                Ok(())
            }
            None => {
                self.insert(key, value);
                Ok(())
            }
        }
    }

    /// Adds an entry; false when its key stands already.
    pub fn insert(&mut self, key: Value<'a>, value: Value<'a>) -> bool {
        if self.get(&key).is_some() {
            return false;
        }
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
        true
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &Value<'_>) -> Option<&Value<'a>> {
        if self.entries.len() <= SCANNED {
            return self.entries.iter().find(|(known, _)| known.equals(key)).map(|(_, v)| v);
        }
        let place = self.places.get(&Key::of(key)?)?;
        self.entries.get(*place).map(|(_, value)| value)
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
    #[expect(clippy::cast_possible_truncation, reason = "only whole doubles in range are cast")]
    fn of(value: &Value<'_>) -> Option<Key> {
        match value {
            Value::Bool(truth) => Some(Key::Bool(*truth)),
            Value::Int(number) => Some(Key::Whole(i128::from(*number))),
            Value::Uint(number) => Some(Key::Whole(i128::from(*number))),
            Value::Double(number) if number.fract() == 0.0 && number.abs() < 2e19 => {
                Some(Key::Whole(*number as i128))
            }
            Value::String(text) => Some(Key::String(Arc::from(text.as_str()))),
            _ => None,
        }
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

    pub(crate) fn borrow(&'a self) -> Map<'a> {
        match self {
            Map::Json(entries) => Map::Json(entries),
            Map::Borrowed(entries) => Map::Borrowed(entries),
            Map::Owned(entries) => Map::Borrowed(entries),
        }
    }

    /// Values that cannot be compared count as equal, as they do in cel-go.
    pub(crate) fn equals(&self, other: &Map<'_>) -> bool {
        self.len() == other.len()
            && self.entries().iter().all(|(key, value)| {
                other.get(key).is_some_and(|found| value.equality(&found) != Some(false))
            })
    }
}
