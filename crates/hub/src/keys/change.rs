//! A change of keys on its way from the operator's command to the hub: one file in the state directory, sealed like the
//! keys themselves, so that only who can open them can change them. A hub that runs takes it in within seconds, one
//! that is started does so first.

use std::path::{Path, PathBuf};

use nullius_model::Timestamp;
use nullius_pki::{KeySetError, SealError, Sealer};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::KeysError;

/// The file, in the state directory.
const FILE: &str = "keys.next";
/// A change that was refused is set aside under this name.
const REFUSED: &str = "keys.refused";
/// The name under which a change is sealed.
const SEALED_NAME: &str = "key change";
/// Longer files are not read.
const FILE_MAX: u64 = 256 * 1024;

/// What the operator wants.
#[derive(Serialize, Deserialize)]
#[serde(
    tag = "change",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub(crate) enum KeyChange {
    /// Another signer.
    Rotate {
        /// Signed by the offline key.
        key_set: String,
        /// PKCS#8, hexadecimal.
        signer: String,
        /// From when it signs.
        from: Timestamp,
    },
    /// The offline key is kept elsewhere from now on; its public half.
    ForgetOfflineKey { public: String },
}

impl Drop for KeyChange {
    fn drop(&mut self) {
        if let Self::Rotate { signer, .. } = self {
            signer.zeroize();
        }
    }
}

/// A change of keys that is not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Another waits.
    #[error(
        "a change of keys waits in `{}`: start the hub, it takes it in first", .0.display()
    )]
    Waits(PathBuf),
    /// The file cannot be read or written.
    #[error("`{}` cannot be used", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file is none of ours.
    #[error("the change of keys cannot be read; it was not made for this hub, or is damaged")]
    Unreadable,
    /// The key set is refused.
    #[error("the key set of the change is refused")]
    KeySet(#[from] KeySetError),
    /// The key set does not name the new signer.
    #[error("the key set of the change does not name its signer for the time when it signs")]
    Unnamed,
    /// Another hub's.
    #[error("the change is for another offline key than this hub's")]
    OtherKey,
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] nullius_store::StoreError),
}

/// Where the change of a state directory lies.
pub(crate) fn place(state: &Path) -> PathBuf {
    state.join(FILE)
}

/// Leaves a change for the hub; refused while another waits.
pub(crate) fn leave(state: &Path, change: &KeyChange, sealer: &Sealer) -> Result<(), ChangeError> {
    let path = place(state);
    let text = serde_json::to_vec(change).map_err(|_| ChangeError::Unreadable)?;
    let sealed = sealer.seal(SEALED_NAME, &Zeroizing::new(text))?;
    let draft = state.join(format!("{FILE}.{}", std::process::id()));
    let written = write_whole(&draft, &sealed)
        // A link never replaces a file, and shows the change whole or not at all.
        .and_then(|()| std::fs::hard_link(&draft, &path))
        .and_then(|()| std::fs::File::open(state)?.sync_all());
    let _ = std::fs::remove_file(&draft);
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(ChangeError::Waits(path))
        }
        written => written.map_err(|source| ChangeError::File { path, source }),
    }
}

/// Reads the change that waits.
pub(crate) fn find(state: &Path, sealer: &Sealer) -> Result<Option<KeyChange>, ChangeError> {
    let path = place(state);
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ChangeError::File { path, source }),
    };
    let mut sealed = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_MAX), &mut sealed)
        .map_err(|source| ChangeError::File { path, source })?;
    let plain = sealer.open_sealed(SEALED_NAME, &sealed).map_err(|_| ChangeError::Unreadable)?;
    serde_json::from_slice(&plain).map(Some).map_err(|_| ChangeError::Unreadable)
}

/// Whether a change waits.
pub(crate) fn waits(state: &Path) -> bool {
    place(state).exists()
}

/// Takes the change away: it holds.
pub(crate) fn done(state: &Path) -> std::io::Result<()> {
    std::fs::remove_file(place(state))
}

/// Sets the change aside: it is refused.
pub(crate) fn refuse(state: &Path) -> std::io::Result<()> {
    std::fs::rename(place(state), state.join(REFUSED))
}

fn write_whole(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}
