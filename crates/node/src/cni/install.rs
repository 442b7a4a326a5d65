//! The plugin's program and its place in the network's configuration, on a host where others write too.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use super::PLUGIN;

/// How often it is looked whether others have changed it.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Extensions of files that runtimes read.
const READ_BY_RUNTIMES: [&str; 3] = ["conf", "conflist", "json"];

/// Where a runtime looks for programs and networks, and what the plugin is told there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniHost {
    /// The directory of programs.
    pub programs: PathBuf,
    /// The directory of networks; the first file in it by name counts.
    pub networks: PathBuf,
    /// The node's socket for the plugin.
    pub socket: PathBuf,
    /// Namespaces whose pods are never led.
    pub pass_namespaces: Vec<String>,
}

/// Why the plugin is not in its place.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file cannot be read or written.
    #[error("cannot keep the plugin in `{path}`")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no network yet.
    #[error("there is no network in `{0}` yet: the cluster's own network comes first")]
    NoNetwork(PathBuf),
    /// The network is written in a form that takes no second plugin.
    #[error("`{0}` is no list of plugins: write it as a `.conflist`")]
    NoList(PathBuf),
}

/// Keeps the plugin in its place; `source` is the program.
pub(crate) async fn keep_installed(host: CniHost, source: PathBuf) {
    let mut before = None;
    let mut look = Look::Closely;
    loop {
        let (host, source) = (host.clone(), source.clone());
        let installed = tokio::task::spawn_blocking(move || install(&host, &source, look)).await;
        let told = match installed {
            Ok(Ok(changed)) => Ok(changed),
            Ok(Err(error)) => Err(match std::error::Error::source(&error) {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            }),
            Err(error) => Err(error.to_string()),
        };
        match told {
            Ok(changed) => {
                if changed {
                    tracing::info!("plugin installed");
                }
                look = Look::Briefly;
                before = None;
            }
            Err(error) => {
                if before.as_ref() != Some(&error) {
                    tracing::warn!(%error, "fail to install the plugin");
                }
                before = Some(error);
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// How it is found out whether the program is the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// By every byte: programs of two images may have the same time.
    Closely,
    /// By its size and time.
    Briefly,
}

/// Puts the plugin in its place; says whether anything was to be changed.
pub(super) fn install(host: &CniHost, source: &Path, look: Look) -> Result<bool, InstallError> {
    let program = host.programs.join(PLUGIN);
    // Whoever reads the network finds the program.
    let copied = copy_program(source, &program, look).map_err(failed(&program))?;
    let network = network(&host.networks)?;
    let entry = json!({
        "type": PLUGIN,
        "socket": host.socket,
        "passNamespaces": host.pass_namespaces,
    });
    Ok(rewrite(&network, Some(&entry))? || copied)
}

/// Takes the plugin out of all networks of a host, then its program.
pub fn uninstall(programs: &Path, networks: &Path) -> Result<(), InstallError> {
    for path in files(networks)? {
        if path.extension().is_some_and(|extension| extension == "conflist") {
            rewrite(&path, None)?;
        }
    }
    let program = programs.join(PLUGIN);
    match fs::remove_file(&program) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&program)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> InstallError {
    move |source| InstallError::File { path: path.to_owned(), source }
}

/// The file of the network that runtimes use: the first one by name.
fn network(folder: &Path) -> Result<PathBuf, InstallError> {
    let first = files(folder)?.into_iter().next();
    let first = first.ok_or_else(|| InstallError::NoNetwork(folder.to_owned()))?;
    match first.extension().is_some_and(|extension| extension == "conflist") {
        true => Ok(first),
        false => Err(InstallError::NoList(first)),
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, InstallError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| READ_BY_RUNTIMES.contains(&extension)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Makes the plugin the last of a network's, or none of them; says whether that was a change.
fn rewrite(path: &Path, entry: Option<&Value>) -> Result<bool, InstallError> {
    let bytes = fs::read(path).map_err(failed(path))?;
    let mut list: Value = serde_json::from_slice(&bytes)
        .map_err(|error| failed(path)(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    let Some(plugins) = list.get_mut("plugins").and_then(Value::as_array_mut) else {
        return Err(InstallError::NoList(path.to_owned()));
    };
    let before = plugins.clone();
    plugins.retain(|plugin| plugin["type"] != PLUGIN);
    plugins.extend(entry.cloned());
    if *plugins == before {
        return Ok(false);
    }
    let mode = fs::metadata(path).map_err(failed(path))?.permissions().mode();
    let text = format!("{list:#}\n");
    place(path, mode, |file| file.write_all(text.as_bytes())).map_err(failed(path))?;
    Ok(true)
}

/// Copies the program, where there is another or none.
fn copy_program(source: &Path, to: &Path, look: Look) -> io::Result<bool> {
    let from = fs::metadata(source)?;
    if let Ok(there) = fs::metadata(to)
        && there.len() == from.len()
        && there.mtime() == from.mtime()
        && there.permissions().mode() & 0o7777 == 0o755
        && (look == Look::Briefly || is_same(source, to)?)
    {
        return Ok(false);
    }
    let modified = from.modified()?;
    place(to, 0o755, |file| {
        io::copy(&mut File::open(source)?, file)?;
        file.set_modified(modified)
    })?;
    Ok(true)
}

fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) =
        (BufReader::new(File::open(one)?), BufReader::new(File::open(other)?));
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if left[..length] != right[..length] || left.is_empty() != right.is_empty() {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
        one.consume(length);
        other.consume(length);
    }
}

/// Writes a file beside its place, then moves it there: whoever reads finds one of the two whole.
fn place(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // No runtime reads a file of this name.
    let beside = path.with_file_name(format!(".{name}.nullius-new"));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = write(&mut file).and_then(|()| {
        file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests;
