//! The state directory: made 0700, files 0600, and held by one process at a time.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use crate::OpenError;

/// The state directory while this process holds it; let go when dropped, or when the process ends in any way.
#[derive(Debug)]
pub(crate) struct Held {
    _lock: File,
    temporary: Option<PathBuf>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(directory) = &self.temporary
            && let Err(error) = std::fs::remove_dir_all(directory)
        {
            tracing::warn!(%error, directory = %directory.display(), "cannot remove a store in memory");
        }
    }
}

/// Makes and holds a directory that goes with the process's last use of it, in memory where the system has such a place.
pub(crate) fn hold_temporary() -> Result<(PathBuf, Held), OpenError> {
    let shared_memory = Path::new("/dev/shm");
    let base = if shared_memory.is_dir() { shared_memory.to_owned() } else { std::env::temp_dir() };
    let directory = base.join(format!("nullius-{}", uuid::Uuid::new_v4().simple()));
    let mut held = hold(&directory)?;
    held.temporary = Some(directory.clone());
    Ok((directory, held))
}

/// The database file in a state directory.
pub(crate) fn database_file(directory: &Path) -> PathBuf {
    directory.join("store.db")
}

/// Makes the directory where there is none, takes its lock, and makes the database file with its mode.
pub(crate) fn hold(directory: &Path) -> Result<Held, OpenError> {
    let unusable = |source| OpenError::Directory { path: directory.to_owned(), source };
    make(directory).map_err(unusable)?;
    let mut lock = open_private(&directory.join("lock")).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::InUse {
                path: directory.to_owned(),
                process: holder(&mut lock),
            });
        }
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    // The number only serves the message above; a full disk must not keep the hub from starting.
    if let Err(error) = sign(&mut lock) {
        tracing::warn!(%error, "cannot note the process in the lock file");
    }
    open_private(&database_file(directory)).map_err(unusable)?;
    Ok(Held { _lock: lock, temporary: None })
}

/// Whether a process holds a state directory now. A directory that was never held is held by nobody.
pub fn is_held(directory: &Path) -> Result<bool, OpenError> {
    let unusable = |source| OpenError::Directory { path: directory.to_owned(), source };
    let lock = match File::open(directory.join("lock")) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(unusable(error)),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

fn sign(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.take(32).read_to_string(&mut text);
    let number = text.trim();
    if read.is_ok() && !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()) {
        number.to_owned()
    } else {
        "(unknown)".to_owned()
    }
}

#[cfg(unix)]
fn make(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mode = std::fs::metadata(directory)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(
            directory = %directory.display(),
            mode = format!("{:o}", mode & 0o7777),
            "find the state directory open to others; make it 0700"
        );
    }
    Ok(())
}

#[cfg(not(unix))]
fn make(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)
}

/// Opens a file for reading and writing, making it readable by its owner alone; SQLite gives its side files the same mode.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
        options.mode(0o600);
        let file = options.open(path)?;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}
