//! Passwords: rules for new ones, argon2id hashes, and a check that takes as long for users who do not exist.

use std::fmt;

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc,
};
use nullius_model::UserName;
use nullius_pki::random_bytes;
use secrecy::{ExposeSecret, SecretString};

/// Fewest characters of a new password.
pub const PASSWORD_MIN: usize = 12;
/// Most bytes of a password.
pub const PASSWORD_MAX: usize = 1024;

/// A hash of no password, to spend the same time on users who do not exist. Its parameters are those of new hashes.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyB0aGlzIQ$\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why a password is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too short.
    #[error("the password has {0} characters; use {PASSWORD_MIN} or more")]
    Short(usize),
    /// Too long.
    #[error("the password is longer than {PASSWORD_MAX} bytes")]
    Long,
    /// The user's name.
    #[error("the password is the user name; choose another")]
    UserName,
    /// A few characters over and over.
    #[error("the password repeats too few characters; choose another")]
    Repetitive,
    /// A stored hash that is none of ours.
    #[error("the stored password hash is malformed; enrol the user anew")]
    Hash,
    /// The hash could not be computed.
    #[error("the password could not be hashed")]
    Compute,
}

/// A stored argon2id hash in PHC form.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Takes a hash from the store.
    pub fn from_stored(phc: impl Into<String>) -> Result<Self, PasswordError> {
        let phc = phc.into();
        let hash = phc::PasswordHash::new(&phc).map_err(|_| PasswordError::Hash)?;
        if hash.algorithm.as_str() != "argon2id" || hash.salt.is_none() || hash.hash.is_none() {
            return Err(PasswordError::Hash);
        }
        Ok(Self(phc))
    }

    /// The hash for the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// Checks a new password against the rules.
pub fn check_new_password(user: &UserName, password: &SecretString) -> Result<(), PasswordError> {
    let text = password.expose_secret();
    if text.len() > PASSWORD_MAX {
        return Err(PasswordError::Long);
    }
    let length = text.chars().count();
    if length < PASSWORD_MIN {
        return Err(PasswordError::Short(length));
    }
    if text.trim().eq_ignore_ascii_case(user.as_str()) {
        return Err(PasswordError::UserName);
    }
    let mut distinct: Vec<char> = text.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < 4 {
        return Err(PasswordError::Repetitive);
    }
    Ok(())
}

/// Hashes a new password (argon2id, 19 MiB, two passes: the OWASP minimum), when it keeps the rules.
pub fn hash_password(
    user: &UserName,
    password: &SecretString,
) -> Result<PasswordHash, PasswordError> {
    check_new_password(user, password)?;
    let hash = hasher()
        .hash_password_with_salt(password.expose_secret().as_bytes(), &random_bytes::<16>())
        .map_err(|_| PasswordError::Compute)?;
    Ok(PasswordHash(hash.to_string()))
}

/// Whether a password is the stored one. Without a stored one it takes the same time and says no.
pub fn verify_password(password: &SecretString, stored: Option<&PasswordHash>) -> bool {
    let text = password.expose_secret();
    let bytes = text.as_bytes().get(..PASSWORD_MAX).unwrap_or(text.as_bytes());
    let phc = stored.map_or(NOBODY, PasswordHash::as_str);
    let matches = phc::PasswordHash::new(phc)
        .is_ok_and(|hash| hasher().verify_password(bytes, &hash).is_ok());
    matches && stored.is_some() && text.len() <= PASSWORD_MAX
}

fn hasher() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    fn ada() -> UserName {
        "ada.lovelace@example.org".parse().unwrap()
    }

    #[test]
    fn a_hash_knows_its_password_and_no_other() {
        let hash = hash_password(&ada(), &secret("correct horse battery")).unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let stored = PasswordHash::from_stored(hash.as_str()).unwrap();
        assert!(verify_password(&secret("correct horse battery"), Some(&stored)));
        assert!(!verify_password(&secret("correct horse batterz"), Some(&stored)));
        assert!(!verify_password(&secret(""), Some(&stored)));
        assert_ne!(hash, hash_password(&ada(), &secret("correct horse battery")).unwrap());
    }

    #[test]
    fn nobody_has_a_password_and_their_hash_costs_what_a_real_one_costs() {
        assert!(!verify_password(&secret("anything at all"), None));
        let nobody = phc::PasswordHash::new(NOBODY).unwrap();
        let real = hash_password(&ada(), &secret("correct horse battery")).unwrap();
        let real = phc::PasswordHash::new(real.as_str()).unwrap();
        assert_eq!(nobody.params, real.params);
        assert_eq!(nobody.hash.unwrap().len(), real.hash.unwrap().len());
        assert_eq!(nobody.salt.unwrap().len(), real.salt.unwrap().len());
    }

    #[test]
    fn weak_passwords_are_refused_with_what_to_do() {
        let check = |text: &str| check_new_password(&ada(), &secret(text)).unwrap_err().to_string();
        assert_eq!(check("short"), "the password has 5 characters; use 12 or more");
        assert_eq!(
            check("Ada.Lovelace@example.org"),
            "the password is the user name; choose another"
        );
        assert_eq!(
            check("aaaaaaaaaaaaaa"),
            "the password repeats too few characters; choose another"
        );
        assert_eq!(check(&"ab1!".repeat(300)), "the password is longer than 1024 bytes");
        assert_eq!(check_new_password(&ada(), &secret("zwölf Zeichen")), Ok(()));
    }

    #[test]
    fn a_stored_hash_of_another_kind_is_refused() {
        for bad in [
            "",
            "plain",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$argon2i$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$AAAA",
        ] {
            assert_eq!(PasswordHash::from_stored(bad), Err(PasswordError::Hash), "{bad}");
        }
    }

    #[test]
    fn a_password_past_the_limit_does_not_pass_for_its_beginning() {
        let long = "ab1!".repeat(256);
        assert_eq!(long.len(), PASSWORD_MAX);
        let hash = hash_password(&ada(), &secret(&long)).unwrap();
        assert!(verify_password(&secret(&long), Some(&hash)));
        assert!(!verify_password(&secret(&format!("{long}x")), Some(&hash)));
    }
}
