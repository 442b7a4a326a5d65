//! What signs now and next, which signers count, and the offline key or what is left of it here. Values: a change makes
//! a new one, which is stored before it holds.

use std::{collections::BTreeMap, sync::Arc};

use jiff::SignedDuration;
use nullius_model::{KeySet, SigningKey, Timestamp, Ttl};
use nullius_pki::{KeySetSigner, PublicKey, Sealer, Signer, Verifier};
use zeroize::Zeroizing;

use super::{
    Elsewhere, FACTS, KeyFacts, KeysError, NEXT_SIGNER, OFFLINE, SIGNER, SealedKeys,
    change::ChangeError, open,
};

/// How long a signer of assertions and commands counts.
pub(crate) const SIGNER_TTL: Ttl = Ttl::from_secs(400 * 86_400);
/// A hub with the offline key in its store makes a new signer after so long.
const SIGNER_FRESH: Ttl = Ttl::from_secs(100 * 86_400);
/// A new signer signs after so long: whoever still serves by then has heard the hub since, and has the key set.
pub(crate) const SIGNS_AFTER: Ttl = Ttl::from_secs(90);
/// The signer before counts so long beyond that.
const OVERLAP: Ttl = Ttl::from_secs(3_600);
/// Agents whose clock is behind accept a new signer at once.
const BACKDATE: SignedDuration = SignedDuration::from_secs(600);

/// The part of the hub's keys that changes while it runs.
pub(crate) struct Signing {
    facts: KeyFacts,
    signer: Signer,
    next: Option<(Timestamp, Signer)>,
    offline: Option<Arc<KeySetSigner>>,
    jws: String,
}

/// What becomes of the signers before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// They count until the new one has signed for an hour.
    Overlaps,
    /// They count no more: one of them is in wrong hands.
    Ends,
}

/// A new signer, and the key set that names it.
pub(crate) struct NextSigner {
    pub(crate) key_set: KeySet,
    pub(crate) signer: Signer,
    pub(crate) from: Timestamp,
}

impl NextSigner {
    /// Makes a signer that signs from `from` on and counts for `ttl`.
    pub(crate) fn make(
        known: &KeySet,
        before: Before,
        from: Timestamp,
        ttl: Ttl,
        now: Timestamp,
    ) -> Result<Self, KeysError> {
        let signer = Signer::generate()?;
        let mut keys: BTreeMap<String, SigningKey> = match before {
            Before::Ends => BTreeMap::new(),
            Before::Overlaps => {
                let live = known.keys.iter().filter(|(_, key)| now < key.not_after);
                let end = OVERLAP.after(from);
                live.map(|(kid, key)| {
                    let not_after = key.not_after.min(end);
                    (kid.clone(), SigningKey { not_after, ..key.clone() })
                })
                .collect()
            }
        };
        keys.extend([entry(&signer, ttl, now)]);
        // Beyond what agents may know of a hub that was restored from an old backup.
        let revision =
            u64::try_from(now.as_second()).unwrap_or(0).max(known.revision.saturating_add(1));
        Ok(Self { key_set: KeySet { revision, keys }, signer, from })
    }
}

impl Signing {
    pub(super) fn first(
        hub_id: String,
        root: &str,
        elsewhere: Option<&KeySetSigner>,
        now: Timestamp,
    ) -> Result<Self, KeysError> {
        let signer = Signer::generate()?;
        let keys = BTreeMap::from([entry(&signer, SIGNER_TTL, now)]);
        let key_set = KeySet { revision: 1, keys };
        let (offline, jws, elsewhere) = match elsewhere {
            Some(key) => {
                let jws = key.sign(&key_set);
                let elsewhere =
                    Elsewhere { public: key.public().to_string(), key_set: jws.clone() };
                (None, jws, Some(elsewhere))
            }
            None => {
                let key = KeySetSigner::generate()?;
                let jws = key.sign(&key_set);
                (Some(Arc::new(key)), jws, None)
            }
        };
        let root = root.to_owned();
        let facts =
            KeyFacts { hub_id, root, key_set, signer_since: now, next_from: None, elsewhere };
        Ok(Self { facts, signer, next: None, offline, jws })
    }

    pub(super) fn open(
        facts: KeyFacts,
        sealed: &SealedKeys,
        sealer: &Sealer,
    ) -> Result<Self, KeysError> {
        let signer = Signer::from_pkcs8(&open(sealed, sealer, SIGNER)?)?;
        let next = match facts.next_from {
            Some(from) => Some((from, Signer::from_pkcs8(&open(sealed, sealer, NEXT_SIGNER)?)?)),
            None => None,
        };
        let (offline, jws) = match &facts.elsewhere {
            Some(elsewhere) => {
                let verifier = Verifier::new(elsewhere.public.parse()?, facts.key_set.revision)?;
                verifier.install(&elsewhere.key_set)?;
                (None, elsewhere.key_set.clone())
            }
            None => {
                let key = KeySetSigner::from_pkcs8(&open(sealed, sealer, OFFLINE)?)?;
                let jws = key.sign(&facts.key_set);
                (Some(Arc::new(key)), jws)
            }
        };
        Ok(Self { facts, signer, next, offline, jws })
    }

