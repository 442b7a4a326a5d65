//! A document as a tree in which every value knows where it stands.

use std::rc::Rc;

use nullius_model::{FieldPath, FieldStep};
use serde_json::{Number, Value};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
    /// What it is.
    pub content: Content,
    /// How many values it is made of, aliases counted in full.
    pub(crate) size: usize,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
    /// Values in order.
    List(Vec<Rc<Node>>),
    /// Values by key, in the order of the file.
    Map(Vec<(Key, Rc<Node>)>),
}

/// A key and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
    /// The key.
    pub name: String,
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
}

impl Node {
    /// The value under a key.
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.entry(name).map(|(_, node)| node.as_ref())
    }

    fn entry(&self, name: &str) -> Option<&(Key, Rc<Node>)> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|(key, _)| key.name == name),
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::Text(_)
            | Content::List(_) => None,
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::List(_)
            | Content::Map(_) => None,
        }
    }

    /// The items, if it is a list.
    pub fn items(&self) -> Option<&[Rc<Node>]> {
        match &self.content {
            Content::List(items) => Some(items),
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::Text(_)
            | Content::Map(_) => None,
        }
    }

    /// The same mapping with these entries instead.
    #[must_use]
    pub fn with_entries(&self, entries: Vec<(Key, Rc<Node>)>) -> Self {
        let Self { line, column, size, .. } = *self;
        Self { line, column, content: Content::Map(entries), size }
    }

    /// The value without its places.
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(value) => Value::Number(value.clone()),
            Content::Text(value) => Value::String(value.clone()),
            Content::List(items) => Value::Array(items.iter().map(|item| item.to_json()).collect()),
            Content::Map(entries) => Value::Object(
                entries.iter().map(|(key, node)| (key.name.clone(), node.to_json())).collect(),
            ),
        }
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        Place { line: self.line, column: self.column }
    }

    /// Where a field stands: its key, or the item of a list; the nearest parent where it is missing.
    pub fn place_of(&self, path: &FieldPath) -> Place {
        let steps = path.steps().iter().map(|step| match step {
            FieldStep::Field(name) => Step::Name(name),
            FieldStep::Key(name) => Step::Name(name),
            FieldStep::Index(index) => Step::Index(*index),
        });
        self.follow(steps)
    }

    /// The line of a field as text names it, `spec.rules[0].verbs`; of the nearest parent where it does not stand.
    pub fn line_of(&self, path: &str) -> usize {
        self.follow(path.split('.').flat_map(steps)).line
    }

    fn follow<'a>(&self, steps: impl Iterator<Item = Step<'a>>) -> Place {
        let mut place = self.place();
        let mut node = self;
        for step in steps {
            let next = match (&node.content, &step) {
                (Content::Map(_), Step::Name(name)) => node.entry(name).map(|(key, child)| {
                    (Place { line: key.line, column: key.column }, child.as_ref())
                }),
                (Content::List(items), Step::Index(index)) => {
                    items.get(*index).map(|child| (child.place(), child.as_ref()))
                }
                _ => None,
            };
            let Some((at, child)) = next else { return place };
            (place, node) = (at, child);
        }
        place
    }
}

enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

/// `rules[0]` as a name and an index.
fn steps(part: &str) -> impl Iterator<Item = Step<'_>> {
    part.split('[').filter(|piece| !piece.is_empty()).map(|piece| {
        match piece.strip_suffix(']').and_then(|digits| digits.parse().ok()) {
            Some(index) => Step::Index(index),
            None => Step::Name(piece),
        }
    })
}
