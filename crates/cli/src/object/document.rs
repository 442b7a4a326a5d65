//! Files of objects: found, read and checked as a whole before anything is sent.
//!
//! Every fault names file, line and field: `roles.yaml:14: spec.rules[0].verbs: expected a list, found the text …`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use nullius_manifest::{Content, Dialect, FieldError, FieldFault, Node, Reader, parse};
use nullius_model::{API_VERSION, AnyObject, Kind, KindHome};

use super::later;
use crate::{
    failure::{Failure, file_failure},
    output::escape,
};

/// An object and where it stands.
#[derive(Debug)]
pub(crate) struct Document {
    /// The file, or `stdin`.
    pub(crate) source: String,
    node: Node,
    pub(crate) object: AnyObject,
}

impl Document {
    /// `Role/developer`.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.object.kind(), self.object.name())
    }

    /// A fault that the hub found in a field.
    pub(crate) fn fault(&self, path: &str, message: &str) -> String {
        let line = self.node.line_of(path);
        format!("{}:{line}: {path}: {message}", self.source)
    }

    /// Where the object begins.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.source, self.node.line)
    }
}

/// Text with a name.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Finds the texts: files, all `.yaml`, `.yml` and `.json` below folders, `-` for standard input.
pub(crate) fn sources(paths: &[PathBuf], input: &mut dyn io::Read) -> Result<Vec<Source>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            input
                .read_to_string(&mut text)
                .map_err(|error| Failure::new("cannot read standard input").because(error))?;
            found.push(Source { name: "stdin".to_owned(), text });
            continue;
        }
        let kind = fs::metadata(path).map_err(|error| file_failure("read", path, error))?;
        let mut files = Vec::new();
        if kind.is_dir() {
            collect(path, &mut files)?;
            if files.is_empty() {
                return Err(Failure::usage(format!(
                    "the folder `{}` holds no objects",
                    path.display()
                ))
                .why("no file there ends in `.yaml`, `.yml` or `.json`")
                .next("name another folder, or a file"));
            }
        } else {
            files.push(path.clone());
        }
        for file in files {
            let text =
                fs::read_to_string(&file).map_err(|error| file_failure("read", &file, error))?;
            found.push(Source { name: escape::cell(&file.display().to_string()), text });
        }
    }
    Ok(found)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error| file_failure("read", folder, error);
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).map_err(failed)?.collect();
    let mut paths: Vec<PathBuf> = entries.map_err(failed)?.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let wanted = path
            .extension()
            .is_some_and(|end| ["yaml", "yml", "json"].iter().any(|wanted| end == *wanted));
        if hidden {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if wanted {
            files.push(path);
        }
    }
    Ok(())
}

/// Reads and checks all objects of all sources; the failure lists every fault.
pub(crate) fn read(sources: Vec<Source>) -> Result<Vec<Document>, Failure> {
    let mut documents: Vec<Document> = Vec::new();
    let mut faults = Vec::new();
    for source in &sources {
        match parse(&source.text, Dialect::Strict) {
            Err(error) => faults.push(format!("{}:{}: {}", source.name, error.line, error.message)),
            Ok(nodes) => {
                for node in nodes.into_iter().flat_map(items) {
                    match object(&node) {
                        Ok(object) => {
                            documents.push(Document { source: source.name.clone(), node, object });
                        }
                        Err(error) => faults.push(told(&source.name, &node, &error)),
                    }
                }
            }
        }
    }
    let mut seen = BTreeMap::new();
    for document in &documents {
        if let Some(before) = seen.insert(document.label(), document.place()) {
            let twice = format!("`{}` stands already at {before}", document.label());
            faults.push(format!("{}: metadata.name: {twice}", document.place()));
        }
    }
    if !faults.is_empty() {
        return Err(invalid(&faults));
    }
    if documents.is_empty() {
        let names: Vec<_> = sources.iter().map(|source| source.name.as_str()).collect();
        return Err(Failure::usage(format!("no object stands in `{}`", names.join("`, `")))
            .next("see what one looks like: `nullius get grants -o yaml`"));
    }
    Ok(documents)
}

/// The failure for faults in files, all of them.
pub(crate) fn invalid(faults: &[String]) -> Failure {
    let what = match faults.len() {
        1 => "an object cannot be used; nothing was sent".to_owned(),
        count => format!("{count} faults in objects; nothing was sent"),
    };
    Failure::new(what)
        .why(faults.join("\n       "))
        .next("mend what is named, then run the command again")
}

/// The items of a list as `get -o yaml` prints it, or the document itself.
fn items(node: Node) -> Vec<Node> {
    let is_list = node.child("kind").and_then(Node::text).is_some_and(|kind| kind == "List");
    match node.child("items").map(|items| &items.content) {
        Some(Content::List(items)) if is_list => {
            items.iter().map(|item| Node::clone(item)).collect()
        }
        Some(_) | None => vec![node],
    }
}

