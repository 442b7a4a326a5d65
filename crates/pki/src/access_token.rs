//! Access tokens of people: what kubectl and the CLI send to the hub, at most ten minutes.
//!
//! A token is for the hub's own API or for the paths of Kubernetes, never for both: a kubeconfig's credential that
//! leaks into a tool cannot change grants.

use nullius_model::{SessionId, Timestamp, Ttl, UserName};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::jws::{
    CLOCK_SKEW, Compact, KeyError, PublicKey, SecretKey, TokenKind, VerifyError, shown,
};
use aws_lc_rs::signature::ParsedPublicKey;

/// The longest life of an access token, in seconds.
pub const ACCESS_TOKEN_MAX: i64 = 600;

/// Which doors a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// The hub's own API.
    Hub,
    /// The API servers behind the hub.
    Kubernetes,
}

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessClaims {
    /// The hub that issued it.
    pub iss: String,
    /// What it opens.
    pub aud: Audience,
    /// The person.
    pub sub: UserName,
    /// The session, which must still live.
    pub sid: SessionId,
    /// Issued, seconds since the epoch.
    pub iat: i64,
    /// Ends, seconds since the epoch.
    pub exp: i64,
}

/// Why an access token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessTokenError {
    /// The token itself is refused.
    #[error("the access token is refused")]
    Token(#[from] VerifyError),
    /// Of another hub.
    #[error("the access token is of another hub, `{0}`")]
    Issuer(String),
    /// For other doors.
    #[error("the access token is for another use")]
    Audience,
    /// Over.
    #[error("the access token ended {0} s ago by the hub's clock")]
    Expired(i64),
    /// Issued in the future, or for too long.
    #[error("the access token's times are impossible; check the hub's clock")]
    Times,
}

/// The hub's key for access tokens.
pub struct AccessSigner {
    key: SecretKey,
    header: String,
    issuer: String,
}

impl AccessSigner {
    /// Makes a new key for the hub with this id.
    pub fn generate(issuer: impl Into<String>) -> Result<Self, KeyError> {
        Ok(Self::new(SecretKey::generate()?, issuer.into()))
    }

    /// Reads a key from PKCS#8.
    pub fn from_pkcs8(issuer: impl Into<String>, der: &[u8]) -> Result<Self, KeyError> {
        Ok(Self::new(SecretKey::from_pkcs8(der)?, issuer.into()))
    }

    fn new(key: SecretKey, issuer: String) -> Self {
        let header = key.header(TokenKind::Access);
        Self { key, header, issuer }
    }

    /// The key as PKCS#8, to be sealed.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        self.key.to_pkcs8()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// Issues a token for `ttl`, at most ten minutes; gives it with its end in seconds since the epoch.
    pub fn issue(
        &self,
        aud: Audience,
        sub: &UserName,
        sid: &SessionId,
        ttl: Ttl,
        now: Timestamp,
    ) -> (String, i64) {
        let iat = now.as_second();
        let exp = iat.saturating_add(i64::from(ttl.as_secs()).min(ACCESS_TOKEN_MAX));
        let iss = self.issuer.clone();
        let claims = AccessClaims { iss, aud, sub: sub.clone(), sid: sid.clone(), iat, exp };
        (self.sign(&claims), exp)
    }

    /// Signs claims as they are.
    pub(crate) fn sign(&self, claims: &AccessClaims) -> String {
        self.key.sign(&self.header, claims)
    }
}

/// Checks access tokens of one hub, whose replicas may each have a key.
pub struct AccessVerifier {
    issuer: String,
    keys: Vec<(String, ParsedPublicKey)>,
}

impl AccessVerifier {
    /// Accepts tokens of the hub with this id that one of the keys signed.
    pub fn new(
        issuer: impl Into<String>,
        keys: impl IntoIterator<Item = PublicKey>,
    ) -> Result<Self, KeyError> {
        let keys = keys
            .into_iter()
            .map(|key| Ok((key.kid(), key.parse_key()?)))
            .collect::<Result<_, KeyError>>()?;
        Ok(Self { issuer: issuer.into(), keys })
    }

    /// Checks a token for one use. Whether its session still lives is the caller's question.
    pub fn verify(
        &self,
        token: &str,
        expected: Audience,
        now: Timestamp,
    ) -> Result<AccessClaims, AccessTokenError> {
        let token = Compact::split(token, TokenKind::Access.max_len())?;
        let kid = token.kid(TokenKind::Access)?;
        let (_, key) = self
            .keys
            .iter()
            .find(|(known, _)| *known == kid)
            .ok_or_else(|| VerifyError::UnknownKey(shown(&kid)))?;
        let claims: AccessClaims = token.open(key)?;
        if claims.iss != self.issuer {
            return Err(AccessTokenError::Issuer(shown(&claims.iss)));
        }
        if claims.aud != expected {
            return Err(AccessTokenError::Audience);
        }
        let now = now.as_second();
        if now >= claims.exp {
            return Err(AccessTokenError::Expired(now.saturating_sub(claims.exp)));
        }
        let life = claims.exp.saturating_sub(claims.iat);
        if !(1..=ACCESS_TOKEN_MAX).contains(&life)
            || claims.iat > now.saturating_add(CLOCK_SKEW.as_secs())
        {
            return Err(AccessTokenError::Times);
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests;
