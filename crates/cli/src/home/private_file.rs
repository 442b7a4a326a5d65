//! Files that only their owner may read: written whole by rename, refused when others could have read or written them.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::Path,
};

use crate::failure::{Failure, file_failure};

/// Makes a directory of mode 0700, or checks that nobody else can write to the one that is there.
pub(crate) fn private_directory(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| file_failure("make the directory", path, error))?;
    let found = fs::metadata(path).map_err(|error| file_failure("read", path, error))?;
    if found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(Failure::new(format!("refused to use the directory `{}`", path.display()))
            .why("others own it or may write to it")
            .next(format!("make it yours alone: `chmod 700 {}`", path.display())));
    }
    Ok(())
}

/// Reads a secret file; nothing when it is not there.
pub(crate) fn read_private(path: &Path) -> Result<Option<String>, Failure> {
    let mut file = match OpenOptions::new().read(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_failure("read", path, error)),
    };
    // The open file is judged, not the path: nobody can exchange it in between.
    let found = file.metadata().map_err(|error| file_failure("read", path, error))?;
    if found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o077 != 0 {
        return Err(Failure::new(format!("refused to read `{}`", path.display()))
            .why("it holds secrets, and others own it or may read it")
            .next(format!(
                "delete it and sign in again: `rm {} && nullius login`",
                path.display()
            )));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|error| file_failure("read", path, error))?;
    Ok(Some(text))
}

/// Writes a file of mode 0600 whole: a reader sees the old text or the new one, also after a crash.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error| file_failure("write", path, error);
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Removes a file; one that is not there is gone already.
pub(crate) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(file_failure("remove", path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_file_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("session.json");
        assert!(read_private(&path).unwrap().is_none());
        write_private(&path, "secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_private(&path).unwrap().unwrap(), "secret");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_private(&path).is_err());
        remove(&path).unwrap();
        remove(&path).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a").join("b");
        private_directory(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(private_directory(&path).is_err());
    }
}
