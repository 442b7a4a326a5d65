//! YAML 1.2 and JSON as a tree in which every value knows its line.
//!
//! The core schema and no more: tags other than it, duplicate keys, keys that are no text and merge keys are refused,
//! and aliases may not make a document larger than [`NODES_MAX`].

use std::{collections::HashMap, rc::Rc};

use granit_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Number, Value};

/// The most values that all documents of one file may have, aliases counted in full.
pub(crate) const NODES_MAX: usize = 200_000;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) content: Content,
    size: usize,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Rc<Node>>),
    Map(Vec<(Key, Rc<Node>)>),
}

/// A key and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) line: usize,
    pub(crate) name: String,
}

/// Text that is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) message: String,
}

/// Reads all documents of a file; empty ones are left out.
pub(crate) fn parse(text: &str) -> Result<Vec<Node>, SyntaxError> {
    let options = granit_parser::options! { emit_comments: false, disallow_directives: false };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| SyntaxError {
            line: error.marker().line().max(1),
            message: error.info().lines().next().unwrap_or("it is not YAML").to_owned(),
        })?;
        builder.event(event, span.start.line().max(1))?;
    }
    Ok(builder.documents)
}

impl Node {
    /// The value under a key.
    pub(crate) fn child(&self, name: &str) -> Option<&Node> {
        match &self.content {
            Content::Map(entries) => {
                entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node.as_ref())
            }
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::Text(_)
            | Content::List(_) => None,
        }
    }

    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::List(_)
            | Content::Map(_) => None,
        }
    }

    /// The same mapping with these entries instead.
    pub(crate) fn with_entries(&self, entries: Vec<(Key, Rc<Node>)>) -> Self {
        Self { line: self.line, content: Content::Map(entries), size: self.size }
    }

    /// The value without its places.
    pub(crate) fn to_json(&self) -> Value {
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

    /// The line of a field as the hub names it, `spec.rules[0].verbs`; of the nearest parent where it does not stand.
    pub(crate) fn line_of(&self, path: &str) -> usize {
        let mut line = self.line;
        let mut node = self;
        for step in path.split('.').flat_map(steps) {
            let next = match (&node.content, &step) {
                (Content::Map(entries), Step::Name(name)) => entries
                    .iter()
                    .find(|(key, _)| key.name == *name)
                    .map(|(key, child)| (key.line, child)),
                (Content::List(items), Step::Index(index)) => {
                    items.get(*index).map(|child| (child.line, child))
                }
                _ => None,
            };
            let Some((at, child)) = next else { return line };
            (line, node) = (at, child);
        }
        line
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

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    nodes: usize,
}

/// A list or mapping that is not complete.
struct Open {
    line: usize,
    anchor: usize,
    content: Content,
    /// The key whose value comes next.
    key: Option<Key>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, line: usize) -> Result<(), SyntaxError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let content = scalar(&text, style, tag.as_deref(), line)?;
                self.value(Node { line, content, size: 1 }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "seq", line)?;
                self.begin(Content::List(Vec::new()), anchor, line)
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "map", line)?;
                self.begin(Content::Map(Vec::new()), anchor, line)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { line, anchor, content, .. }) = self.open.pop() else {
                    return Ok(());
                };
                let size = 1 + match &content {
                    Content::List(items) => items.iter().map(|item| item.size).sum::<usize>(),
                    Content::Map(entries) => entries.iter().map(|(_, node)| node.size).sum(),
                    Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => 0,
                };
                self.value(Node { line, content, size }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(wrong(line, "the alias stands inside its own anchor"));
                };
                self.nodes = self.nodes.saturating_add(node.size);
                self.check_size(line)?;
                self.place(node, line)
            }
            Event::DocumentStart(..) => {
                self.anchors.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, content: Content, anchor: usize, line: usize) -> Result<(), SyntaxError> {
        if let Some(Open { content: Content::Map(_), key: None, .. }) = self.open.last() {
            return Err(wrong(line, "a key must be text"));
        }
        self.open.push(Open { line, anchor, content, key: None });
        Ok(())
    }

    fn value(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        let line = node.line;
        self.nodes += 1;
        self.check_size(line)?;
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.place(node, line)
    }

    fn place(&mut self, node: Rc<Node>, line: usize) -> Result<(), SyntaxError> {
        let Some(open) = self.open.last_mut() else {
            if node.content != Content::Null {
                self.documents.push(Rc::unwrap_or_clone(node));
            }
            return Ok(());
        };
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map(entries) => match open.key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let Content::Text(name) = &node.content else {
                        return Err(wrong(line, "a key must be text; put it in quotes"));
                    };
                    if name == "<<" {
                        return Err(wrong(line, "merge keys (`<<`) are not part of YAML 1.2"));
                    }
                    if entries.iter().any(|(key, _)| key.name == *name) {
                        let shown: String =
                            name.chars().take(80).flat_map(char::escape_debug).collect();
                        return Err(wrong(line, &format!("the key `{shown}` stands twice")));
                    }
                    open.key = Some(Key { line, name: name.clone() });
                }
            },
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => {}
        }
        Ok(())
    }

    fn check_size(&self, line: usize) -> Result<(), SyntaxError> {
        if self.nodes > NODES_MAX {
            return Err(wrong(
                line,
                &format!("more than {NODES_MAX} values, aliases counted in full"),
            ));
        }
        Ok(())
    }
}

fn wrong(line: usize, message: &str) -> SyntaxError {
    SyntaxError { line, message: message.to_owned() }
}

