//! The file that holds the offline key: made once, carried away, brought back for the moment of a signature.
//!
//! With a passphrase the key in it is sealed (argon2id, AES-256-GCM) and the file may lie on any stick. Without one only
//! the file's mode guards it, and a file that others may read is refused. It never replaces another file.

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    KeyError, KeySetSigner, SealError, Sealer,
    seal::source::{Derivation, check_owner_only, shown, write_new},
};

const API_VERSION: &str = "nullius.dev/v1alpha1";
const KIND: &str = "OfflineKey";
/// The name under which the key is sealed.
const SEALED_NAME: &str = "offline key file";
/// Longer files are not read.
const FILE_MAX: u64 = 16 * 1024;

/// Where an offline key is kept, and what opens it.
#[derive(Clone)]
pub struct OfflineKeyFile {
    /// The file.
    pub path: PathBuf,
    /// What seals the key in it; without one only the file's mode guards it.
    pub passphrase: Option<SecretString>,
}

/// An offline key that cannot be kept or used.
#[derive(Debug, thiserror::Error)]
pub enum OfflineKeyError {
    /// No such file.
    #[error("`{0}` is missing: bring the file that was made with the hub, or a copy of it")]
    Missing(String),
    /// Something is there already.
    #[error("`{0}` exists already and is left alone: name a file that does not exist")]
    Exists(String),
    /// The key in it is sealed.
    #[error(
        "the key in `{0}` is sealed: give its passphrase with `--offline-key-passphrase-file FILE` or in \
         `NULLIUS_OFFLINE_KEY_PASSPHRASE`"
    )]
    NeedsPassphrase(String),
    /// Another file.
    #[error("`{0}` is not an offline key of nullius, or damaged")]
    Damaged(String),
    /// It cannot be opened or written.
    #[error("the offline key cannot be used")]
    Seal(#[from] SealError),
    /// The key itself.
    #[error("the offline key cannot be used")]
    Key(#[from] KeyError),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    api_version: String,
    kind: String,
    /// The public half, to tell files apart.
    public: String,
    /// How the passphrase seals the key; absent where nothing seals it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealing: Option<Derivation>,
    /// PKCS#8, sealed or not, hexadecimal.
    key: String,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl OfflineKeyFile {
    /// Writes a key to a new file of mode 0600, on the disk when this returns.
    pub fn write(&self, key: &KeySetSigner) -> Result<(), OfflineKeyError> {
        let plain = key.to_pkcs8()?;
        let (sealing, bytes) = match &self.passphrase {
            None => (None, plain),
            Some(passphrase) => {
                let (sealing, sealer) = Derivation::make(passphrase)?;
                let sealed = sealer.seal(SEALED_NAME, &plain)?;
                (Some(sealing), Zeroizing::new(sealed))
            }
        };
        let stored = Stored {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            public: key.public().to_string(),
            sealing,
            key: hex::encode(&*bytes),
        };
        let text = serde_json::to_string_pretty(&stored);
        let text = Zeroizing::new(text.map_err(|_| OfflineKeyError::Damaged(self.shown()))? + "\n");
        self.create(text.as_bytes())
    }

    fn create(&self, content: &[u8]) -> Result<(), OfflineKeyError> {
        let Err(error) = write_new(&self.path, content) else {
            return sync_directory(&self.path).map_err(|error| self.fault("written", error));
        };
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return Err(OfflineKeyError::Exists(self.shown()));
        }
        // Half a key is no key. Where nothing was made there is nothing to remove.
        let _ = std::fs::remove_file(&self.path);
        Err(self.fault("written", error))
    }

    /// Reads the key.
    pub fn read(&self) -> Result<KeySetSigner, OfflineKeyError> {
        let file = match std::fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(OfflineKeyError::Missing(self.shown()));
            }
            Err(error) => return Err(self.fault("read", error)),
        };
        let metadata = file.metadata().map_err(|error| self.fault("read", error))?;
        let mut text = Zeroizing::new(String::new());
        std::io::Read::read_to_string(&mut std::io::Read::take(file, FILE_MAX), &mut text)
            .map_err(|error| self.fault("read", error))?;
        let damaged = || OfflineKeyError::Damaged(self.shown());
        let stored: Stored = serde_json::from_str(&text).map_err(|_| damaged())?;
        if stored.api_version != API_VERSION || stored.kind != KIND {
            return Err(damaged());
        }
        let bytes = Zeroizing::new(hex::decode(&stored.key).map_err(|_| damaged())?);
        let plain = match &stored.sealing {
            // A stick's file system may know no modes; what is sealed does not need them.
            Some(sealing) => {
                let passphrase = self.passphrase.as_ref();
                let passphrase =
                    passphrase.ok_or_else(|| OfflineKeyError::NeedsPassphrase(self.shown()))?;
                let sealer: Sealer = sealing.open(passphrase, &self.path)?;
                sealer.open_sealed(SEALED_NAME, &bytes)?
            }
            None => {
                check_owner_only(&self.path, &metadata)?;
                bytes
            }
        };
        let key = KeySetSigner::from_pkcs8(&plain).map_err(|_| damaged())?;
        if key.public().to_string() != stored.public {
            return Err(damaged());
        }
        Ok(key)
    }

    fn shown(&self) -> String {
        shown(&self.path)
    }

    fn fault(&self, action: &'static str, source: std::io::Error) -> OfflineKeyError {
        SealError::File { path: self.shown(), action, source }.into()
    }
}

