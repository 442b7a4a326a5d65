//! Randomness and the two things done with random tokens: hashing them for storage and comparing them.

use aws_lc_rs::{digest, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// `N` bytes from the cryptographic generator.
#[expect(
    clippy::expect_used,
    reason = "the generator is seeded at process start; going on without randomness would be worse than stopping"
)]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random source works");
    bytes
}

/// 128 random bits, for ids and nonces.
pub fn random_bits() -> u128 {
    u128::from_ne_bytes(random_bytes())
}

/// A bearer token: 256 random bits, base64url.
pub fn random_token() -> SecretString {
    let bits = Zeroizing::new(random_bytes::<32>());
    SecretString::from(URL_SAFE_NO_PAD.encode(bits.as_slice()))
}

/// What is stored of a random token: its SHA-256 in hexadecimal. Not for passwords.
pub fn token_hash(token: &str) -> String {
    hex::encode(sha256(token.as_bytes()))
}

/// Whether both are equal, in a time that depends on their lengths alone.
pub fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// SHA-256 of some bytes.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn tokens_differ_and_hash_to_hexadecimal() {
        let (one, two) = (random_token(), random_token());
        assert_ne!(one.expose_secret(), two.expose_secret());
        assert_eq!(one.expose_secret().len(), 43);
        assert_ne!(random_bits(), random_bits());
        assert_eq!(
            token_hash("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn comparison_sees_length_and_content() {
        assert!(constant_time_eq(b"abc", b"abc"));
        assert!(!constant_time_eq(b"abc", b"abd"));
        assert!(!constant_time_eq(b"abc", b"ab"));
    }
}
