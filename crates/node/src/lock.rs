//! One node at a time: who holds the lock serves, and whoever comes meanwhile waits for its end.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The lock, until it is dropped or the process ends, however that comes.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Waits for the lock of a folder, which is made where there is none. The folder itself is locked: a full disk has no room for
/// another file, and is no reason to give nobody an identity.
pub(crate) async fn lock(folder: &Path) -> io::Result<Lock> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let file = File::open(folder)?;
    let mut is_told = false;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(errno) => return Err(errno.into()),
        }
        if !is_told {
            tracing::info!("wait for the end of another node");
            is_told = true;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node");
        let first = lock(&path).await.unwrap();
        let short = Duration::from_millis(20);
        assert!(tokio::time::timeout(short, lock(&path)).await.is_err());
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "it takes no room");
        drop(first);
        lock(&path).await.unwrap();
    }
}
