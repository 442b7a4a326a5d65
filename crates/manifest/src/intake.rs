//! Texts from files, folders and standard input.
//!
//! Nothing here fails as a whole: what cannot be read is told ([`Unreadable`]) and the rest goes on. Folders give their
//! `.yaml`, `.yml` and `.json` files in order, without hidden ones; links lead nowhere outside of the folder.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The most bytes of one text.
pub const TEXT_MAX: u64 = 64 << 20;

/// The name of standard input.
pub const STDIN: &str = "stdin";

/// Text with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file as it was found, or `stdin`.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

/// Something that was not read, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The file or folder.
    pub name: String,
    /// Why.
    pub message: String,
}

impl Unreadable {
    fn new(path: &Path, message: impl Into<String>) -> Self {
        Self { name: path.display().to_string(), message: message.into() }
    }

    fn failed(path: &Path, doing: &str, error: &io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "it does not exist".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        Self::new(path, format!("cannot {doing}: {why}"))
    }
}

/// Hands over each text below the paths, one at a time; `-` is standard input. A path that is named twice is read once.
pub fn walk(
    paths: &[PathBuf],
    input: &mut dyn Read,
    each: &mut dyn FnMut(Result<Source, Unreadable>),
) {
    let mut named = BTreeSet::new();
    for path in paths {
        if path == Path::new("-") {
            each(read_text(input, Path::new(STDIN)));
            continue;
        }
        if fs::canonicalize(path).is_ok_and(|real| !named.insert(real)) {
            continue;
        }
        match fs::metadata(path) {
            Err(error) => each(Err(Unreadable::failed(path, "read it", &error))),
            Ok(metadata) if metadata.is_dir() => match fs::canonicalize(path) {
                Err(error) => each(Err(Unreadable::failed(path, "read it", &error))),
                Ok(root) => {
                    let mut folder =
                        Folder { above: vec![root.clone()], seen: BTreeSet::new(), root };
                    folder.walk(path, each);
                }
            },
            // What a person names is read whatever it is: `<(helm template …)` is a pipe.
            Ok(_) => each(read_file(path)),
        }
    }
}

/// A walk through one folder.
struct Folder {
    root: PathBuf,
    /// The folders around the present one, without links.
    above: Vec<PathBuf>,
    /// Folders that were walked by a link or are reached by one.
    seen: BTreeSet<PathBuf>,
}

impl Folder {
    fn walk(&mut self, folder: &Path, each: &mut dyn FnMut(Result<Source, Unreadable>)) {
        let failed = |error: &io::Error| Unreadable::failed(folder, "list the folder", error);
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return each(Err(failed(&error))),
        };
        let mut paths = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) => paths.push(entry.path()),
                Err(error) => each(Err(failed(&error))),
            }
        }
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with('.') {
                self.entry(&path, each);
            }
        }
    }

    fn entry(&mut self, path: &Path, each: &mut dyn FnMut(Result<Source, Unreadable>)) {
        let linked = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata.is_symlink(),
            Err(error) => return each(Err(Unreadable::failed(path, "read it", &error))),
        };
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error)
                if linked && !is_manifest(path) && error.kind() == io::ErrorKind::NotFound =>
            {
                return;
            }
            Err(error) => return each(Err(Unreadable::failed(path, "follow the link", &error))),
        };
        if !metadata.is_dir() && !is_manifest(path) {
            return;
        }
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) => return each(Err(Unreadable::failed(path, "read it", &error))),
        };
        if linked && !real.starts_with(&self.root) {
            let message =
                "the link leads out of the folder and is not followed; name the file itself";
            return each(Err(Unreadable::new(path, message)));
        }
        if !metadata.is_dir() {
            return each(if metadata.is_file() {
                read_file(path)
            } else {
                Err(Unreadable::new(path, "it is no regular file"))
            });
        }
        if self.above.contains(&real) {
            return each(Err(Unreadable::new(path, "the link leads back to a folder around it")));
        }
        if self.seen.insert(real.clone()) {
            self.above.push(real);
            self.walk(path, each);
            self.above.pop();
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    let end = path.extension().unwrap_or_default().to_ascii_lowercase();
    ["yaml", "yml", "json"].iter().any(|wanted| end == *wanted)
}

fn read_file(path: &Path) -> Result<Source, Unreadable> {
    let mut file = File::open(path).map_err(|error| Unreadable::failed(path, "open it", &error))?;
    read_text(&mut file, path)
}

fn read_text(from: &mut dyn Read, path: &Path) -> Result<Source, Unreadable> {
    let mut bytes = Vec::new();
    let read = from.take(TEXT_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Unreadable::failed(path, "read it", &error))?;
    if bytes.len() as u64 > TEXT_MAX {
        let message = format!("it is larger than {} MiB; split it", TEXT_MAX >> 20);
        return Err(Unreadable::new(path, message));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Unreadable::new(path, "it is UTF-16; save it as UTF-8"));
    }
    if bytes.contains(&0) {
        return Err(Unreadable::new(path, "it is binary, not text"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { name: path.display().to_string(), text }),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(Unreadable::new(path, format!("it is no UTF-8 text: line {line} has other bytes")))
        }
    }
}
