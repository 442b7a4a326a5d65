//! The keys of a state directory: made on first start, found and opened afterwards.

use std::path::PathBuf;

use nullius_model::Timestamp;
use nullius_pki::{KeySetSigner, KeySource, OfflineKeyError, OfflineKeyFile, SealError, Sealer};
use nullius_store::{Sealed, Store, StoreError};

use super::{Keys, KeysError, SealedKeys, missing_workload_root, open_facts};
use crate::settings::{HubSettings, Sealing};

/// What opens the keys: a random key, or how a passphrase becomes one.
const KEY_FILE: &str = "key";
const KEY_DERIVATION: &str = "key-derivation.json";

/// Keys that cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenKeysError {
    /// The key-encryption key is not there, though keys are sealed under it.
    #[error(
        "the key file `{}` is missing: without it the hub's keys stay sealed, so nothing was started or written; {hint}",
        file.display()
    )]
    KeyFileGone {
        /// What is missing.
        file: PathBuf,
        /// What to do.
        hint: String,
    },
    /// The hub was made before.
    #[error(
        "the hub in `{}` has its keys already: carry the offline key away with `nullius hub keys export FILE`",
        .0.display()
    )]
    MadeBefore(PathBuf),
    /// The file of the offline key cannot be used.
    #[error(transparent)]
    Offline(#[from] OfflineKeyError),
    /// The key-encryption key cannot be used.
    #[error("the hub's keys cannot be unsealed")]
    Seal(#[from] SealError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The keys of a store: opened, or made where it has none.
pub(crate) async fn open_or_make(
    store: &Store,
    offline: Option<&OfflineKeyFile>,
    settings: &HubSettings,
    now: Timestamp,
) -> Result<(Keys, Sealer), OpenKeysError> {
    let mut sealed = sealed_keys(store).await?;
    if sealed.is_empty() {
        let offline = offline.map(offline_key).transpose()?;
        let (sealer, _) = Sealer::open(&key_source(settings))?;
        let keys = Keys::create(now, offline.as_ref())?;
        let mut tx = store.begin().await?;
        for (name, blob) in keys.seal(&sealer)? {
            tx.keys().put(&name, &Sealed::new(blob), now).await?;
        }
        tx.commit().await?;
        return Ok((keys, sealer));
    }
    let sealer = find_sealer(settings)?;
    let missing = missing_workload_root(&sealed, &sealer, now)?;
    if !missing.is_empty() {
        let mut tx = store.begin().await?;
        for (name, blob) in &missing {
            tx.keys().put(name, &Sealed::new(blob.clone()), now).await?;
        }
        tx.commit().await?;
        tracing::info!("make the workload root, which this hub did not have yet");
        sealed.extend(missing);
    }
    let keys = Keys::open(open_facts(&sealed, &sealer)?, &sealed, &sealer, now)?;
    if let Some(file) = offline
        && keys.offline_public() != file.read()?.public().to_string()
    {
        return Err(OpenKeysError::MadeBefore(settings.state_dir.clone()));
    }
    Ok((keys, sealer))
}

/// The sealed keys of a store.
pub(super) async fn sealed_keys(store: &Store) -> Result<SealedKeys, StoreError> {
    let mut reader = store.read().await?;
    let mut sealed = SealedKeys::new();
    for name in reader.keys().names().await? {
        if let Some(key) = reader.keys().find(&name).await? {
            sealed.insert(name, key.as_bytes().to_vec());
        }
    }
    Ok(sealed)
}

/// What opens the keys of a hub that was started before; makes nothing, also where it is missing.
pub(super) fn find_sealer(settings: &HubSettings) -> Result<Sealer, OpenKeysError> {
    if let Some(sealer) = Sealer::find(&key_source(settings))? {
        return Ok(sealer);
    }
    let state = &settings.state_dir;
    let (file, other, way) = match &settings.sealing {
        Sealing::KeyFile => (
            KEY_FILE,
            KEY_DERIVATION,
            "give their passphrase with `--key-passphrase-file FILE` or `--key-passphrase-command COMMAND`",
        ),
        Sealing::Passphrase(_) => (KEY_DERIVATION, KEY_FILE, "leave the passphrase out"),
    };
    let hint = if state.join(other).exists() {
        format!("`{other}` is there, so the keys were sealed the other way: {way}")
    } else {
        format!(
            "put `{file}` back from the backup that was made of this state directory, with mode 0600"
        )
    };
    Err(OpenKeysError::KeyFileGone { file: state.join(file), hint })
}

fn key_source(settings: &HubSettings) -> KeySource {
    match &settings.sealing {
        Sealing::KeyFile => KeySource::File(settings.state_dir.join(KEY_FILE)),
        Sealing::Passphrase(passphrase) => KeySource::Passphrase {
            passphrase: passphrase.clone(),
            parameters: settings.state_dir.join(KEY_DERIVATION),
        },
    }
}

/// The key of a file; a new one, on the disk before anything rests on it, where there is none.
fn offline_key(file: &OfflineKeyFile) -> Result<KeySetSigner, OpenKeysError> {
    match file.read() {
        Err(OfflineKeyError::Missing(_)) => {}
        key => return Ok(key?),
    }
    let key = KeySetSigner::generate().map_err(KeysError::from)?;
    file.write(&key)?;
    Ok(key)
}
