//! The Kubernetes objects in a text, past whatever in it cannot be read.
//!
//! Documents are split where kubectl splits them, at lines of `---`; each is read by itself, so that one that is broken
//! does not hide the others. Lists are taken apart.

use std::rc::Rc;

use nullius_kinds::Table;
use nullius_model::FieldPath;
use serde_json::Value;

use crate::{
    node::{Content, Node, Place},
    parse::{Dialect, SyntaxError, parse_from},
};

/// The longest object as JSON, in bytes: API servers read no longer request.
const OBJECT_MAX: usize = 3 * 1024 * 1024;

/// What a text holds.
#[derive(Debug)]
pub enum Found {
    /// An object of Kubernetes.
    Object(Manifest),
    /// A document that is something else, such as values of a chart.
    Other(Place),
    /// Something that cannot be read.
    Fault(Fault),
}

/// An object and where it stands.
#[derive(Debug)]
pub struct Manifest {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    node: Rc<Node>,
}

/// Something in a text that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub next: Option<String>,
}

impl Manifest {
    /// The object with its places.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The object as JSON. It says what it is, also where it stood in a typed list, whose items need not.
    pub fn to_json(&self) -> Value {
        let mut object = self.node.to_json();
        if let Value::Object(fields) = &mut object {
            fields.insert("apiVersion".to_owned(), Value::from(self.api_version.as_str()));
            fields.insert("kind".to_owned(), Value::from(self.kind.as_str()));
        }
        object
    }

    /// The group; empty for the core.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// The name, or what it will begin with.
    pub fn name(&self) -> &str {
        self.metadata("name").or_else(|| self.metadata("generateName")).unwrap_or_default()
    }

    /// The namespace, where the object says one.
    pub fn namespace(&self) -> &str {
        self.metadata("namespace").unwrap_or_default()
    }

    fn metadata(&self, field: &str) -> Option<&str> {
        self.node.child("metadata")?.child(field)?.text().filter(|text| !text.is_empty())
    }
}

/// Finds the objects of a text in order.
pub fn objects(text: &str, mut each: impl FnMut(Found)) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut is_template = false;
    for document in documents(text) {
        let Err(error) = read(&document, &mut each) else { continue };
        match json_stream(&document) {
            Some(values) => {
                for value in values {
                    if let Err(error) = read(&value, &mut each) {
                        each(Found::Fault(fault(&value, error)));
                    }
                }
            }
            // A template is told once: all its documents are of the same kind.
            None if is_template && document.is_template() => {}
            None => {
                is_template = document.is_template();
                each(Found::Fault(fault(&document, error)));
            }
        }
    }
}

/// Reads one document, whole or not at all.
fn read(document: &Document<'_>, each: &mut impl FnMut(Found)) -> Result<(), SyntaxError> {
    let nodes = parse_from(document.text, Dialect::Kubernetes, document.line)?;
    nodes.into_iter().for_each(|node| unpack(Rc::new(node), None, each));
    Ok(())
}

/// A part of a text that is read by itself.
struct Document<'a> {
    text: &'a str,
    /// The line of the file on which it begins.
    line: usize,
}

impl Document<'_> {
    fn is_template(&self) -> bool {
        self.text.contains("{{")
    }
}

fn documents(text: &str) -> Vec<Document<'_>> {
    let mut all = Vec::new();
    let (mut start, mut first) = (0, 1);
    let mut end = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let is_separator = line.strip_prefix("---").is_some_and(|rest| {
            let rest = rest.trim();
            rest.is_empty() || rest.starts_with('#')
        });
        if is_separator {
            all.push(Document { text: &text[start..end], line: first });
            (start, first) = (end + line.len(), index + 2);
        }
        end += line.len();
    }
    all.push(Document { text: &text[start..end], line: first });
    all.retain(|document| !document.text.trim().is_empty());
    all
}

