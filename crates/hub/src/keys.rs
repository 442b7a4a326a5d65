//! The hub's keys: infrastructure root, signers of access tokens, of assertions and commands, and the offline key that
//! says which signers count. Made on first start, sealed at rest, opened once, never written to a log.

use std::{collections::BTreeMap, sync::Arc};

use nullius_model::{InstanceId, KeySet, SigningKey, Timestamp, Ttl};
use nullius_pki::{
    AccessSigner, AccessVerifier, DetachedSigner, InfraRoot, KeyError, KeySetSigner, RootError,
    SealError, Sealer, Signer, random_bits, random_bytes,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How long a signer of assertions and commands counts; a start of the hub makes a new one after a quarter of it.
const SIGNER_TTL: Ttl = Ttl::from_secs(400 * 86_400);
const SIGNER_FRESH: Ttl = Ttl::from_secs(100 * 86_400);
/// Agents whose clock is behind accept a new signer at once.
const SIGNER_BACKDATE: i64 = 600;

const ROOT: &str = "infra-root";
const ACCESS: &str = "access-signer";
const SIGNER: &str = "signer";
const OFFLINE: &str = "offline";
const FORMS: &str = "forms";
const REFRESH: &str = "refresh-tokens";
const AUDIT: &str = "audit-signer";

/// What is kept of the keys beside the sealed private halves; nothing in it is secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct KeyFacts {
    /// Identity of the hub fleet, the `iss` of what it signs.
    pub(crate) hub_id: String,
    /// Certificate of the infrastructure root, PEM.
    pub(crate) root: String,
    /// The signers that agents accept.
    pub(crate) key_set: KeySet,
    /// When the present signer was made.
    pub(crate) signer_since: Timestamp,
}

/// The hub's keys.
pub struct Keys {
    facts: KeyFacts,
    instance: InstanceId,
    root: InfraRoot,
    access: AccessSigner,
    access_verifier: AccessVerifier,
    signer: Signer,
    offline: KeySetSigner,
    audit: Arc<DetachedSigner>,
    key_set_jws: String,
    forms: Zeroizing<[u8; 32]>,
    refresh: Zeroizing<[u8; 32]>,
}

/// Sealed private keys by name.
pub(crate) type SealedKeys = BTreeMap<String, Vec<u8>>;

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
}

impl Keys {
    /// Makes all keys of a new hub.
    pub(crate) fn create(now: Timestamp) -> Result<Self, KeysError> {
        let hub_id = InstanceId::from_bits(random_bits()).to_string();
        let root = InfraRoot::create(now)?;
        let signer = Signer::generate()?;
        let facts = KeyFacts {
            root: root.certificate_pem().to_owned(),
            key_set: KeySet { revision: 1, keys: BTreeMap::from([entry(&signer, now)]) },
            signer_since: now,
            hub_id: hub_id.clone(),
        };
        let access = AccessSigner::generate(hub_id)?;
        let audit = DetachedSigner::generate()?;
        let offline = KeySetSigner::generate()?;
        let secrets = [Zeroizing::new(random_bytes()), Zeroizing::new(random_bytes())];
        Self::assemble(facts, root, access, signer, offline, audit, secrets)
    }

