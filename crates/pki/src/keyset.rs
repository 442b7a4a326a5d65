//! The hub's signing keys and the agent's knowledge of them.
//!
//! A hub signs with keys that it rotates ([`Signer`]); which keys those are says a key set, signed by a key that can
//! be kept offline ([`KeySetSigner`]). An agent pins the offline key's public half and follows key sets upwards only.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::signature::ParsedPublicKey;
use nullius_model::{Command, KeySet, RequestAssertion, SigningKey, Timestamp};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::jws::{
    CLOCK_SKEW, Compact, KeyError, PublicKey, SecretKey, TokenKind, VerifyError, header,
};

/// Most keys in one key set.
const KEYS_MAX: usize = 16;

/// A hub's key for assertions and commands. It is replaced in place, so that whoever signs need not know of it.
pub struct Signer {
    live: ArcSwap<LiveSigner>,
}

struct LiveSigner {
    key: SecretKey,
    kid: String,
    request_header: String,
    command_header: String,
}

impl Signer {
    /// Makes a new key.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self::new(SecretKey::generate()?))
    }

    /// Reads a key from PKCS#8.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        Ok(Self::new(SecretKey::from_pkcs8(der)?))
    }

    pub(crate) fn new(key: SecretKey) -> Self {
        let kid = key.public().kid();
        let request_header = key.header(TokenKind::Request);
        let command_header = key.header(TokenKind::Command);
        let live = LiveSigner { key, kid, request_header, command_header };
        Self { live: ArcSwap::from_pointee(live) }
    }

    /// Signs with another's key from now on.
    pub fn replace(&self, other: &Self) {
        self.live.store(other.live.load_full());
    }

    /// The key as PKCS#8, to be sealed.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        self.live.load().key.to_pkcs8()
    }

    /// The key's id in the key set.
    pub fn kid(&self) -> String {
        self.live.load().kid.clone()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.live.load().key.public()
    }

    /// The key's entry in a key set.
    pub fn entry(&self, not_before: Timestamp, not_after: Timestamp) -> (String, SigningKey) {
        let live = self.live.load();
        let public = live.key.public().to_string();
        (live.kid.clone(), SigningKey { public, not_before, not_after })
    }

    /// Signs one permitted request.
    pub fn sign_request(&self, assertion: &RequestAssertion) -> String {
        let live = self.live.load();
        live.key.sign(&live.request_header, assertion)
    }

    /// Signs one command.
    pub fn sign_command(&self, command: &Command) -> String {
        let live = self.live.load();
        live.key.sign(&live.command_header, command)
    }
}

impl Clone for Signer {
    /// Another place that signs with the same key; replacing the key of one does not touch the other.
    fn clone(&self) -> Self {
        Self { live: ArcSwap::new(self.live.load_full()) }
    }
}

/// The offline key that says which keys may sign.
pub struct KeySetSigner {
    key: SecretKey,
}

impl KeySetSigner {
    /// Makes a new key.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self { key: SecretKey::generate()? })
    }

    /// Reads a key from PKCS#8.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        Ok(Self { key: SecretKey::from_pkcs8(der)? })
    }

    /// The key as PKCS#8, to be sealed or carried away.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        self.key.to_pkcs8()
    }

    /// The public half, which agents pin at join.
    pub fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// Signs a key set.
    pub fn sign(&self, keys: &KeySet) -> String {
        self.key.sign(&self.key.header(TokenKind::KeySet), keys)
    }
}

/// Why a key set is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// The token itself is refused.
    #[error("the key set is refused")]
    Token(#[from] VerifyError),
    /// An older one than is known.
    #[error("the key set has revision {found}, older than the known revision {known}")]
    Older { known: u64, found: u64 },
    /// Another content under the known revision.
    #[error("the key set has the known revision {0} but other keys")]
    Conflict(u64),
    /// No key, or too many.
    #[error("the key set has {0} keys; between 1 and {KEYS_MAX} are needed")]
    Count(usize),
    /// A key that is none, or has another's id.
    #[error("the key `{0}` of the key set is malformed or has a wrong id")]
    Key(String),
}

/// What became of a key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// It is newer and holds from now on.
    Replaced,
    /// It is the one that is known.
    Unchanged,
}

/// An agent's trust: the pinned offline key and the newest key set. Before the first key set nothing is accepted.
pub struct Verifier {
    offline: ParsedPublicKey,
    offline_kid: String,
    trusted: ArcSwap<Trusted>,
    install: Mutex<()>,
}

struct Trusted {
    /// The lowest revision that is accepted.
    floor: u64,
    set: Option<KeySet>,
    keys: Vec<TrustedKey>,
}

