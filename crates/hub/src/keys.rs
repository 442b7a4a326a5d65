//! The hub's keys: infrastructure root, signers of access tokens, of assertions and commands, and the offline key that
//! says which signers count. Made on first start, sealed at rest, opened once, never written to a log.
//!
//! The offline key lies in the store, or only in a file that an operator keeps: then the store has its public half and
//! the key set that it signed, and nothing here can name another signer.

pub(crate) mod change;
mod opening;
mod operator;
mod signing;

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use nullius_model::{InstanceId, KeySet, Timestamp};
use nullius_pki::{
    AccessSigner, AccessVerifier, DetachedSigner, InfraRoot, KeyError, KeySetError, KeySetSigner,
    OfflineKeyError, PublicKey, RootError, SealError, Sealer, Signer, random_bits, random_bytes,
    workload::WorkloadRoot,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use change::ChangeError;
pub use opening::OpenKeysError;
pub(crate) use opening::open_or_make;
pub(crate) use operator::audit_key;
pub use operator::{
    KeyInventory, KeyRow, OperatorError, Rotated, Rotation, Uptake, export_offline_key, list_keys,
    rotate_keys,
};
pub use signing::Before;
pub(crate) use signing::Signing;

const ROOT: &str = "infra-root";
const ACCESS: &str = "access-signer";
const SIGNER: &str = "signer";
const NEXT_SIGNER: &str = "signer-next";
const OFFLINE: &str = "offline";
const FORMS: &str = "forms";
const REFRESH: &str = "refresh-tokens";
const AUDIT: &str = "audit-signer";
const WORKLOAD: &str = "workload-root";
/// Its certificate, sealed all the same so that nobody swaps it.
const WORKLOAD_CERTIFICATE: &str = "workload-root-certificate";
/// Under this name the store keeps what is not secret of the keys, sealed all the same so that nobody swaps it.
pub(crate) const FACTS: &str = "facts";
/// What a rotation or an export may take out of the store.
pub(crate) const PASSING: [&str; 2] = [NEXT_SIGNER, OFFLINE];

/// What is kept of the keys beside the sealed private halves; nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct KeyFacts {
    /// Identity of the hub fleet, the `iss` of what it signs.
    pub(crate) hub_id: String,
    /// Certificate of the infrastructure root, PEM.
    pub(crate) root: String,
    /// The signers that agents accept.
    pub(crate) key_set: KeySet,
    /// When the newest signer was made.
    pub(crate) signer_since: Timestamp,
    /// From when the next signer signs; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_from: Option<Timestamp>,
    /// What is left here of an offline key that is kept elsewhere; absent where it is sealed in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) elsewhere: Option<Elsewhere>,
}

/// What is known of an offline key that is kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Elsewhere {
    /// The public half, base64url.
    pub(crate) public: String,
    /// The key set as it signed it.
    pub(crate) key_set: String,
}

/// The hub's keys.
pub struct Keys {
    hub_id: String,
    instance: InstanceId,
    root: InfraRoot,
    workload: WorkloadRoot,
    access: AccessSigner,
    access_verifier: AccessVerifier,
    audit: Arc<DetachedSigner>,
    forms: Zeroizing<[u8; 32]>,
    refresh: Zeroizing<[u8; 32]>,
    offline_public: PublicKey,
    /// Signs now; follows `signing`.
    signer: Signer,
    signing: ArcSwap<Signing>,
}

/// Sealed private keys by name.
type SealedKeys = BTreeMap<String, Vec<u8>>;

