//! What a node knows after a restart while `agent identity` is away: registrations and bundles as they were told last. No key and no
//! SVID is ever among them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use nullius_model::TrustDomain;
use nullius_proto::node_v1::Registrations;
use nullius_workload::wire::{REGISTRATIONS_MAX, Told, WireError, read_registrations};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

/// What the file begins with; its digest follows, then the message.
const MAGIC: &[u8] = b"nullius-node-1\n";
const DIGEST: usize = 32;
/// The file with what is registered.
const NAME: &str = "registrations";

/// The file in which it stands.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    folder: PathBuf,
}

/// Why nothing is remembered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    #[error("it is torn, or no file of a node")]
    Torn,
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("it is of the trust domain `{0}`")]
    OtherDomain(TrustDomain),
}

impl Memory {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    #[cfg(test)]
    fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    /// What was told last, if it was of this trust domain.
    pub(crate) fn read(&self, domain: &TrustDomain) -> Result<Option<Told>, MemoryError> {
        let Some(message) = read_message(&self.folder, NAME, REGISTRATIONS_MAX)? else {
            return Ok(None);
        };
        let message = nullius_proto::decode(&message).ok_or(MemoryError::Torn)?;
        let told = read_registrations(message)?;
        match told.registered.trust_domain == *domain {
            true => Ok(Some(told)),
            false => Err(MemoryError::OtherDomain(told.registered.trust_domain)),
        }
    }

    /// Remembers what is told, the last of it where it is told faster than the disk writes.
    pub(crate) async fn keep(self, mut told: watch::Receiver<Option<Arc<Registrations>>>) {
        while told.changed().await.is_ok() {
            let Some(message) = told.borrow_and_update().clone() else { continue };
            let memory = self.clone();
            let written = tokio::task::spawn_blocking(move || memory.write(&message)).await;
            if let Err(error) = written.unwrap_or_else(|error| Err(io::Error::other(error))) {
                tracing::error!(%error, "fail to remember what is registered for a restart");
            }
        }
    }

    fn write(&self, message: &Registrations) -> io::Result<()> {
        write_message(&self.folder, NAME, &nullius_proto::encode(message))
    }
}

/// What was remembered by a name; nothing where nothing was.
pub(crate) fn read_message(
    folder: &Path,
    name: &str,
    most: usize,
) -> Result<Option<Vec<u8>>, MemoryError> {
    let file = match File::open(folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let most = most + MAGIC.len() + DIGEST;
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    let parts = bytes.strip_prefix(MAGIC).and_then(|rest| rest.split_at_checked(DIGEST));
    let (digest, message) = parts.ok_or(MemoryError::Torn)?;
    match Sha256::digest(message).as_slice() == digest && bytes.len() <= most {
        true => Ok(Some(message.to_vec())),
        false => Err(MemoryError::Torn),
    }
}

/// Remembers a message instead of the one before; after a fall of power it is one of the two.
pub(crate) fn write_message(folder: &Path, name: &str, message: &[u8]) -> io::Result<()> {
    let beside = folder.join(format!("{name}.new"));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    for part in [MAGIC, Sha256::digest(message).as_slice(), message] {
        file.write_all(part)?;
    }
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::os::unix::fs::PermissionsExt as _;

    use nullius_proto::node_v1::Bundle;

    use super::*;

    fn message(reissue_before: i64) -> Registrations {
        let domain = "shop.example".to_owned();
        let bundles = vec![Bundle { trust_domain: domain.clone(), jwks: br#"{"keys":[]}"#.into() }];
        Registrations { trust_domain: domain, entries: Vec::new(), bundles, reissue_before }
    }

    #[test]
    fn what_was_told_last_is_known_and_nothing_else_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new(folder.path());
        let own = "shop.example".parse().unwrap();
        assert!(memory.read(&own).unwrap().is_none());
        memory.write(&message(1)).unwrap();
        memory.write(&message(2)).unwrap();
        let told = memory.read(&own).unwrap().unwrap();
        assert_eq!(told.registered.reissue_before.unwrap().as_nanosecond(), 2);
        let mode = fs::metadata(memory.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = "bank.example".parse().unwrap();
        assert!(matches!(memory.read(&other), Err(MemoryError::OtherDomain(_))));
        let whole = fs::read(memory.path()).unwrap();
        for cut in [0, 7, MAGIC.len() + 3, whole.len() - 1] {
            fs::write(memory.path(), &whole[..cut]).unwrap();
            assert!(matches!(memory.read(&own), Err(MemoryError::Torn)), "{cut}");
        }
        let mut changed = whole;
        *changed.last_mut().unwrap() ^= 1;
        fs::write(memory.path(), changed).unwrap();
        assert!(matches!(memory.read(&own), Err(MemoryError::Torn)));
    }
}
