//! Signatures that stand beside what they sign: the checkpoints of the audit trail.

use zeroize::Zeroizing;

use crate::jws::{KeyError, PublicKey, SecretKey};

/// A key that signs bytes; the signature stands beside them.
pub struct DetachedSigner {
    key: SecretKey,
}

impl DetachedSigner {
    /// Makes a new key.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self { key: SecretKey::generate()? })
    }

    /// Reads a key from PKCS#8.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        Ok(Self { key: SecretKey::from_pkcs8(der)? })
    }

    /// The key as PKCS#8, to be sealed.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        self.key.to_pkcs8()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// Signs bytes (Ed25519).
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.key.sign_bytes(bytes)
    }
}

impl PublicKey {
    /// Whether a detached signature over bytes is of this key.
    pub fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        self.parse_key().is_ok_and(|key| key.verify_sig(bytes, signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_signature_is_of_one_key_over_one_text() {
        let key = DetachedSigner::generate().unwrap();
        let again = DetachedSigner::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
        let signature = again.sign(b"text");
        assert!(key.public().verifies(b"text", &signature));
        assert!(!key.public().verifies(b"test", &signature));
        assert!(!key.public().verifies(b"text", &signature[1..]));
        assert!(!DetachedSigner::generate().unwrap().public().verifies(b"text", &signature));
    }
}
