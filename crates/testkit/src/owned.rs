//! Whose files these are: what is removed without a question was made here, and says so.
//!
//! Every directory of ours carries a mark, a file that says in words what the directory is for. A directory gets it while
//! it is new or empty; one that holds anything else is somebody's, and is refused. Nothing goes through a symbolic link.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use rustix::fs::OFlags;

/// The file that makes a directory ours.
pub(crate) const MARK: &str = "nullius-dev-owned.txt";

const MARK_TEXT: &str = "This directory was made for development clusters of Nullius (`cargo xtask up`, `test`, \
                         `cluster`, `bench`).\nIt is removed with all that it holds when they end: keep nothing of \
                         yours in it.\n";

const LOCK_TEXT: &str = "A lock of the development clusters of Nullius, held while the one of this name starts or ends.\n";

/// Makes a directory that is ours alone, and refuses one that somebody else has put there.
pub(crate) fn private_directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the directory `{}`", path.display()))?;
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() || found.uid() != rustix::process::getuid().as_raw() {
        bail!(
            "`{}` is not a directory of this user; remove it or name another one",
            path.display()
        );
    }
    Ok(())
}

/// Makes a directory that is ours, or takes one that is empty or carries our mark.
pub(crate) fn make(path: &Path) -> Result<()> {
    private_directory(path)?;
    if is_marked(path) {
        return Ok(());
    }
    let foreign = names(path)?;
    if !foreign.is_empty() {
        bail!("{}", refusal(path, &foreign));
    }
    mark(path)
}

/// Why a directory with these entries is not touched, and what to do.
pub(crate) fn refusal(path: &Path, foreign: &[String]) -> String {
    const SHOWN: usize = 4;
    let mut listed: Vec<_> = foreign.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if foreign.len() > SHOWN {
        listed.push(format!("{} more", foreign.len() - SHOWN));
    }
    format!(
        "`{}` holds files that no development cluster made: {}; nothing was changed: name a new or an empty directory, \
         or move these files away",
        path.display(),
        listed.join(", ")
    )
}

/// Says in a directory that it is ours.
pub(crate) fn mark(path: &Path) -> Result<()> {
    let file = path.join(MARK);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).custom_flags(no_follow());
    let write = || options.open(&file)?.write_all(MARK_TEXT.as_bytes());
    write().with_context(|| format!("cannot write `{}`", file.display()))
}

/// Whether this is a directory, not a link to one, that carries our mark.
pub(crate) fn is_marked(path: &Path) -> bool {
    is_directory(path) && fs::symlink_metadata(path.join(MARK)).is_ok_and(|found| found.is_file())
}

/// Whether this is a directory, not a link to one.
pub(crate) fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// The names of what a directory holds, sorted.
pub(crate) fn names(path: &Path) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(path).with_context(|| format!("cannot list `{}`", path.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Removes a directory with all that it holds if it is ours or empty; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.is_dir() {
        bail!("`{}` is no directory of a development cluster: move it away", path.display());
    }
    if is_marked(path) {
        return fs::remove_dir_all(path)
            .with_context(|| format!("cannot remove `{}`", path.display()));
    }
    fs::remove_dir(path).with_context(|| {
        format!(
            "`{}` was not made by a development cluster and is not empty: move it away",
            path.display()
        )
    })
}

/// Removes our mark and then the directory, if nothing else is in it; else both stay.
pub(crate) fn remove_if_bare(path: &Path) -> Result<()> {
    if !is_marked(path) || names(path)? != [MARK] {
        return Ok(());
    }
    fs::remove_file(path.join(MARK))?;
    // Another run may have begun in it meanwhile: then it stays, as ours.
    if fs::remove_dir(path).is_err() && path.exists() {
        mark(path)?;
    }
    Ok(())
}

/// Opens a lock of ours and makes it if need be; a file of that name that is somebody else's is refused.
pub(crate) fn open_lock(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).custom_flags(no_follow());
    let mut file =
        options.open(path).with_context(|| format!("cannot make the lock `{}`", path.display()))?;
    let mut text = String::new();
    let read = file.read_to_string(&mut text);
    // One that an older version made is empty.
    if read.is_err() || !LOCK_TEXT.starts_with(text.as_str()) {
        bail!("`{}` is no lock of a development cluster: move it away", path.display());
    }
    Ok(file)
}

/// Says in a lock that is held whose it is.
pub(crate) fn sign_lock(file: &mut File) -> Result<()> {
    if file.metadata()?.len() != LOCK_TEXT.len() as u64 {
        file.set_len(0)?;
        file.write_all(LOCK_TEXT.as_bytes())?;
    }
    Ok(())
}

/// Whether this file is a lock that [`sign_lock`] wrote.
pub(crate) fn is_lock(path: &Path) -> bool {
    let found = fs::symlink_metadata(path);
    found.is_ok_and(|found| found.is_file() && found.len() == LOCK_TEXT.len() as u64)
        && fs::read_to_string(path).is_ok_and(|text| text == LOCK_TEXT)
}

fn no_follow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}