/// JSON values one after another, which YAML does not have; each is read by itself.
fn json_stream<'a>(document: &Document<'a>) -> Option<Vec<Document<'a>>> {
    let text = document.text;
    let begins = text.trim_start();
    if !begins.starts_with('{') || begins.starts_with("{{") {
        return None;
    }
    let mut values: Vec<Document<'a>> = Vec::new();
    let (mut start, mut line) = (0, document.line);
    let mut is_broken = false;
    while let Some(rest) = text.get(start..).filter(|rest| !rest.trim().is_empty()) {
        // What stands behind a value is another one, or this is no stream.
        if !is_broken && !rest.trim_start().starts_with('{') {
            return None;
        }
        let end = if is_broken { None } else { json_end(rest) };
        let end = end.unwrap_or_else(|| {
            // A value that does not end: the next line that begins with one is another.
            is_broken = true;
            let inner = rest.len() - rest.trim_start().len() + 1;
            let next = rest.get(inner..).and_then(|behind| behind.find("\n{"));
            next.map_or(rest.len(), |next| inner + next + 1)
        });
        let (value, _) = rest.split_at(end);
        values.push(Document { text: value, line });
        line += value.matches('\n').count();
        start += end;
    }
    (values.len() > 1).then_some(values)
}

/// Where a JSON object ends, by its brackets.
fn json_end(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let (mut is_text, mut is_escaped) = (false, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            // No text of JSON spans lines: it was not closed.
            b'\n' if is_text => return None,
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(index + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn fault(document: &Document<'_>, error: SyntaxError) -> Fault {
    let SyntaxError { line, column, message } = error;
    let place = Place { line, column };
    if !document.is_template() {
        return Fault { place, message, next: None };
    }
    let next = "render it and scan what comes out: `helm template CHART | nullius scan -`";
    let message = format!("this is a template, not YAML: {message}");
    Fault { place, message, next: Some(next.to_owned()) }
}

/// What the items of a typed list are, such as a `PodList`: they need not say it themselves.
#[derive(Debug, Clone)]
struct Items {
    api_version: String,
    kind: String,
}

fn unpack(node: Rc<Node>, items: Option<&Items>, each: &mut impl FnMut(Found)) {
    let word = |field: &str| node.child(field).and_then(Node::text).unwrap_or_default();
    let (mut api_version, mut kind) = (word("apiVersion").to_owned(), word("kind").to_owned());
    if let Some(items) = items.filter(|_| kind.is_empty() && api_version.is_empty()) {
        (api_version, kind) = (items.api_version.clone(), items.kind.clone());
    }
    let is_mapping = matches!(node.content, Content::Map(_));
    let place = node.place();
    if !is_mapping || kind.is_empty() {
        return each(match items {
            None if let Some(fault) = without_kind(&node) => Found::Fault(fault),
            Some(_) => Found::Fault(Fault {
                place,
                message: "an item of a list is no object: it has no `kind`".to_owned(),
                next: None,
            }),
            None => match looks_like_objects(&node) {
                true => Found::Fault(Fault {
                    place,
                    message: "objects stand in a list without a kind".to_owned(),
                    next: Some(
                        "write them as documents with `---` between them, or below `items` of a `List`"
                            .to_owned(),
                    ),
                }),
                false => Found::Other(place),
            },
        });
    }
    if api_version.is_empty() {
        return each(Found::Fault(lacking(&node, "apiVersion", &format!("`{}`", shown(&kind)))));
    }
    if let Some(fault) = wrong_items(&node, &api_version, &kind) {
        return each(Found::Fault(fault));
    }
    let listed = node.child("items").and_then(Node::items).filter(|_| kind.ends_with("List"));
    let Some(listed) = listed else {
        if is_plain_list(&api_version, &kind) {
            return;
        }
        return each(match too_long(&node, &kind).or_else(|| wrong_name(&node, &kind)) {
            Some(fault) => Found::Fault(fault),
            None => Found::Object(Manifest { api_version, kind, node }),
        });
    };
    // Items of a plain `List` say what they are; of others they may leave it out.
    let of_list = Items { kind: kind.trim_end_matches("List").to_owned(), api_version };
    for item in listed {
        unpack(Rc::clone(item), Some(&of_list), each);
    }
}

/// What is wrong with a mapping that is meant to be an object and does not say what it is. It is meant to be one if it has
/// two of the keys that every object has, or an `apiVersion` with a `spec`; a slip in a key does not count.
fn without_kind(node: &Node) -> Option<Fault> {
    let has = |key: &str| node.child(key).is_some() || slip(node, key).is_some();
    let common = ["apiVersion", "kind", "metadata"].into_iter().filter(|key| has(key)).count();
    let is_meant = common > 1 || has("apiVersion") && node.child("spec").is_some();
    is_meant.then(|| lacking(node, "kind", "an object"))
}

/// An object that lacks a key by which it is known, or has it with a slip.
fn lacking(node: &Node, key: &str, what: &str) -> Fault {
    if let Some(slip) = slip(node, key) {
        return Fault {
            place: node.place_of_text(slip),
            message: format!("{what} has no `{key}`, but `{}`", shown(slip)),
            next: Some(format!("write `{key}`; kubectl refuses the object without it")),
        };
    }
    if node.child(key).is_some() {
        return Fault {
            place: node.place_of_text(key),
            message: format!("`{key}` of {what} is no text"),
            next: Some("say what the object is; kubectl refuses it otherwise".to_owned()),
        };
    }
    Fault {
        place: node.place(),
        message: format!("{what} has no `{key}`"),
        next: Some(format!("add `{key}`; kubectl refuses the object without it")),
    }
}

/// A key that is another but for its case or one letter, where the other does not stand.
fn slip<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    let Content::Map(entries) = &node.content else { return None };
    let is_near = |name: &str| {
        name.eq_ignore_ascii_case(key)
            || nullius_kinds::nearest_name([key].into_iter(), name).is_some()
    };
    let found = entries.iter().find(|(name, _)| name.name != key && is_near(&name.name));
    found.filter(|_| node.child(key).is_none()).map(|(name, _)| name.name.as_str())
}

/// Whether a list holds what would be objects as documents of their own. Lists of other things, such as patches, do not.
fn looks_like_objects(node: &Node) -> bool {
    let says = |item: &Node, field: &str| item.child(field).and_then(Node::text).is_some();
    let items = node.items().unwrap_or_default();
    items.iter().any(|item| says(item, "apiVersion") && says(item, "kind"))
}

/// Whether something is the `List` of any objects.
fn is_plain_list(api_version: &str, kind: &str) -> bool {
    (api_version, kind) == ("v1", "List")
}

/// What stands in the place of a list's items and is no list; `null` is how Go writes an empty one. Kinds of other names
/// that end so may have any `items`.
fn wrong_items(node: &Node, api_version: &str, kind: &str) -> Option<Fault> {
    let of_kubernetes = || {
        let item = kind.strip_suffix("List")?;
        Table::builtin().kind(api_version, item)
    };
    if !is_plain_list(api_version, kind) && of_kubernetes().is_none() {
        return None;
    }
    let message = match node.child("items").map(|items| &items.content) {
        Some(Content::List(_) | Content::Null) => return None,
        Some(_) => format!("`items` of `{kind}` must be a list"),
        None => format!("`{kind}` has no `items`"),
    };
    Some(Fault {
        place: node.place_of(&FieldPath::of(&["items"])),
        message,
        next: Some("write every object as an item of the list, after a `-`".to_owned()),
    })
}

/// An object longer than any that reaches a cluster.
fn too_long(node: &Node, kind: &str) -> Option<Fault> {
    // A value takes two bytes at least, and its size is known.
    let length = if node.size > OBJECT_MAX / 2 { usize::MAX } else { node.json_length() };
    (length > OBJECT_MAX).then(|| Fault {
        place: node.place(),
        message: format!(
            "`{}` is longer than {OBJECT_MAX} bytes of JSON, which no API server reads",
            shown(kind)
        ),
        next: Some("make several objects of it".to_owned()),
    })
}

/// Names that are no text: `namespace: no`.
fn wrong_name(node: &Node, kind: &str) -> Option<Fault> {
    let metadata = node.child("metadata")?;
    let field = ["name", "namespace", "generateName"].into_iter().find(|field| {
        let value = metadata.child(field).map(|value| &value.content);
        value.is_some_and(|value| !matches!(value, Content::Text(_) | Content::Null))
    })?;
    let advice = "put it in quotes: YAML takes words such as `no` and numbers for something else";
    Some(Fault {
        place: node.place_of(&FieldPath::of(&["metadata", field])),
        message: format!("`metadata.{field}` of `{}` is no text", shown(kind)),
        next: Some(advice.to_owned()),
    })
}

pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
#[path = "objects/tests.rs"]
mod tests;
