//! Documents that are objects of Kubernetes or something of another program, one after another, in lists, or both.

use std::{io, path::PathBuf, rc::Rc};

use nullius_manifest::{Dialect, Node, SyntaxError, parse, parse_from, walk};
use serde::de::IgnoredAny;
use serde_json::Value as Json;

use crate::failure::Failure;

/// A thing that may be carried over, and where it stands.
pub(super) struct Document {
    pub(super) file: String,
    pub(super) node: Rc<Node>,
    /// What a typed list says that its items are: version and kind.
    of_list: Option<(String, String)>,
}

impl Document {
    /// As JSON; items of a typed list say what they are.
    pub(super) fn to_json(&self) -> Json {
        let mut json = self.node.to_json();
        if let (Json::Object(fields), Some((version, kind))) = (&mut json, &self.of_list)
            && !fields.contains_key("kind")
        {
            fields.insert("apiVersion".to_owned(), Json::from(version.as_str()));
            fields.insert("kind".to_owned(), Json::from(kind.as_str()));
        }
        json
    }

    /// What it is called, for people.
    pub(super) fn label(&self) -> String {
        let text = |path: &str| self.node.value_of_text(path).and_then(Node::text);
        let kind = text("kind").or_else(|| text("Kind"));
        let kind = kind.or(self.of_list.as_ref().map(|(_, kind)| kind.as_str()));
        let name = text("metadata.name").or_else(|| text("Name")).or_else(|| text("id"));
        match (kind, name) {
            (Some(kind), Some(name)) => format!("{kind} `{name}`"),
            (Some(one), None) => one.to_owned(),
            (None, Some(name)) => format!("entry `{name}`"),
            (None, None) => "document".to_owned(),
        }
    }
}

/// Reads all of them, or says what cannot be read: something that is left out could be what denies.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Document>, Failure> {
    let mut found = Vec::new();
    let mut wrong = Vec::new();
    walk(paths, &mut io::stdin().lock(), &mut |source| {
        let source = match source {
            Ok(source) => source,
            Err(unreadable) => {
                return wrong.push(format!("{}: {}", unreadable.name, unreadable.message));
            }
        };
        match nodes(&source.text) {
            Ok(nodes) => {
                for node in nodes {
                    unpack(&source.name, Rc::new(node), None, &mut found);
                }
            }
            Err(error) => {
                let (line, column) = (error.line, error.column);
                wrong.push(format!("{}:{line}:{column}: {}", source.name, error.message));
            }
        }
    });
    if wrong.is_empty() {
        return Ok(found);
    }
    Err(Failure::new("a file cannot be read; nothing was written").why(wrong.join("\n       ")).next(
        "mend it: what is left out could be what denies; of HCL give what `consul config read -kind KIND -name NAME` prints",
    ))
}

/// All documents of a text: YAML, or values of JSON one after another.
fn nodes(text: &str) -> Result<Vec<Node>, SyntaxError> {
    let error = match parse(text, Dialect::Kubernetes) {
        Ok(nodes) => return Ok(nodes),
        Err(error) => error,
    };
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut all = Vec::new();
    let mut start = 0;
    while let Some(value) = values.next() {
        if value.is_err() {
            return Err(error);
        }
        let end = values.byte_offset();
        let (before, part) = (text.get(..start), text.get(start..end));
        let first_line = before.unwrap_or_default().matches('\n').count() + 1;
        all.extend(parse_from(part.unwrap_or_default(), Dialect::Kubernetes, first_line)?);
        start = end;
    }
    Ok(all)
}

/// Takes lists apart: those of Kubernetes, those of SPIRE's server, and plain ones.
fn unpack(
    file: &str,
    node: Rc<Node>,
    of_list: Option<&(String, String)>,
    found: &mut Vec<Document>,
) {
    let text = |field: &str| node.child(field).and_then(Node::text).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let listed = match kind.strip_suffix("List") {
        Some(item) => node.child("items").and_then(Node::items).map(|items| {
            let of = (version.to_owned(), item.to_owned());
            (items, Some(of).filter(|_| !item.is_empty()))
        }),
        None if kind.is_empty() && version.is_empty() => {
            let entries = node.child("entries").and_then(Node::items);
            node.items().or(entries).map(|items| (items, None))
        }
        None => None,
    };
    match listed {
        Some((items, of)) => {
            for item in items {
                unpack(file, Rc::clone(item), of.as_ref(), found);
            }
        }
        None => {
            let (file, of_list) = (file.to_owned(), of_list.cloned());
            found.push(Document { file, node, of_list });
        }
    }
}

/// Files in HCL below the paths, which a walk passes over where it is not told them by name.
pub(super) fn hcl(paths: &[PathBuf]) -> Vec<PathBuf> {
    let is_hcl = |path: &PathBuf| path.extension().is_some_and(|it| it == "hcl");
    let mut found = Vec::new();
    let mut folders = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => folders.push(path.clone()),
            false if is_hcl(path) => found.push(path.clone()),
            false => {}
        }
    }
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries {
            let (path, kind) = (entry.path(), entry.file_type());
            // Links lead nowhere, so that this ends.
            if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) {
                folders.push(path);
            } else if is_hcl(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
