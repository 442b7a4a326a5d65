//! Tokens that somebody else issues to whoever calls (RFC 7519, RFC 9068): verified by the keys that their issuer publishes.
//!
//! A token names its key at most by `kid`; one that brings a key, or says where one would be, is refused. The algorithm is that of the
//! key, never what the token would like. Nothing here reads a clock or the network.

use nullius_model::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::{
    VerifyError,
    jwk::PublicJwk,
    jws::{Compact, shown},
    service_account::JwksError,
    workload::{missing, read_claims, second},
};

/// The longest token that is looked at, in bytes.
pub const ISSUED_TOKEN_MAX: usize = 16 * 1024;
/// The longest key set that is read, in bytes.
pub const JWKS_MAX: usize = 256 * 1024;
/// Keys of a set that are looked at.
const KEYS_MAX: usize = 64;
/// How far the clock of an issuer may be ahead or behind, in seconds.
const SKEW_SECS: i64 = 30;
/// What tokens are called that are for calling somebody, in lower case.
const KINDS: [&str; 4] = ["jwt", "jose", "at+jwt", "application/at+jwt"];

/// The keys of one issuer.
pub struct TokenIssuer {
    issuer: String,
    keys: Vec<PublicJwk>,
}

/// A token whose signature is that of its issuer; it counts while it [holds](TokenTimes::holds).
#[derive(Debug, Clone, PartialEq)]
pub struct IssuedToken {
    /// Who issued it.
    pub issuer: String,
    /// For whom.
    pub audiences: Vec<String>,
    /// All that it says.
    pub claims: Map<String, Json>,
    /// When it holds.
    pub times: TokenTimes,
}

/// From when and until when a token holds, with 30 s at both ends, since clocks differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenTimes {
    begins: Option<i64>,
    ends: Timestamp,
}

/// Why a token proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuedTokenError {
    /// The token itself is refused.
    #[error("the token is refused")]
    Token(#[from] VerifyError),
    /// By an algorithm that none of the issuer's keys is for; `none` and those with a shared secret are among these.
    #[error("the token's algorithm `{0}` is not that of the issuer's key")]
    Algorithm(String),
    /// It brings a key, or says where one would be.
    #[error("the token brings its own key by `{0}`")]
    OwnKey(&'static str),
    /// It is of another issuer.
    #[error("the token is of issuer `{found}`, not of `{expected}`")]
    Issuer {
        /// Of whom it says to be, cut and escaped.
        found: String,
        /// Whose keys were asked.
        expected: String,
    },
    /// It has ended.
    #[error("the token has ended")]
    Expired,
    /// It has not begun.
    #[error("the token is not valid yet; check the clocks")]
    Early,
}

impl IssuedTokenError {
    /// The stable word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Token(VerifyError::UnknownKey(_)) => "unknown-key",
            Self::Token(VerifyError::Signature) => "bad-signature",
            Self::Token(_) => "malformed",
            Self::Algorithm(_) => "wrong-algorithm",
            Self::OwnKey(_) => "own-key",
            Self::Issuer { .. } => "unknown-issuer",
            Self::Expired => "expired",
            Self::Early => "early",
        }
    }
}

impl TokenIssuer {
    /// Reads a JWK set (RFC 7517). Keys of other kinds and uses are passed over; one must be left.
    pub fn read(issuer: &str, jwks: &[u8]) -> Result<Self, JwksError> {
        if issuer.is_empty() {
            return Err(JwksError::NoIssuer);
        }
        if jwks.len() > JWKS_MAX {
            return Err(JwksError::Malformed(format!("it is longer than {JWKS_MAX} bytes")));
        }
        let document: Json = serde_json::from_slice(jwks)
            .map_err(|error| JwksError::Malformed(shown(&error.to_string())))?;
        let keys = document.get("keys").and_then(Json::as_array);
        let keys = keys.ok_or_else(|| JwksError::Malformed("`keys` is no list".to_owned()))?;
        let signs = |key: &PublicJwk| key.usage.as_ref().is_none_or(|usage| usage == "sig");
        let keys: Vec<_> =
            keys.iter().take(KEYS_MAX).filter_map(PublicJwk::read).filter(signs).collect();
        match keys.is_empty() {
            true => Err(JwksError::NoUsableKey),
            false => Ok(Self { issuer: issuer.to_owned(), keys }),
        }
    }

