//! Proof key for code exchange (RFC 7636), S256 alone: a sign-in code is worth nothing to who did not begin it.

use std::str::FromStr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nullius_pki::{constant_time_eq, random_bytes, sha256};
use secrecy::{ExposeSecret, SecretString};

/// Why a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PkceError {
    /// Not 43 characters of base64url.
    #[error("the code challenge is not a SHA-256 in base64url")]
    Challenge,
    /// Not 43 to 128 unreserved characters.
    #[error("the code verifier is malformed")]
    Verifier,
    /// The verifier is not the one that the challenge was made from.
    #[error("the code verifier does not match; begin the sign-in anew")]
    Mismatch,
}

/// What the client shows first: the SHA-256 of its verifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkceChallenge([u8; 32]);

/// A new verifier, which the client keeps until it exchanges the code.
pub fn new_pkce_verifier() -> SecretString {
    SecretString::from(URL_SAFE_NO_PAD.encode(random_bytes::<32>()))
}

impl PkceChallenge {
    /// The challenge of a verifier.
    pub fn of(verifier: &SecretString) -> Self {
        Self(sha256(verifier.expose_secret().as_bytes()))
    }

    /// The challenge as it stands in a request, with `code_challenge_method=S256`.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Checks that a verifier is the one of this challenge.
    pub fn verify(&self, verifier: &SecretString) -> Result<(), PkceError> {
        let text = verifier.expose_secret();
        let unreserved = |c: u8| c.is_ascii_alphanumeric() || b"-._~".contains(&c);
        if !(43..=128).contains(&text.len()) || !text.bytes().all(unreserved) {
            return Err(PkceError::Verifier);
        }
        if constant_time_eq(&Self::of(verifier).0, &self.0) {
            Ok(())
        } else {
            Err(PkceError::Mismatch)
        }
    }
}

impl FromStr for PkceChallenge {
    type Err = PkceError;
    fn from_str(text: &str) -> Result<Self, PkceError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| PkceError::Challenge)?;
        Ok(Self(bytes.try_into().map_err(|_| PkceError::Challenge)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    #[test]
    fn the_vector_of_rfc_7636_holds() {
        // Appendix B.
        let verifier = secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let challenge: PkceChallenge =
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".parse().unwrap();
        assert_eq!(PkceChallenge::of(&verifier), challenge);
        assert_eq!(challenge.verify(&verifier), Ok(()));
        assert_eq!(challenge.to_text(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn another_verifier_and_the_plain_method_are_refused() {
        let verifier = new_pkce_verifier();
        let challenge = PkceChallenge::of(&verifier);
        assert_eq!(challenge.verify(&verifier), Ok(()));
        assert_eq!(challenge.verify(&new_pkce_verifier()), Err(PkceError::Mismatch));
        assert_eq!(challenge.verify(&secret(&challenge.to_text())), Err(PkceError::Mismatch));
        assert_eq!(challenge.verify(&secret("short")), Err(PkceError::Verifier));
        assert_eq!(challenge.verify(&secret(&"ü".repeat(43))), Err(PkceError::Verifier));
        assert!("plain".parse::<PkceChallenge>().is_err());
        assert!("".parse::<PkceChallenge>().is_err());
    }
}