    /// What is stored: facts, signers, and the offline key where it is here.
    pub(crate) fn seal(&self, sealer: &Sealer) -> Result<SealedKeys, KeysError> {
        let facts = serde_json::to_vec(&self.facts).map_err(KeysError::Facts)?;
        let mut plain = vec![(FACTS, Zeroizing::new(facts)), (SIGNER, self.signer.to_pkcs8()?)];
        if let Some((_, next)) = &self.next {
            plain.push((NEXT_SIGNER, next.to_pkcs8()?));
        }
        if let Some(offline) = &self.offline {
            plain.push((OFFLINE, offline.to_pkcs8()?));
        }
        let sealed =
            plain.into_iter().map(|(name, key)| Ok((name.to_owned(), sealer.seal(name, &key)?)));
        sealed.collect()
    }

    /// The same with a new signer, whose key set the offline key signed.
    pub(crate) fn rotated(
        &self,
        key_set: &str,
        signer: Signer,
        from: Timestamp,
        now: Timestamp,
    ) -> Result<Self, ChangeError> {
        let newer = self.facts.key_set.revision.saturating_add(1);
        let verifier = Verifier::new(self.offline_public()?, newer).map_err(KeysError::from)?;
        verifier.install(key_set)?;
        let Some(set) = verifier.key_set() else { return Err(ChangeError::Unnamed) };
        if !counts(&set, &signer, from.max(now)) {
            return Err(ChangeError::Unnamed);
        }
        let current = self.signer_at(now).clone();
        // Where the signer before counts no more, nothing is gained by waiting.
        let waits = from > now && counts(&set, &current, from);
        let (signer, next) = if waits { (current, Some((from, signer))) } else { (signer, None) };
        let mut facts = self.facts.clone();
        facts.key_set = set;
        facts.signer_since = now;
        facts.next_from = next.as_ref().map(|(from, _)| *from);
        if let Some(elsewhere) = &mut facts.elsewhere {
            key_set.clone_into(&mut elsewhere.key_set);
        }
        let offline = self.offline.clone();
        Ok(Self { facts, signer, next, offline, jws: key_set.to_owned() })
    }

    /// The same without the offline key, which is kept elsewhere from now on.
    pub(crate) fn without_offline_key(&self) -> Result<Self, KeysError> {
        let mut facts = self.facts.clone();
        let public = self.offline_public()?.to_string();
        facts.elsewhere = Some(Elsewhere { public, key_set: self.jws.clone() });
        let (signer, next) = (self.signer.clone(), self.next.clone());
        Ok(Self { facts, signer, next, offline: None, jws: self.jws.clone() })
    }

    /// A new signer, when the offline key is here and the present one is no longer fresh.
    pub(crate) fn renewed(&self, now: Timestamp) -> Result<Option<Self>, ChangeError> {
        let Some(offline) = &self.offline else { return Ok(None) };
        if now < SIGNER_FRESH.after(self.facts.signer_since) {
            return Ok(None);
        }
        let from = SIGNS_AFTER.after(now);
        let next = NextSigner::make(&self.facts.key_set, Before::Overlaps, from, SIGNER_TTL, now)?;
        let jws = offline.sign(&next.key_set);
        self.rotated(&jws, next.signer, next.from, now).map(Some)
    }

    pub(crate) fn facts(&self) -> &KeyFacts {
        &self.facts
    }

    pub(crate) fn key_set_jws(&self) -> &str {
        &self.jws
    }

    /// The offline key, where it is here.
    pub(crate) fn offline(&self) -> Option<&KeySetSigner> {
        self.offline.as_deref()
    }

    pub(crate) fn offline_public(&self) -> Result<PublicKey, KeysError> {
        match (&self.offline, &self.facts.elsewhere) {
            (Some(key), _) => Ok(key.public()),
            (None, Some(elsewhere)) => Ok(elsewhere.public.parse()?),
            (None, None) => Err(KeysError::Missing(OFFLINE)),
        }
    }

    /// The key that signs at an instant.
    pub(crate) fn signer_at(&self, now: Timestamp) -> &Signer {
        match &self.next {
            Some((from, next)) if now >= *from => next,
            Some(_) | None => &self.signer,
        }
    }

    /// The id of the signer that was made last.
    pub(crate) fn newest_kid(&self) -> String {
        self.next.as_ref().map_or(&self.signer, |(_, next)| next).kid()
    }

    /// When the newest signer counts no more.
    pub(crate) fn ends(&self) -> Timestamp {
        let end = self.facts.key_set.keys.get(&self.newest_kid()).map(|key| key.not_after);
        end.unwrap_or(Timestamp::MIN)
    }
}

fn counts(set: &KeySet, signer: &Signer, at: Timestamp) -> bool {
    let entry = set.keys.get(&signer.kid());
    entry.is_some_and(|key| key.not_before <= at && at < key.not_after)
}

fn entry(signer: &Signer, ttl: Ttl, now: Timestamp) -> (String, SigningKey) {
    let not_before = now.checked_sub(BACKDATE).unwrap_or(now);
    signer.entry(not_before, ttl.after(now))
}