    /// Who it is.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Proves that the issuer signed a token. When it holds is another question.
    pub fn verify(&self, token: &str) -> Result<IssuedToken, IssuedTokenError> {
        let compact = Compact::split(token, ISSUED_TOKEN_MAX)?;
        let header = Header::read(&compact)?;
        let claims = read_claims(&compact)?;
        let found = claims.get("iss").and_then(Json::as_str).ok_or_else(|| missing("iss"))?;
        if found != self.issuer {
            let expected = self.issuer.clone();
            return Err(IssuedTokenError::Issuer { found: shown(found), expected });
        }
        self.check_signature(&header, &compact)?;
        let ends = second(&claims, "exp")?.ok_or_else(|| missing("exp"))?;
        let ends = Timestamp::from_second(ends.saturating_add(SKEW_SECS))
            .map_err(|_| VerifyError::Payload("`exp` is not a time".to_owned()))?;
        let begins = second(&claims, "nbf")?.max(second(&claims, "iat")?);
        let audiences = audiences(&claims)?;
        let times = TokenTimes { begins, ends };
        Ok(IssuedToken { issuer: self.issuer.clone(), audiences, claims, times })
    }

    fn check_signature(
        &self,
        header: &Header,
        token: &Compact<'_>,
    ) -> Result<(), IssuedTokenError> {
        let (signed, signature) = token.signed_parts()?;
        let is_named = |key: &&PublicJwk| match (&header.kid, &key.kid) {
            (Some(wanted), Some(kid)) => wanted == kid,
            (None, _) | (_, None) => true,
        };
        let mut named = self.keys.iter().filter(is_named).peekable();
        if named.peek().is_none() {
            let kid = header.kid.as_deref().unwrap_or_default();
            return Err(VerifyError::UnknownKey(shown(kid)).into());
        }
        let mut candidates = named.filter_map(|key| key.key_for(&header.alg)).peekable();
        if candidates.peek().is_none() {
            return Err(IssuedTokenError::Algorithm(shown(&header.alg)));
        }
        match candidates.any(|key| key.verify_sig(signed.as_bytes(), &signature).is_ok()) {
            true => Ok(()),
            false => Err(VerifyError::Signature.into()),
        }
    }
}

impl std::fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<_> = self.keys.iter().map(|key| key.kid.as_deref()).collect();
        f.debug_struct("TokenIssuer").field("issuer", &self.issuer).field("keys", &keys).finish()
    }
}

impl IssuedToken {
    /// The issuer that a token says it is of. Nothing is verified: it only finds the keys.
    pub fn claimed_issuer(token: &str) -> Result<String, IssuedTokenError> {
        let compact = Compact::split(token, ISSUED_TOKEN_MAX)?;
        let claims = read_claims(&compact)?;
        let issuer = claims.get("iss").and_then(Json::as_str).ok_or_else(|| missing("iss"))?;
        Ok(issuer.to_owned())
    }
}

impl TokenTimes {
    /// Whether it holds at a time.
    pub fn holds(self, now: Timestamp) -> Result<(), IssuedTokenError> {
        if now >= self.ends {
            return Err(IssuedTokenError::Expired);
        }
        let latest = now.as_second().saturating_add(SKEW_SECS);
        match self.begins {
            Some(begins) if begins > latest => Err(IssuedTokenError::Early),
            Some(_) | None => Ok(()),
        }
    }

    /// When it holds no more.
    pub fn ends(self) -> Timestamp {
        self.ends
    }
}

struct Header {
    alg: String,
    kid: Option<String>,
}

impl Header {
    fn read(token: &Compact<'_>) -> Result<Self, IssuedTokenError> {
        #[derive(Deserialize)]
        struct Form {
            alg: String,
            kid: Option<String>,
            typ: Option<String>,
            #[serde(flatten)]
            rest: Map<String, Json>,
        }
        let Form { alg, kid, typ, rest } =
            serde_json::from_slice(&token.header_json()?).map_err(|_| VerifyError::Malformed)?;
        if let Some(own) =
            ["jku", "jwk", "x5u", "x5c"].into_iter().find(|it| rest.contains_key(*it))
        {
            return Err(IssuedTokenError::OwnKey(own));
        }
        if rest.contains_key("crit") || rest.contains_key("b64") {
            return Err(VerifyError::Malformed.into());
        }
        match typ {
            Some(typ) if !KINDS.contains(&typ.to_ascii_lowercase().as_str()) => {
                Err(VerifyError::Kind { found: shown(&typ), expected: "JWT" }.into())
            }
            Some(_) | None => Ok(Self { alg, kid }),
        }
    }
}

/// For whom a token is; for nobody in particular where it does not say.
fn audiences(claims: &Map<String, Json>) -> Result<Vec<String>, VerifyError> {
    let malformed = || VerifyError::Payload("`aud` is no text and no list of texts".to_owned());
    match claims.get("aud") {
        None => Ok(Vec::new()),
        Some(Json::String(one)) => Ok(vec![one.clone()]),
        Some(Json::Array(many)) => {
            many.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(malformed)).collect()
        }
        Some(_) => Err(malformed()),
    }
}

#[cfg(test)]
mod tests;