struct TrustedKey {
    kid: String,
    key: ParsedPublicKey,
    not_before: Timestamp,
    not_after: Timestamp,
    request_header: String,
    command_header: String,
}

impl Verifier {
    /// Trusts key sets of an offline key, from `floor` upwards: the revision that was known before a restart, or 0.
    pub fn new(offline: PublicKey, floor: u64) -> Result<Self, KeyError> {
        Ok(Self {
            offline: offline.parse_key()?,
            offline_kid: offline.kid(),
            trusted: ArcSwap::from_pointee(Trusted { floor, set: None, keys: Vec::new() }),
            install: Mutex::new(()),
        })
    }

    /// The revision of the key set that holds; what is kept over a restart as `floor`.
    pub fn revision(&self) -> Option<u64> {
        self.trusted.load().set.as_ref().map(|set| set.revision)
    }

    /// The key set that holds.
    pub fn key_set(&self) -> Option<KeySet> {
        self.trusted.load().set.clone()
    }

    /// Checks a key set and makes it hold, when it is newer than the known one.
    pub fn install(&self, token: &str) -> Result<Installed, KeySetError> {
        let token = Compact::split(token, TokenKind::KeySet.max_len())?;
        let kid = token.kid(TokenKind::KeySet)?;
        if kid != self.offline_kid {
            return Err(VerifyError::UnknownKey(crate::jws::shown(&kid)).into());
        }
        let set: KeySet = token.open(&self.offline)?;
        if set.keys.is_empty() || set.keys.len() > KEYS_MAX {
            return Err(KeySetError::Count(set.keys.len()));
        }
        let keys = set.keys.iter().map(trusted_key).collect::<Result<Vec<_>, _>>()?;

        let _one_at_a_time = self.install.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.trusted.load();
        if let Some(known) = known.set.as_ref().filter(|known| known.revision == set.revision) {
            return if *known == set {
                Ok(Installed::Unchanged)
            } else {
                Err(KeySetError::Conflict(set.revision))
            };
        }
        if set.revision < known.floor {
            return Err(KeySetError::Older { known: known.floor, found: set.revision });
        }
        let floor = set.revision;
        self.trusted.store(Arc::new(Trusted { floor, set: Some(set), keys }));
        Ok(Installed::Replaced)
    }

    /// Whether a key is in the key set that holds.
    pub(crate) fn knows(&self, kid: &str) -> bool {
        self.trusted.load().keys.iter().any(|key| key.kid == kid)
    }

    /// Checks a token's type, key and signature, and gives its payload and the key's id.
    pub(crate) fn open<T: DeserializeOwned>(
        &self,
        token: &str,
        kind: TokenKind,
        now: Timestamp,
    ) -> Result<(T, String), VerifyError> {
        let token = Compact::split(token, kind.max_len())?;
        let trusted = self.trusted.load();
        let key = trusted.find(&token, kind)?;
        let begins = key.not_before.saturating_sub(CLOCK_SKEW).unwrap_or(Timestamp::MIN);
        let ends = key.not_after.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX);
        if now < begins || now > ends {
            return Err(VerifyError::KeyNotValid(key.kid.clone()));
        }
        Ok((token.open(&key.key)?, key.kid.clone()))
    }
}

impl Trusted {
    /// The key of a token. Our own signers write a header in one way only, which spares reading it.
    fn find(&self, token: &Compact<'_>, kind: TokenKind) -> Result<&TrustedKey, VerifyError> {
        let known = match kind {
            TokenKind::Request => self.keys.iter().find(|key| key.request_header == token.header),
            TokenKind::Command => self.keys.iter().find(|key| key.command_header == token.header),
            TokenKind::KeySet | TokenKind::Access => None,
        };
        if let Some(key) = known {
            return Ok(key);
        }
        let kid = token.kid(kind)?;
        self.keys
            .iter()
            .find(|key| key.kid == kid)
            .ok_or_else(|| VerifyError::UnknownKey(crate::jws::shown(&kid)))
    }
}

fn trusted_key((kid, key): (&String, &SigningKey)) -> Result<TrustedKey, KeySetError> {
    let wrong = || KeySetError::Key(crate::jws::shown(kid));
    let public: PublicKey = key.public.parse().map_err(|_| wrong())?;
    if public.kid() != *kid {
        return Err(wrong());
    }
    Ok(TrustedKey {
        kid: kid.clone(),
        key: public.parse_key().map_err(|_| wrong())?,
        not_before: key.not_before,
        not_after: key.not_after,
        request_header: header(kid, TokenKind::Request),
        command_header: header(kid, TokenKind::Command),
    })
}

#[cfg(test)]
mod tests;
