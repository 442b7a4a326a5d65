//! Lists: a part of the JSON input, of the program, or made by the expression. Items are looked at, never copied.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::value::Value;

/// A list of values.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// A part of the input.
    Json(&'a [Json]),
    /// A part of the program.
    Borrowed(&'a [Value<'a>]),
    /// Made by the expression.
    Owned(Arc<Vec<Value<'a>>>),
}

impl<'a> List<'a> {
    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            List::Json(items) => items.len(),
            List::Borrowed(items) => items.len(),
            List::Owned(items) => items.len(),
        }
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item at a place.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            List::Json(items) => items.get(index).map(Value::from_json),
            List::Borrowed(items) => items.get(index).map(|item| item.borrow()),
            List::Owned(items) => items.get(index).cloned(),
        }
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    pub(crate) fn borrow(&'a self) -> List<'a> {
        match self {
            List::Json(items) => List::Json(items),
            List::Borrowed(items) => List::Borrowed(items),
            List::Owned(items) => List::Borrowed(items),
        }
    }

    /// Items that cannot be compared count as equal, as they do in cel-go.
    pub(crate) fn equals(&self, other: &List<'_>) -> bool {
        self.len() == other.len()
            && self.iter().zip(other.iter()).all(|(one, two)| one.equality(&two) != Some(false))
    }

    pub(crate) fn contains(&self, wanted: &Value<'_>) -> bool {
        match (self, wanted) {
            (List::Json(items), Value::String(text)) => {
                items.iter().any(|item| item.as_str() == Some(text.as_str()))
            }
            // What is looked for says whether it is equal: values of an extension do not say the same of others.
            _ => self.iter().any(|item| wanted.equals(&item)),
        }
    }
}
