//! What an operator does with keys from a shell beside the hub's state directory, whether the hub runs or not: list
//! them, rotate the signer, carry the offline key away. Nothing here writes to the store; a change is left for the hub.

use std::{path::PathBuf, sync::Arc, time::Duration};

use nullius_model::{Clock, Timestamp, Ttl};
use nullius_pki::{
    AccessSigner, DetachedSigner, InfraRoot, KeyError, KeySetSigner, OfflineKeyError,
    OfflineKeyFile, PublicKey, Sealer, sha256,
};
use nullius_store::{OpenError, Store, StoreError};

use super::{
    ACCESS, AUDIT, ChangeError, KeysError, OFFLINE, ROOT, SealedKeys, Signing, WORKLOAD,
    change::{self, KeyChange},
    open, open_facts, open_workload_root,
    opening::{OpenKeysError, find_sealer, sealed_keys},
    signing::{Before, NextSigner, SIGNER_TTL, SIGNS_AFTER},
};
use crate::settings::HubSettings;

/// How long a hub that runs may take to take in a change.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(100);

/// How the signer is rotated.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// The new signer signs after so long; by then every agent that still serves has the key set.
    pub after: Ttl,
    /// It counts so long.
    pub valid_for: Ttl,
    /// What becomes of the one before.
    pub before: Before,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { after: SIGNS_AFTER, valid_for: SIGNER_TTL, before: Before::Overlaps }
    }
}

/// Whether the hub has taken a change in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uptake {
    /// It has.
    TakenIn,
    /// It does not run, and will when it starts.
    AtStart,
}

/// What a rotation made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// Revision of the key set.
    pub revision: u64,
    /// Id of the new signer.
    pub signer: String,
    /// From when it signs.
    pub from: Timestamp,
    /// Until when it counts.
    pub until: Timestamp,
    /// Whether the hub has it.
    pub uptake: Uptake,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// What it is for.
    pub name: &'static str,
    /// Its id; of certificates the SHA-256, of the audit signer the whole public half.
    pub id: String,
    /// How it stands.
    pub state: String,
    /// When it ends, where it does.
    pub until: Option<Timestamp>,
    /// Where its private half lies.
    pub place: &'static str,
}

/// The keys of a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInventory {
    /// Identity of the hub.
    pub hub_id: String,
    /// Revision of the key set.
    pub revision: u64,
    /// Each key.
    pub keys: Vec<KeyRow>,
    /// Whether the offline key lies in the store.
    pub offline_in_store: bool,
    /// Whether a change waits for the hub.
    pub change_waits: bool,
}

/// Something that an operator wants and does not get.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys cannot be opened.
    #[error(transparent)]
    OpenKeys(#[from] OpenKeysError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The change cannot be made.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The file of the offline key.
    #[error(transparent)]
    Offline(#[from] OfflineKeyError),
    /// The audit cannot be read.
    #[error(transparent)]
    Verify(#[from] nullius_store::VerifyError),
    /// The root's certificate.
    #[error(transparent)]
    Root(#[from] nullius_pki::RootError),
    /// No file was given.
    #[error(
        "the offline key of this hub is kept elsewhere: bring its file and give it with `--offline-key FILE`"
    )]
    NeedsFile,
    /// A file was given, but the key is in the store.
    #[error(
        "the offline key of this hub still lies in its store: carry it away first with `nullius hub keys export FILE`, \
         or leave `--offline-key` out"
    )]
    InStore,
    /// The key is elsewhere already.
    #[error("the offline key of this hub is kept elsewhere already; copy that file instead")]
    Elsewhere,
    /// The file holds another key.
    #[error("`{path}` holds the offline key `{found}`, this hub's is `{wanted}`: bring the right file", path = path.display())]
    WrongFile {
        /// The file.
        path: PathBuf,
        /// Id of its key.
        found: String,
        /// Id of the hub's.
        wanted: String,
    },
    /// What was written does not read back.
    #[error("`{}` does not read back as it was written; the key stays in the store", .0.display())]
    NotWritten(PathBuf),
    /// The hub refused.
    #[error("the hub refused the change; its log says why")]
    Refused,
    /// The hub did not take it in.
    #[error(
        "the hub runs but has not taken the change in yet; it keeps trying, and its log says why"
    )]
    Slow,
}