    /// Opens the keys of a hub that was started before.
    pub(crate) fn open(
        facts: KeyFacts,
        sealed: &SealedKeys,
        sealer: &Sealer,
    ) -> Result<Self, KeysError> {
        let open = |name: &'static str| {
            let blob = sealed.get(name).ok_or(KeysError::Missing(name))?;
            Ok::<_, KeysError>(sealer.open_sealed(name, blob)?)
        };
        let root = InfraRoot::from_parts(&facts.root, &open(ROOT)?)?;
        let access = AccessSigner::from_pkcs8(facts.hub_id.clone(), &open(ACCESS)?)?;
        let signer = Signer::from_pkcs8(&open(SIGNER)?)?;
        let offline = KeySetSigner::from_pkcs8(&open(OFFLINE)?)?;
        let audit = DetachedSigner::from_pkcs8(&open(AUDIT)?)?;
        let secret = |name| {
            let plain = open(name)?;
            let bytes = plain.as_slice().try_into().map_err(|_| KeysError::Missing(name))?;
            Ok::<_, KeysError>(Zeroizing::new(bytes))
        };
        let secrets = [secret(FORMS)?, secret(REFRESH)?];
        Self::assemble(facts, root, access, signer, offline, audit, secrets)
    }

    fn assemble(
        facts: KeyFacts,
        root: InfraRoot,
        access: AccessSigner,
        signer: Signer,
        offline: KeySetSigner,
        audit: DetachedSigner,
        [forms, refresh]: [Zeroizing<[u8; 32]>; 2],
    ) -> Result<Self, KeysError> {
        let access_verifier = AccessVerifier::new(facts.hub_id.clone(), [access.public()])?;
        let key_set_jws = offline.sign(&facts.key_set);
        let instance = InstanceId::from_bits(random_bits());
        Ok(Self {
            facts,
            instance,
            root,
            access,
            access_verifier,
            signer,
            offline,
            audit: Arc::new(audit),
            key_set_jws,
            forms,
            refresh,
        })
    }

    /// Makes a new signer when the present one is no longer fresh; `true` when the keys must be stored again.
    pub(crate) fn renew_signer(&mut self, now: Timestamp) -> Result<bool, KeysError> {
        if now < SIGNER_FRESH.after(self.facts.signer_since) {
            return Ok(false);
        }
        let signer = Signer::generate()?;
        let key_set = &mut self.facts.key_set;
        key_set.keys.retain(|_, key| now < key.not_after);
        key_set.keys.extend([entry(&signer, now)]);
        key_set.revision += 1;
        self.facts.signer_since = now;
        self.key_set_jws = self.offline.sign(key_set);
        self.signer = signer;
        Ok(true)
    }

    /// The private halves, sealed.
    pub(crate) fn seal(&self, sealer: &Sealer) -> Result<SealedKeys, KeysError> {
        let plain: [(&str, Zeroizing<Vec<u8>>); 7] = [
            (ROOT, self.root.key_pkcs8()),
            (ACCESS, self.access.to_pkcs8()?),
            (SIGNER, self.signer.to_pkcs8()?),
            (OFFLINE, self.offline.to_pkcs8()?),
            (AUDIT, self.audit.to_pkcs8()?),
            (FORMS, Zeroizing::new(self.forms.to_vec())),
            (REFRESH, Zeroizing::new(self.refresh.to_vec())),
        ];
        let sealed =
            plain.into_iter().map(|(name, key)| Ok((name.to_owned(), sealer.seal(name, &key)?)));
        sealed.collect::<Result<_, SealError>>().map_err(KeysError::from)
    }

    /// What is stored beside the sealed keys.
    pub(crate) fn facts(&self) -> &KeyFacts {
        &self.facts
    }

    /// Identity of the hub fleet, the `iss` of what it signs.
    pub fn hub_id(&self) -> &str {
        &self.facts.hub_id
    }

    /// This process among the hub's replicas.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// The infrastructure root: what kubeconfigs and agents pin.
    pub fn root(&self) -> &InfraRoot {
        &self.root
    }

    /// The signer of assertions and commands.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The key set as agents take it, signed by the offline key.
    pub fn key_set_jws(&self) -> &str {
        &self.key_set_jws
    }

    /// Revision of that key set.
    pub fn key_set_revision(&self) -> u64 {
        self.facts.key_set.revision
    }

    /// Public half of the offline key in base64url, which agents pin at join.
    pub fn offline_public(&self) -> String {
        self.offline.public().to_string()
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

fn entry(signer: &Signer, now: Timestamp) -> (String, SigningKey) {
    let not_before = Timestamp::from_second(now.as_second() - SIGNER_BACKDATE).unwrap_or(now);
    signer.entry(not_before, SIGNER_TTL.after(now))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use nullius_pki::KeySource;

    use super::*;

    #[test]
    fn keys_survive_a_restart_and_a_signer_is_replaced_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let (sealer, _) = Sealer::open(&KeySource::File(directory.path().join("key"))).unwrap();
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let keys = Keys::create(start).unwrap();
        let sealed = keys.seal(&sealer).unwrap();
        let mut again = Keys::open(keys.facts().clone(), &sealed, &sealer).unwrap();
        assert_eq!(again.signer().kid(), keys.signer().kid());
        assert_eq!(again.key_set_jws(), keys.key_set_jws());
        assert!(!again.renew_signer(start).unwrap());
        assert!(again.renew_signer(SIGNER_FRESH.after(start)).unwrap());
        assert_eq!(again.key_set_revision(), 2);
        assert_eq!(again.facts().key_set.keys.len(), 2);
        let damaged = SealedKeys::from([(ROOT.to_owned(), vec![1; 40])]);
        assert!(Keys::open(keys.facts().clone(), &damaged, &sealer).is_err());
    }
}