impl std::fmt::Debug for OfflineKeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OfflineKeyFile").field("path", &self.path).finish_non_exhaustive()
    }
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn file(directory: &Path, passphrase: Option<&str>) -> OfflineKeyFile {
        OfflineKeyFile {
            path: directory.join("offline.key"),
            passphrase: passphrase.map(SecretString::from),
        }
    }

    #[test]
    fn a_key_comes_back_from_its_file_and_the_file_is_never_replaced() {
        for passphrase in [None, Some("correct horse battery")] {
            let directory = tempfile::tempdir().unwrap();
            let kept = file(directory.path(), passphrase);
            assert!(matches!(kept.read().err().unwrap(), OfflineKeyError::Missing(_)));
            let key = KeySetSigner::generate().unwrap();
            kept.write(&key).unwrap();
            assert_eq!(kept.read().unwrap().public(), key.public());
            let other = KeySetSigner::generate().unwrap();
            assert!(matches!(kept.write(&other).unwrap_err(), OfflineKeyError::Exists(_)));
            assert_eq!(kept.read().unwrap().public(), key.public());
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_a_sealed_key_may_be_read_by_others() {
        use std::os::unix::fs::PermissionsExt as _;
        for (passphrase, refused) in [(None, true), (Some("correct horse battery"), false)] {
            let directory = tempfile::tempdir().unwrap();
            let kept = file(directory.path(), passphrase);
            kept.write(&KeySetSigner::generate().unwrap()).unwrap();
            let mode = std::fs::metadata(&kept.path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let open = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(&kept.path, open).unwrap();
            assert_eq!(kept.read().is_err(), refused);
        }
    }

    #[test]
    fn without_the_passphrase_the_file_gives_nothing_away() {
        let directory = tempfile::tempdir().unwrap();
        let key = KeySetSigner::generate().unwrap();
        file(directory.path(), Some("correct horse battery")).write(&key).unwrap();
        let text = std::fs::read_to_string(directory.path().join("offline.key")).unwrap();
        assert!(!text.contains(&hex::encode(&*key.to_pkcs8().unwrap())));
        let error = file(directory.path(), None).read().err().unwrap();
        assert!(matches!(error, OfflineKeyError::NeedsPassphrase(_)), "{error}");
        let error = file(directory.path(), Some("wrong horse battery")).read().err().unwrap();
        assert!(matches!(error, OfflineKeyError::Seal(SealError::Passphrase)), "{error}");
        for damaged in [
            "",
            "{}",
            &text.replace("OfflineKey", "Key"),
            &text.replace("\"public\": \"", "\"public\": \"A"),
        ] {
            std::fs::write(directory.path().join("offline.key"), damaged).unwrap();
            assert!(file(directory.path(), Some("correct horse battery")).read().is_err());
        }
    }
}
