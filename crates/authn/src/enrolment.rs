//! Links by which a person sets password and one-time code: single-use, short, of which only a hash is stored.

use nullius_model::{Timestamp, Ttl, UserName};
use nullius_pki::{constant_time_eq, random_token, token_hash};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// How long an enrolment link is good.
pub const ENROLMENT_TTL: Ttl = Ttl::from_secs(24 * 3_600);

/// A new link's token with what is stored of it.
pub struct EnrolmentLink {
    /// The token, for the link alone.
    pub token: SecretString,
    /// What is stored.
    pub stored: StoredEnrolment,
}

/// What is stored of an enrolment link; removed in the transaction that stores the factors, so that it works once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredEnrolment {
    /// SHA-256 of the token.
    pub token_hash: String,
    /// Who enrols.
    pub user: UserName,
    /// When the link ends.
    pub expires_at: Timestamp,
}

/// Why a link does not work. Its text is the same for every reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the enrolment link is not valid or was used; ask an administrator for a new one")]
pub struct EnrolmentError;

impl EnrolmentLink {
    /// Makes a link for a person.
    pub fn create(user: UserName, ttl: Ttl, now: Timestamp) -> Self {
        let token = random_token();
        let token_hash = token_hash(token.expose_secret());
        let stored = StoredEnrolment { token_hash, user, expires_at: ttl.after(now) };
        Self { token, stored }
    }
}

impl StoredEnrolment {
    /// Checks a token that somebody brings.
    pub fn check(&self, token: &str, now: Timestamp) -> Result<&UserName, EnrolmentError> {
        let hash = token_hash(token);
        let matches = constant_time_eq(hash.as_bytes(), self.token_hash.as_bytes());
        if matches && now < self.expires_at { Ok(&self.user) } else { Err(EnrolmentError) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_link_works_for_its_token_until_it_ends() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let user: UserName = "ada".parse().unwrap();
        let link = EnrolmentLink::create(user.clone(), Ttl::from_secs(60), at(0));
        let token = link.token.expose_secret();
        assert_eq!(link.stored.check(token, at(59)), Ok(&user));
        assert_eq!(link.stored.check(token, at(60)), Err(EnrolmentError));
        assert_eq!(link.stored.check("other", at(1)), Err(EnrolmentError));
        assert!(!link.stored.token_hash.contains(token));
    }
}
