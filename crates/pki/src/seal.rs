//! Keys at rest: sealed with AES-256-GCM under a key-encryption key that the state directory alone does not give away.
//!
//! A sealed blob is bound to the name under which it was sealed, so that one cannot be put in another's place.
//! Layout: version 1, nonce (12 bytes), ciphertext, tag (16 bytes).

pub(crate) mod source;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

pub use source::{KeyOrigin, KeySource};

use crate::random_bytes;

const VERSION: u8 = 1;
const PREFIX_LEN: usize = 1 + NONCE_LEN;

/// Why nothing can be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A file could not be read or written.
    #[error("`{path}` cannot be {action}")]
    File {
        path: String,
        action: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// Others may read the key.
    #[error("`{path}` can be read or written by others (mode {mode:04o}); run `chmod 600 {path}`")]
    Permissions { path: String, mode: u32 },
    /// Somebody else owns the key.
    #[error("`{path}` belongs to user {owner}; it must belong to the user that runs nullius")]
    Owner { path: String, owner: u32 },
    /// The content is not what was written.
    #[error("`{0}` is damaged; restore it from a backup")]
    Damaged(String),
    /// The passphrase does not fit.
    #[error("the passphrase is wrong")]
    Passphrase,
    /// An empty passphrase.
    #[error("the passphrase is shorter than 12 characters")]
    PassphraseShort,
    /// No OS key store here, or it is locked.
    #[error(
        "the os key store is not available on this system: {0}; use a key file or a passphrase"
    )]
    OsKeyStore(String),
    /// The blob was changed, has another name, or was sealed under another key.
    #[error("the stored key `{0}` cannot be opened: it was changed, or sealed under another key")]
    Open(String),
    /// The cipher refused.
    #[error("the key `{0}` cannot be sealed")]
    Seal(String),
}

/// Seals and opens keys.
pub struct Sealer {
    key: LessSafeKey,
}

impl Sealer {
    /// Opens the key-encryption key, or makes it where there is none. A caller that has sealed keys already uses
    /// [`Self::find`]: a new key would open none of them.
    pub fn open(source: &KeySource) -> Result<(Self, KeyOrigin), SealError> {
        source.open()
    }

    /// Opens the key-encryption key where there is one; makes nothing.
    pub fn find(source: &KeySource) -> Result<Option<Self>, SealError> {
        source.find()
    }

    fn from_key(key: &[u8; 32]) -> Result<Self, SealError> {
        let key = UnboundKey::new(&AES_256_GCM, key)
            .map_err(|_| SealError::Seal("key-encryption key".to_owned()))?;
        Ok(Self { key: LessSafeKey::new(key) })
    }

    /// Seals a key under its name.
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce = random_bytes::<NONCE_LEN>();
        let mut body = Zeroizing::new(Vec::with_capacity(plain.len() + AES_256_GCM.tag_len()));
        body.extend_from_slice(plain);
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                bound_to(name),
                &mut *body,
            )
            .map_err(|_| SealError::Seal(name.to_owned()))?;
        Ok([&[VERSION], nonce.as_slice(), body.as_slice()].concat())
    }

    /// Opens what was sealed under a name.
    pub fn open_sealed(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let wrong = || SealError::Open(name.to_owned());
        let (prefix, body) = sealed.split_at_checked(PREFIX_LEN).ok_or_else(wrong)?;
        let (version, nonce) = prefix.split_first().ok_or_else(wrong)?;
        if *version != VERSION {
            return Err(wrong());
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let mut body = Zeroizing::new(body.to_vec());
        let length =
            self.key.open_in_place(nonce, bound_to(name), &mut body).map_err(|_| wrong())?.len();
        body.truncate(length);
        Ok(body)
    }
}

fn bound_to(name: &str) -> Aad<Vec<u8>> {
    Aad::from([b"nullius sealed key\0", name.as_bytes()].concat())
}

#[cfg(test)]
mod tests;