impl From<KeyError> for OperatorError {
    fn from(error: KeyError) -> Self {
        Self::Keys(error.into())
    }
}

/// The keys of a state directory, opened beside the hub.
struct Opened {
    sealer: Sealer,
    sealed: SealedKeys,
    signing: Signing,
}

async fn read(settings: &HubSettings, clock: Arc<dyn Clock>) -> Result<Opened, OperatorError> {
    let store = Store::open_read_only(&settings.state_dir, clock).await?;
    let sealed = sealed_keys(&store).await;
    store.close().await;
    let sealed = sealed?;
    let sealer = find_sealer(settings)?;
    let signing = Signing::open(open_facts(&sealed, &sealer)?, &sealed, &sealer)?;
    Ok(Opened { sealer, sealed, signing })
}

/// Lists the keys of a state directory.
pub async fn list_keys(
    settings: &HubSettings,
    clock: Arc<dyn Clock>,
) -> Result<KeyInventory, OperatorError> {
    let now = clock.now();
    let Opened { sealer, sealed, signing } = read(settings, clock).await?;
    let facts = signing.facts();
    let root = InfraRoot::from_parts(&facts.root, &open(&sealed, &sealer, ROOT)?)?;
    let here = "sealed in the store";
    let row = |name, id, state: &str, until, place| KeyRow {
        name,
        id,
        state: state.to_owned(),
        until,
        place,
    };
    let offline = signing.offline_public()?.kid();
    // A hub that was made before there was one gets it when it starts.
    let workload = match sealed.contains_key(WORKLOAD) {
        true => Some(open_workload_root(&sealed, &sealer)?),
        false => None,
    };
    let workload = workload.map(|root| {
        let fingerprint = hex::encode(sha256(root.certificate_der()));
        let (until, what) = (Some(root.not_after()), "certifies clusters' authorities");
        row("workload root", fingerprint, what, until, here)
    });
    let fingerprint = hex::encode(sha256(root.certificate_der()));
    let mut keys = vec![
        row("infrastructure root", fingerprint, "signs certificates", Some(root.not_after()), here),
        match signing.offline() {
            Some(_) => row(
                "offline key",
                offline,
                "names signers",
                None,
                "SEALED IN THE STORE, not offline",
            ),
            None => row("offline key", offline, "names signers", None, "elsewhere"),
        },
    ];
    keys.splice(1..1, workload);
    let (current, newest) = (signing.signer_at(now).kid(), signing.newest_kid());
    for (kid, key) in &facts.key_set.keys {
        let (state, place) = match facts.next_from {
            _ if *kid == current && now < key.not_after => {
                ("signs requests and orders".to_owned(), here)
            }
            _ if *kid == current => ("HAS ENDED: agents refuse what it signs".to_owned(), here),
            Some(from) if *kid == newest => (format!("signs from {from} on"), here),
            Some(_) | None => ("is still accepted".to_owned(), here),
        };
        keys.push(KeyRow {
            name: "signer",
            id: kid.clone(),
            state,
            until: Some(key.not_after),
            place,
        });
    }
    let access = AccessSigner::from_pkcs8(facts.hub_id.clone(), &open(&sealed, &sealer, ACCESS)?)?;
    let audit = DetachedSigner::from_pkcs8(&open(&sealed, &sealer, AUDIT)?)?;
    keys.push(row("access signer", access.public().kid(), "signs tokens of people", None, here));
    keys.push(row("audit signer", audit.public().to_string(), "signs checkpoints", None, here));
    Ok(KeyInventory {
        hub_id: facts.hub_id.clone(),
        revision: facts.key_set.revision,
        keys,
        offline_in_store: signing.offline().is_some(),
        change_waits: change::waits(&settings.state_dir),
    })
}

