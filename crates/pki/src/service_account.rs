//! The check of Kubernetes service account tokens against the issuer keys that a cluster registered when it joined.
//!
//! Only RS256 and ES256 are accepted, each with a key of its own kind; `exp` is required, and `sub` must agree with
//! the `kubernetes.io` claim. Tokens that are not bound to a pod give no pod, which is for the caller to refuse.

use nullius_model::{Namespace, ObjectName, Timestamp};
use serde::Deserialize;

use crate::{
    VerifyError,
    jwk::PublicJwk,
    jws::{Compact, shown},
};

const TOKEN_MAX: usize = 16 * 1024;
const JWKS_MAX: usize = 256 * 1024;
const KEYS_MAX: usize = 64;
/// What API servers sign with.
const ALGORITHMS: [&str; 2] = ["RS256", "ES256"];
/// How far the clock of an API server may be ahead or behind, in seconds.
const SKEW_SECS: i64 = 30;

/// Why a key set of an issuer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// Not a JWK set.
    #[error("the keys are no json web key set: {0}")]
    Malformed(String),
    /// No key of a kind that may sign.
    #[error("the keys hold no usable RSA key (2048 bits or more) and none of an elliptic curve")]
    NoUsableKey,
    /// No issuer.
    #[error("the service account issuer is empty; set --service-account-issuer on the api server")]
    NoIssuer,
}

/// Why a service account token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceAccountTokenError {
    /// The token itself is refused.
    #[error("the service account token is refused")]
    Token(#[from] VerifyError),
    /// From another cluster.
    #[error("the service account token is of issuer `{found}`; `{expected}` is registered")]
    Issuer { found: String, expected: String },
    /// For somebody else.
    #[error("the service account token is not for audience `{0}`")]
    Audience(String),
    /// Over.
    #[error("the service account token ended {0} s ago")]
    Expired(i64),
    /// Issued in the future.
    #[error("the service account token is not valid yet; check the clocks of hub and cluster")]
    Early,
    /// The subject is no service account, or disagrees with the other claims.
    #[error("the service account token has subject `{0}`, which is not its service account")]
    Subject(String),
}

/// A pod that a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodIdentity {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Who holds a service account token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccountIdentity {
    /// The namespace.
    pub namespace: Namespace,
    /// The service account.
    pub name: ObjectName,
    /// UID of the service account.
    pub uid: String,
    /// The pod, for a token that is bound to one.
    pub pod: Option<PodIdentity>,
    /// The node on which that pod runs, where the API server says so.
    pub node: Option<String>,
    /// When the token ends.
    pub expires_at: Timestamp,
}

/// The issuer of a cluster's service account tokens, with its public keys.
pub struct IssuerKeys {
    issuer: String,
    keys: Vec<PublicJwk>,
}