/// Reads one object.
fn object(node: &Node) -> Result<AnyObject, FieldError> {
    let wrong = |path: &str, message: String| FieldError {
        line: node.line_of(path),
        path: path.to_owned(),
        fault: FieldFault::Value(message),
    };
    let Content::Map(entries) = &node.content else {
        return Err(wrong(
            "",
            "expected an object with `apiVersion`, `kind`, `metadata` and `spec`".to_owned(),
        ));
    };
    let text = |field: &str| match node.child(field) {
        None => Err(wrong(field, format!("the field `{field}` is missing"))),
        Some(value) => value.text().ok_or_else(|| wrong(field, "expected text".to_owned())),
    };
    let version = text("apiVersion")?;
    let kind_text = text("kind")?;
    if version != API_VERSION {
        let shown: String = version.chars().take(80).flat_map(char::escape_debug).collect();
        let advice = if version.starts_with("nullius.dev/") {
            format!("`{shown}` is unknown; use `{API_VERSION}`")
        } else {
            format!(
                "`{shown}` is not of Nullius (`{API_VERSION}`); apply Kubernetes objects with kubectl"
            )
        };
        return Err(wrong("apiVersion", advice));
    }
    if let Some(plane) = later::plane_of_kind(kind_text) {
        let message = format!("`{kind_text}` belongs to {plane}, which this version does not have");
        return Err(wrong("kind", message));
    }
    if KindHome::of(kind_text) == Some(KindHome::Cluster) {
        let message = format!(
            "a `{kind_text}` stands in a cluster, not at the hub; apply it there with kubectl"
        );
        return Err(wrong("kind", message));
    }
    let kind = kind_text.parse::<Kind>().ok().filter(|kind| kind.as_str() == kind_text);
    let kind = kind.ok_or_else(|| {
        let near = nearest(kind_text, Kind::ALL.map(Kind::as_str));
        let shown: String = kind_text.chars().take(80).flat_map(char::escape_debug).collect();
        wrong(
            "kind",
            match near {
                Some(near) => format!("`{shown}` is unknown; did you mean `{near}`?"),
                None => format!(
                    "`{shown}` is unknown; the hub keeps `{}`",
                    Kind::ALL.map(Kind::as_str).join("`, `")
                ),
            },
        )
    })?;
    let body = entries.iter().filter(|(key, _)| key.name != "apiVersion" && key.name != "kind");
    let body = node.with_entries(body.cloned().collect());
    let mut object = AnyObject::from_parts(kind, Reader(&body))?;
    object.forget_status();
    Ok(object)
}

/// Status belongs to the hub: what a file says of it is left out.
trait ForgetStatus {
    fn forget_status(&mut self);
}

impl ForgetStatus for AnyObject {
    fn forget_status(&mut self) {
        match self {
            Self::User(object) => object.status = None,
            Self::Group(object) => object.status = None,
            Self::Cluster(object) => object.status = None,
            Self::Role(object) => object.status = None,
            Self::Grant(object) => object.status = None,
            Self::Lock(object) => object.status = None,
            Self::Federation(object) => object.status = None,
        }
    }
}

fn told(source: &str, node: &Node, error: &FieldError) -> String {
    let kind = node.child("kind").and_then(Node::text).unwrap_or_default();
    let message = match &error.fault {
        FieldFault::Value(message) => message.clone(),
        FieldFault::Unknown { field, known } => {
            if let Some(plane) = later::plane_of_field(kind, &error.path) {
                let message = format!("belongs to {plane}, which this version does not have");
                return format!(
                    "{source}:{}: `{}` {message}",
                    error.line,
                    escape::cell(&error.path)
                );
            }
            if let Some(advice) = later::never(kind, &error.path) {
                return format!("{source}:{}: {}: {advice}", error.line, error.path);
            }
            match nearest(field, known.iter().copied()) {
                Some(near) => format!("unknown field; did you mean `{near}`?"),
                None if known.is_empty() => "unknown field".to_owned(),
                None => format!("unknown field; known here are `{}`", known.join("`, `")),
            }
        }
    };
    let path = if error.path.is_empty() {
        String::new()
    } else {
        format!(" {}:", escape::cell(&error.path))
    };
    format!("{source}:{}:{path} {message}", error.line.max(1))
}

/// The known word nearest to a typo: about a third of its letters may differ.
pub(crate) fn nearest<'a>(typo: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typo = typo.to_ascii_lowercase();
    let distances =
        known.into_iter().map(|word| (distance(&typo, &word.to_ascii_lowercase()), word));
    let near = distances.min_by_key(|(distance, _)| *distance)?;
    (near.0 <= (typo.chars().count() + 1) / 3).then_some(near.1)
}

/// Levenshtein distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(100).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().take(100).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
#[path = "document/tests.rs"]
mod tests;