fn check_tag(tag: Option<&Tag>, allowed: &str, line: usize) -> Result<(), SyntaxError> {
    match tag {
        Some(tag) if tag.core_suffix() != Some(allowed) && tag.original() != "!" => {
            let shown: String =
                tag.original().chars().take(80).flat_map(char::escape_debug).collect();
            Err(wrong(line, &format!("the tag `{shown}` is not understood here")))
        }
        Some(_) | None => Ok(()),
    }
}

/// A scalar of the core schema (YAML 1.2.2, section 10.3.2).
fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    line: usize,
) -> Result<Content, SyntaxError> {
    let quoted = || Ok(Content::Text(text.to_owned()));
    match tag.map(Tag::core_suffix) {
        Some(Some("str")) => return quoted(),
        Some(Some(suffix @ ("null" | "bool" | "int" | "float"))) => {
            let content = plain(text);
            let fits = match &content {
                Content::Null => suffix == "null",
                Content::Bool(_) => suffix == "bool",
                Content::Number(number) => suffix == "float" || !number.is_f64(),
                Content::Text(_) | Content::List(_) | Content::Map(_) => false,
            };
            return if fits {
                Ok(content)
            } else {
                Err(wrong(line, &format!("the value is no `{suffix}`")))
            };
        }
        Some(_) => {
            check_tag(tag, "str", line)?;
            return quoted();
        }
        None => {}
    }
    if style == ScalarStyle::Plain { Ok(plain(text)) } else { quoted() }
}

fn plain(text: &str) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "true" | "True" | "TRUE" => Content::Bool(true),
        "false" | "False" | "FALSE" => Content::Bool(false),
        _ => number(text).map_or_else(|| Content::Text(text.to_owned()), Content::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(digits) = text.strip_prefix("0x") {
        let hex = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_hexdigit());
        return if hex { u64::from_str_radix(digits, 16).ok().map(Number::from) } else { None };
    }
    if let Some(digits) = text.strip_prefix("0o") {
        let octal = !digits.is_empty() && digits.bytes().all(|c| (b'0'..=b'7').contains(&c));
        return if octal { u64::from_str_radix(digits, 8).ok().map(Number::from) } else { None };
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|c| c.is_ascii_digit()) {
        let signed = text.strip_prefix('+').unwrap_or(text);
        return signed
            .parse::<u64>()
            .map(Number::from)
            .or_else(|_| signed.parse::<i64>().map(Number::from))
            .ok()
            .or_else(|| signed.parse().ok().and_then(Number::from_f64));
    }
    let float = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.bytes().any(|c| c.is_ascii_digit())
        && unsigned.bytes().all(|c| c.is_ascii_digit() || b".eE+-".contains(&c));
    if float { text.parse().ok().and_then(Number::from_f64) } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use serde_json::json;

    use super::*;

    fn one(text: &str) -> Node {
        let mut documents = parse(text).unwrap();
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0)
    }

    fn error(text: &str) -> (usize, String) {
        let SyntaxError { line, message } = parse(text).unwrap_err();
        (line, message)
    }

    #[test]
    fn scalars_follow_the_core_schema_of_yaml_1_2() {
        let text = "a: yes\nb: true\nc: 0o17\nd: 0x1F\ne: -3\nf: 1.5\ng: '1'\nh: ~\ni: 12e3\nj: 2026-01-01\nk: !!str 1\nl: 1:30\n";
        assert_eq!(
            one(text).to_json(),
            json!({ "a": "yes", "b": true, "c": 15, "d": 31, "e": -3, "f": 1.5, "g": "1", "h": null,
                    "i": 12_000.0, "j": "2026-01-01", "k": "1", "l": "1:30" })
        );
    }

    #[test]
    fn json_is_read_with_its_lines() {
        let node = one("{\n\t\"a\": [1,\n\t\t\"\\ud83d\\ude00\\/\"]\n}");
        assert_eq!(node.to_json(), json!({ "a": [1, "😀/"] }));
        assert_eq!(node.line_of("a[1]"), 3);
    }

    #[test]
    fn a_field_is_found_by_its_path() {
        let node = one("# head\nspec:\n  rules:\n  - verbs: [get]\n  - verbs:\n    - list\n");
        assert_eq!(node.line_of("spec.rules[1].verbs"), 5);
        assert_eq!(node.line_of("spec.rules[1].verbs[0]"), 6);
        assert_eq!(node.line_of("spec.rules[7]"), 3);
        assert_eq!(node.line_of("metadata.name"), 2);
    }

    #[test]
    fn documents_are_read_one_after_another_and_empty_ones_left_out() {
        let documents = parse("---\n# nothing\n---\na: 1\n...\n---\nb: 2\n").unwrap();
        assert_eq!(documents.iter().map(|node| node.line).collect::<Vec<_>>(), [4, 7]);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        assert_eq!(error("a: 1\nb: 2\na: 3\n"), (3, "the key `a` stands twice".to_owned()));
        assert_eq!(error("x:\n  1: a\n").0, 2);
        assert_eq!(error("b: &b {c: 1}\na:\n  <<: *b\n").0, 3);
        assert_eq!(
            error("a: !secret x\n"),
            (1, "the tag `!secret` is not understood here".to_owned())
        );
        assert_eq!(error("a: !!int x\n").0, 1);
        assert_eq!(error("a: [1\nb: 2\n").0, 2);
    }

    #[test]
    fn aliases_are_shared_but_counted_in_full() {
        assert_eq!(one("a: &x [1, 2]\nb: *x\n").to_json(), json!({ "a": [1, 2], "b": [1, 2] }));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(error(&bomb).1.starts_with("more than"));
    }
}
