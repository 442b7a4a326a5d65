//! An object in the person's editor: opened, checked, opened again while it cannot be read.

use std::{ffi::OsStr, io::Write, path::Path, process::Command};

use nullius_model::AnyObject;

use super::{
    document::{self, Document, Source},
    remote::written_part,
};
use crate::{
    environment::{Confirmed, Environment},
    failure::{Failure, file_failure},
    output::yaml_text,
};

/// What came out of the editor.
pub(crate) enum Edited {
    /// The object is as it was.
    Unchanged,
    /// The object was changed; it still carries the version that was opened.
    Changed(Box<Document>),
}

/// Opens an object in the editor until it can be read or the person gives up.
pub(crate) async fn edit(
    object: &AnyObject,
    environment: &mut Environment,
) -> Result<Edited, Failure> {
    let editor = environment.editor.clone().unwrap_or_else(|| "vi".into());
    let label = format!("{}/{}", object.kind(), object.name());
    let body = yaml_text(&written_part(object)?)?;
    let head = format!(
        "# {label}\n# Save to apply, or leave unchanged to cancel. Lines that begin with # are left out.\n"
    );
    let mut file = tempfile::Builder::new()
        .prefix("nullius-")
        .suffix(".yaml")
        .tempfile()
        .map_err(|error| Failure::new("cannot make a file for the editor").because(error))?;
    file.write_all(format!("{head}{body}").as_bytes())
        .map_err(|error| file_failure("write", file.path(), error))?;
    // The editor may replace the file instead of writing into it: only its path is kept.
    let path = file.into_temp_path();
    loop {
        run(&editor, &path)?;
        let text =
            std::fs::read_to_string(&path).map_err(|error| file_failure("read", &path, error))?;
        if text == format!("{head}{body}") || text.trim().is_empty() {
            return Ok(Edited::Unchanged);
        }
        let failure = match read_one(&label, text, object) {
            Ok(None) => return Ok(Edited::Unchanged),
            Ok(Some(document)) => return Ok(Edited::Changed(Box::new(document))),
            Err(failure) => failure,
        };
        environment.terminal.tell(&failure.lines(crate::failure::Chain::Hidden));
        if !environment.answers.can_ask()
            || environment.answers.confirm("Open the editor again?").await? == Confirmed::No
        {
            return Err(failure);
        }
    }
}

/// The changed object, or nothing when only its form was changed.
fn read_one(label: &str, text: String, before: &AnyObject) -> Result<Option<Document>, Failure> {
    let mut documents = document::read(vec![Source { name: label.to_owned(), text }])?;
    let (Some(mut document), true) = (documents.pop(), documents.is_empty()) else {
        return Err(Failure::new("more than one object stands in the file")
            .next("leave one in it; make others with `nullius apply -f FILE`"));
    };
    if document.label() != label {
        return Err(Failure::new(format!("`{label}` became `{}`", document.label()))
            .why("kind and name cannot be changed")
            .next("make a new object: `nullius apply -f FILE`"));
    }
    if written_part(&document.object)? == written_part(before)? {
        return Ok(None);
    }
    document.object.metadata_mut().resource_version = before.metadata().resource_version.clone();
    Ok(Some(document))
}

fn run(editor: &OsStr, path: &Path) -> Result<(), Failure> {
    // `EDITOR` may hold arguments (`code --wait`), which a shell takes apart.
    let ended = Command::new("sh")
        .args([OsStr::new("-c"), OsStr::new("exec $EDITOR_COMMAND \"$1\""), OsStr::new("editor")])
        .arg(path)
        .env("EDITOR_COMMAND", editor)
        .status()
        .map_err(|error| {
            Failure::new("cannot start the editor")
                .because(error)
                .next("set `EDITOR` to a program that is installed")
        })?;
    if ended.success() {
        return Ok(());
    }
    Err(Failure::new(format!("the editor `{}` failed", editor.to_string_lossy()))
        .why(ended.to_string())
        .next("set `EDITOR` to an editor of yours"))
}