/// The public half of the audit signer of a state directory.
pub(crate) async fn audit_key(
    settings: &HubSettings,
    clock: Arc<dyn Clock>,
) -> Result<PublicKey, OperatorError> {
    let Opened { sealer, sealed, .. } = read(settings, clock).await?;
    Ok(DetachedSigner::from_pkcs8(&open(&sealed, &sealer, AUDIT)?)?.public())
}

/// Makes a new signer and has the offline key name it; the hub takes it in.
pub async fn rotate_keys(
    settings: &HubSettings,
    offline: Option<&OfflineKeyFile>,
    rotation: Rotation,
    clock: Arc<dyn Clock>,
) -> Result<Rotated, OperatorError> {
    let now = clock.now();
    let opened = read(settings, Arc::clone(&clock)).await?;
    let signing = &opened.signing;
    let brought;
    let offline = match (signing.offline(), offline) {
        (Some(key), None) => key,
        (Some(_), Some(_)) => return Err(OperatorError::InStore),
        (None, None) => return Err(OperatorError::NeedsFile),
        (None, Some(file)) => {
            brought = the_key(file, signing)?;
            &brought
        }
    };
    let known = &signing.facts().key_set;
    let from = if rotation.before == Before::Ends { now } else { rotation.after.after(now) };
    let next = NextSigner::make(known, rotation.before, from, rotation.valid_for, now)?;
    let change = KeyChange::Rotate {
        key_set: offline.sign(&next.key_set),
        signer: hex::encode(&*next.signer.to_pkcs8()?),
        from,
    };
    let until = next.key_set.keys.get(&next.signer.kid()).map_or(now, |key| key.not_after);
    let revision = next.key_set.revision;
    let uptake = hand_over(settings, &opened, &change, clock, |taken| {
        taken.facts().key_set.revision == revision
    })
    .await?;
    Ok(Rotated { revision, signer: next.signer.kid(), from, until, uptake })
}

/// Carries the offline key out of the store into a file; the hub forgets it.
pub async fn export_offline_key(
    settings: &HubSettings,
    file: &OfflineKeyFile,
    clock: Arc<dyn Clock>,
) -> Result<Uptake, OperatorError> {
    let opened = read(settings, Arc::clone(&clock)).await?;
    if change::waits(&settings.state_dir) {
        return Err(ChangeError::Waits(change::place(&settings.state_dir)).into());
    }
    if opened.signing.offline().is_none() {
        return Err(OperatorError::Elsewhere);
    }
    let key = KeySetSigner::from_pkcs8(&open(&opened.sealed, &opened.sealer, OFFLINE)?)?;
    file.write(&key)?;
    // The key leaves the store only when the file is known to hold it.
    if file.read()?.public() != key.public() {
        return Err(OperatorError::NotWritten(file.path.clone()));
    }
    let change = KeyChange::ForgetOfflineKey { public: key.public().to_string() };
    hand_over(settings, &opened, &change, clock, |taken| taken.offline().is_none()).await
}

/// The key of a file, when it is the hub's.
fn the_key(file: &OfflineKeyFile, signing: &Signing) -> Result<KeySetSigner, OperatorError> {
    let key = file.read()?;
    let (found, wanted) = (key.public(), signing.offline_public()?);
    if found != wanted {
        let (found, wanted) = (found.kid(), wanted.kid());
        return Err(OperatorError::WrongFile { path: file.path.clone(), found, wanted });
    }
    Ok(key)
}

/// Leaves a change for the hub, and waits for it where it runs.
async fn hand_over(
    settings: &HubSettings,
    opened: &Opened,
    change: &KeyChange,
    clock: Arc<dyn Clock>,
    holds: impl Fn(&Signing) -> bool,
) -> Result<Uptake, OperatorError> {
    let state = &settings.state_dir;
    change::leave(state, change, &opened.sealer)?;
    if !nullius_store::is_held(state)? {
        return Ok(Uptake::AtStart);
    }
    let taken = async {
        while change::waits(state) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.map_err(|_| OperatorError::Slow)?;
    let taken = read(settings, clock).await?;
    if holds(&taken.signing) { Ok(Uptake::TakenIn) } else { Err(OperatorError::Refused) }
}
