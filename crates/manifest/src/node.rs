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

    /// How long it is as JSON without spaces, in bytes; characters that JSON escapes count once.
    pub(crate) fn json_length(&self) -> usize {
        match &self.content {
            Content::Null => 4,
            Content::Bool(value) => 5 - usize::from(*value),
            Content::Number(value) => value.to_string().len(),
            Content::Text(value) => value.len() + 2,
            Content::List(items) => {
                items.iter().map(|item| item.json_length() + 1).sum::<usize>() + 1
            }
            Content::Map(entries) => {
                entries
                    .iter()
                    .map(|(key, node)| key.name.len() + 4 + node.json_length())
                    .sum::<usize>()
                    + 1
            }
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
        self.place_of_text(path).line
    }

    /// Where a field stands as text names it: `spec.rules[0].verbs`, `metadata.labels[example.com/name]`.
    pub fn place_of_text(&self, path: &str) -> Place {
        self.follow(steps(path))
    }

    /// The value of a field as text names it.
    pub fn value_of_text(&self, path: &str) -> Option<&Node> {
        steps(path).try_fold(self, |node, step| match step {
            Step::Name(name) => node.child(name),
            Step::Index(index) => node.items()?.get(index).map(AsRef::as_ref),
        })
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

/// `rules[0].verbs` as names and indices; in brackets a dot is part of a name.
fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('.');
        if rest.is_empty() {
            return None;
        }
        if let Some((inner, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            rest = after;
            return Some(inner.parse().map_or(Step::Name(inner), Step::Index));
        }
        let end = rest.find(['.', '[']).filter(|end| *end > 0).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        Some(Step::Name(name))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]

    use crate::{Dialect, Place, parse};

    #[test]
    fn fields_are_found_as_text_names_them() {
        let text = "a:\n  b:\n  - c: 1\n  - {c: 2, d.e/f: 3}\n";
        let [node] = parse(text, Dialect::Kubernetes).unwrap().try_into().unwrap();
        let at = |path: &str| {
            let Place { line, column } = node.place_of_text(path);
            (line, column)
        };
        assert_eq!(at("a.b[0].c"), (3, 5));
        assert_eq!(at("a.b[1][d.e/f]"), (4, 12));
        assert_eq!(at("a.b[1].x"), (4, 5));
        assert_eq!(at("a.b[7]"), (2, 3));
        let value = |path: &str| node.value_of_text(path).map(|value| value.to_json());
        assert_eq!(value("a.b[1][d.e/f]"), Some(3.into()));
        assert_eq!((value("a.b[7]"), value("a.b.c"), value("a[0]")), (None, None, None));
        for odd in ["", ".", "[", "a[", "a.[b", "]", "a.b[", "[[]]"] {
            assert!(node.place_of_text(odd).line >= 1, "{odd}");
        }
    }
}
