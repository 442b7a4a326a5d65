//! Lists: a part of the JSON input, of the program, or made by the expression. Items are looked at, never copied.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::{error::Fallible, machine::Machine, value::Value};

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
    pub(crate) fn equals(&self, other: &List<'_>, machine: &mut Machine<'_>) -> Fallible<bool> {
        if self.len() != other.len() {
            return Ok(false);
        }
        for (one, two) in self.iter().zip(other.iter()) {
            machine.compare_one()?;
            if one.equality(&two, machine)? == Some(false) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(crate) fn contains(&self, wanted: &Value<'_>, machine: &mut Machine<'_>) -> Fallible<bool> {
        if let (List::Json(items), Value::String(text)) = (self, wanted) {
            return Ok(items.iter().any(|item| item.as_str() == Some(text.as_str())));
        }
        // What is looked for says whether it is equal: values of an extension do not say the same of others.
        Ok(position(self.iter(), |item| wanted.equals(item, machine))?.is_some())
    }
}

/// The place of the first item that holds.
pub(crate) fn position<'a>(
    items: impl Iterator<Item = Value<'a>>,
    mut holds: impl FnMut(&Value<'a>) -> Fallible<bool>,
) -> Fallible<Option<usize>> {
    for (place, item) in items.enumerate() {
        if holds(&item)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}