impl IssuerKeys {
    /// Reads a JWK set (RFC 7517), as `/openid/v1/jwks` gives it. Keys for other algorithms are passed over.
    pub fn from_jwks(issuer: &str, jwks: &[u8]) -> Result<Self, JwksError> {
        #[derive(Deserialize)]
        struct Jwks {
            keys: Vec<serde_json::Value>,
        }
        if issuer.is_empty() {
            return Err(JwksError::NoIssuer);
        }
        if jwks.len() > JWKS_MAX {
            return Err(JwksError::Malformed("it is too long".to_owned()));
        }
        let jwks: Jwks = serde_json::from_slice(jwks)
            .map_err(|error| JwksError::Malformed(shown(&error.to_string())))?;
        let keys: Vec<_> = jwks.keys.iter().take(KEYS_MAX).filter_map(issuer_key).collect();
        if keys.is_empty() {
            return Err(JwksError::NoUsableKey);
        }
        Ok(Self { issuer: issuer.to_owned(), keys })
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Checks a token for an audience.
    pub fn verify(
        &self,
        token: &str,
        audience: &str,
        now: Timestamp,
    ) -> Result<ServiceAccountIdentity, ServiceAccountTokenError> {
        let token = Compact::split(token, TOKEN_MAX)?;
        self.check_signature(&token)?;
        let claims: Claims = serde_json::from_slice(&token.payload_json()?)
            .map_err(|error| VerifyError::Payload(shown(&error.to_string())))?;
        if claims.iss != self.issuer {
            let expected = self.issuer.clone();
            return Err(ServiceAccountTokenError::Issuer { found: shown(&claims.iss), expected });
        }
        if !claims.aud.contains(audience) {
            return Err(ServiceAccountTokenError::Audience(audience.to_owned()));
        }
        let now = now.as_second();
        if now >= claims.exp.saturating_add(SKEW_SECS) {
            return Err(ServiceAccountTokenError::Expired(now.saturating_sub(claims.exp)));
        }
        let begins = claims.nbf.unwrap_or(i64::MIN).max(claims.iat.unwrap_or(i64::MIN));
        if begins > now.saturating_add(SKEW_SECS) {
            return Err(ServiceAccountTokenError::Early);
        }
        claims.into_identity()
    }

    fn check_signature(&self, token: &Compact<'_>) -> Result<(), VerifyError> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
            kid: Option<String>,
            crit: Option<serde_json::Value>,
            b64: Option<serde_json::Value>,
        }
        let header: Header =
            serde_json::from_slice(&token.header_json()?).map_err(|_| VerifyError::Malformed)?;
        if header.crit.is_some() || header.b64.is_some() {
            return Err(VerifyError::Malformed);
        }
        if !ALGORITHMS.contains(&header.alg.as_str()) {
            return Err(VerifyError::Algorithm(shown(&header.alg)));
        }
        let (signed, signature) = token.signed_parts()?;
        let mut tried = false;
        let candidates = self
            .keys
            .iter()
            .filter(|key| header.kid.is_none() || key.kid.is_none() || key.kid == header.kid)
            .filter_map(|key| key.key_for(&header.alg));
        for key in candidates {
            tried = true;
            if key.verify_sig(signed.as_bytes(), &signature).is_ok() {
                return Ok(());
            }
        }
        if tried {
            Err(VerifyError::Signature)
        } else {
            Err(VerifyError::UnknownKey(shown(&header.kid.unwrap_or_default())))
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audiences,
    exp: i64,
    nbf: Option<i64>,
    iat: Option<i64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: KubernetesClaim,
}

/// What a ServiceAccount token says of itself. Nothing is verified: it tells who is not worth a question to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccountClaim {
    /// For whom it is.
    pub audiences: Vec<String>,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub subject: String,
    /// The pod that it is bound to.
    pub pod: Option<PodIdentity>,
    /// Name and UID of the node of that pod; API servers before 1.30 do not say.
    pub node: Option<(String, Option<String>)>,
    /// When it ends.
    pub ends: Timestamp,
}

impl ServiceAccountClaim {
    /// Reads it; nothing where this is no token of a ServiceAccount.
    pub fn read(token: &str) -> Option<Self> {
        let compact = Compact::split(token, TOKEN_MAX).ok()?;
        let claims: Claims = serde_json::from_slice(&compact.payload_json().ok()?).ok()?;
        let KubernetesClaim { pod, node, .. } = claims.kubernetes;
        Some(Self {
            audiences: match claims.aud {
                Audiences::One(one) => vec![one],
                Audiences::Many(many) => many,
            },
            subject: claims.sub,
            pod: pod.map(|Reference { name, uid }| PodIdentity { name, uid }),
            node: node.map(|node| (node.name, node.uid)),
            ends: Timestamp::from_second(claims.exp).ok()?,
        })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl Audiences {
    fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

#[derive(Deserialize)]
struct KubernetesClaim {
    namespace: String,
    serviceaccount: Reference,
    pod: Option<Reference>,
    node: Option<NodeReference>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    uid: String,
}

#[derive(Deserialize)]
struct NodeReference {
    name: String,
    uid: Option<String>,
}

impl Claims {
    fn into_identity(self) -> Result<ServiceAccountIdentity, ServiceAccountTokenError> {
        let KubernetesClaim { namespace, serviceaccount, pod, node } = self.kubernetes;
        let expected = format!("system:serviceaccount:{namespace}:{}", serviceaccount.name);
        let wrong = || ServiceAccountTokenError::Subject(shown(&self.sub));
        if self.sub != expected {
            return Err(wrong());
        }
        Ok(ServiceAccountIdentity {
            namespace: namespace.parse().map_err(|_| wrong())?,
            name: serviceaccount.name.parse().map_err(|_| wrong())?,
            uid: serviceaccount.uid,
            pod: pod.map(|Reference { name, uid }| PodIdentity { name, uid }),
            node: node.map(|node| node.name),
            expires_at: Timestamp::from_second(self.exp)
                .map_err(|_| VerifyError::Payload("`exp` is not a time".to_owned()))?,
        })
    }
}

/// A key that may sign tokens of this kind.
fn issuer_key(jwk: &serde_json::Value) -> Option<PublicJwk> {
    let key = PublicJwk::read(jwk)?;
    let signs = key.usage.as_ref().is_none_or(|usage| usage == "sig");
    (signs && ALGORITHMS.iter().any(|algorithm| key.key_for(algorithm).is_some())).then_some(key)
}

#[cfg(test)]
mod tests;