/// Keys cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A blob is missing.
    #[error("the sealed key `{0}` is missing; restore the state directory from a backup")]
    Missing(&'static str),
    /// A blob cannot be opened.
    #[error("the hub's keys cannot be opened")]
    Seal(#[from] SealError),
    /// A signing key is unusable.
    #[error("a signing key cannot be used")]
    Key(#[from] KeyError),
    /// The root is unusable.
    #[error("the infrastructure root cannot be used")]
    Root(#[from] RootError),
    /// The facts are not what was written.
    #[error("what the state directory says of the hub's keys cannot be read")]
    Facts(#[source] serde_json::Error),
    /// The stored key set is not of the offline key.
    #[error("the stored key set is refused; restore the state directory from a backup")]
    KeySet(#[from] KeySetError),
    /// The file of the offline key cannot be used.
    #[error(transparent)]
    Offline(#[from] OfflineKeyError),
}

impl Keys {
    /// Makes all keys of a new hub, under an offline key that is kept elsewhere or, without one, in the store.
    pub(crate) fn create(
        now: Timestamp,
        elsewhere: Option<&KeySetSigner>,
    ) -> Result<Self, KeysError> {
        let hub_id = InstanceId::from_bits(random_bits()).to_string();
        let root = InfraRoot::create(now)?;
        let signing = Signing::first(hub_id, root.certificate_pem(), elsewhere, now)?;
        let access = AccessSigner::generate(signing.facts().hub_id.clone())?;
        let audit = DetachedSigner::generate()?;
        let secrets = [Zeroizing::new(random_bytes()), Zeroizing::new(random_bytes())];
        let workload = WorkloadRoot::create(now)?;
        Self::assemble(signing, root, workload, access, audit, secrets, now)
    }

    /// Opens the keys of a hub that was started before.
    pub(crate) fn open(
        facts: KeyFacts,
        sealed: &SealedKeys,
        sealer: &Sealer,
        now: Timestamp,
    ) -> Result<Self, KeysError> {
        let open = |name: &'static str| open(sealed, sealer, name);
        let root = InfraRoot::from_parts(&facts.root, &open(ROOT)?)?;
        let access = AccessSigner::from_pkcs8(facts.hub_id.clone(), &open(ACCESS)?)?;
        let audit = DetachedSigner::from_pkcs8(&open(AUDIT)?)?;
        let secret = |name| {
            let plain = open(name)?;
            let bytes = plain.as_slice().try_into().map_err(|_| KeysError::Missing(name))?;
            Ok::<_, KeysError>(Zeroizing::new(bytes))
        };
        let secrets = [secret(FORMS)?, secret(REFRESH)?];
        let workload = open_workload_root(sealed, sealer)?;
        let signing = Signing::open(facts, sealed, sealer)?;
        Self::assemble(signing, root, workload, access, audit, secrets, now)
    }

    fn assemble(
        signing: Signing,
        root: InfraRoot,
        workload: WorkloadRoot,
        access: AccessSigner,
        audit: DetachedSigner,
        [forms, refresh]: [Zeroizing<[u8; 32]>; 2],
        now: Timestamp,
    ) -> Result<Self, KeysError> {
        let hub_id = signing.facts().hub_id.clone();
        let access_verifier = AccessVerifier::new(hub_id.clone(), [access.public()])?;
        Ok(Self {
            hub_id,
            instance: InstanceId::from_bits(random_bits()),
            root,
            workload,
            access,
            access_verifier,
            audit: Arc::new(audit),
            forms,
            refresh,
            offline_public: signing.offline_public()?,
            signer: signing.signer_at(now).clone(),
            signing: ArcSwap::from_pointee(signing),
        })
    }

    /// The private halves, sealed.
    pub(crate) fn seal(&self, sealer: &Sealer) -> Result<SealedKeys, KeysError> {
        let plain: [(&str, Zeroizing<Vec<u8>>); 5] = [
            (ROOT, self.root.key_pkcs8()),
            (ACCESS, self.access.to_pkcs8()?),
            (AUDIT, self.audit.to_pkcs8()?),
            (FORMS, Zeroizing::new(self.forms.to_vec())),
            (REFRESH, Zeroizing::new(self.refresh.to_vec())),
        ];
        let mut sealed = self.signing().seal(sealer)?;
        sealed.extend(seal_workload_root(&self.workload, sealer)?);
        for (name, key) in plain {
            sealed.insert(name.to_owned(), sealer.seal(name, &key)?);
        }
        Ok(sealed)
    }

    /// What signs, and which signers count.
    pub(crate) fn signing(&self) -> Arc<Signing> {
        self.signing.load_full()
    }

    /// Makes a stored change hold.
    pub(crate) fn follow(&self, signing: Signing, now: Timestamp) {
        self.signer.replace(signing.signer_at(now));
        self.signing.store(Arc::new(signing));
    }

    /// Signs with the key whose time it is.
    pub(crate) fn act_on_time(&self, now: Timestamp) {
        self.signer.replace(self.signing.load().signer_at(now));
    }

    /// Identity of the hub fleet, the `iss` of what it signs.
    pub fn hub_id(&self) -> &str {
        &self.hub_id
    }

    /// This process among the hub's replicas.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// The infrastructure root: what kubeconfigs and agents pin.
    pub fn root(&self) -> &InfraRoot {
        &self.root
    }

    /// The workload root: what certifies the authority of each cluster for its workloads.
    pub fn workload_root(&self) -> &WorkloadRoot {
        &self.workload
    }

    /// The signer of assertions and commands.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The key set as agents take it, signed by the offline key.
    pub fn key_set_jws(&self) -> String {
        self.signing.load().key_set_jws().to_owned()
    }

    /// Revision of that key set.
    pub fn key_set_revision(&self) -> u64 {
        self.signing.load().facts().key_set.revision
    }

    /// When agents stop to accept what this hub signs, unless the signer is renewed.
    pub fn signing_ends(&self) -> Timestamp {
        self.signing.load().ends()
    }

    /// Public half of the offline key in base64url, which agents pin at join.
    pub fn offline_public(&self) -> String {
        self.offline_public.to_string()
    }

    pub(crate) fn access(&self) -> &AccessSigner {
        &self.access
    }

    pub(crate) fn access_verifier(&self) -> &AccessVerifier {
        &self.access_verifier
    }

    /// The signer of audit checkpoints.
    pub(crate) fn audit(&self) -> Arc<DetachedSigner> {
        Arc::clone(&self.audit)
    }

    /// What binds forms to the browser that got them.
    pub(crate) fn forms(&self) -> &[u8; 32] {
        &self.forms
    }

    /// What only the hub can make refresh tokens with.
    pub(crate) fn refresh(&self) -> &[u8; 32] {
        &self.refresh
    }
}

/// Opens one sealed key.
pub(crate) fn open(
    sealed: &SealedKeys,
    sealer: &Sealer,
    name: &'static str,
) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    let blob = sealed.get(name).ok_or(KeysError::Missing(name))?;
    Ok(sealer.open_sealed(name, blob)?)
}

fn open_workload_root(sealed: &SealedKeys, sealer: &Sealer) -> Result<WorkloadRoot, KeysError> {
    let certificate = open(sealed, sealer, WORKLOAD_CERTIFICATE)?;
    let damaged = |_| KeysError::Missing(WORKLOAD_CERTIFICATE);
    let certificate = std::str::from_utf8(&certificate).map_err(damaged)?;
    Ok(WorkloadRoot::from_parts(certificate, &open(sealed, sealer, WORKLOAD)?)?)
}

fn seal_workload_root(root: &WorkloadRoot, sealer: &Sealer) -> Result<SealedKeys, KeysError> {
    let seal =
        |name: &str, plain: &[u8]| Ok::<_, KeysError>((name.to_owned(), sealer.seal(name, plain)?));
    Ok(SealedKeys::from([
        seal(WORKLOAD, &root.key_pkcs8())?,
        seal(WORKLOAD_CERTIFICATE, root.certificate_pem().as_bytes())?,
    ]))
}

/// What a hub lacks that was made before there was a workload root; nothing where it has all.
fn missing_workload_root(
    sealed: &SealedKeys,
    sealer: &Sealer,
    now: Timestamp,
) -> Result<SealedKeys, KeysError> {
    if sealed.contains_key(WORKLOAD) || sealed.contains_key(WORKLOAD_CERTIFICATE) {
        return Ok(SealedKeys::new());
    }
    seal_workload_root(&WorkloadRoot::create(now)?, sealer)
}

/// Opens the facts.
fn open_facts(sealed: &SealedKeys, sealer: &Sealer) -> Result<KeyFacts, KeysError> {
    serde_json::from_slice(&open(sealed, sealer, FACTS)?).map_err(KeysError::Facts)
}

#[cfg(test)]
mod tests;
