//! JWT-SVIDs: a workload's ID for one audience, for minutes, signed by its trust domain (SPIFFE JWT-SVID).

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nullius_model::{ParseSpiffeError, SpiffeId, Timestamp, TrustDomain, Ttl};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::TrustBundle;
use crate::{
    KeyError, VerifyError,
    jwk::PublicJwk,
    jws::{Compact, shown},
    random::sha256,
};

/// The longest JWT-SVID that is looked at, in bytes.
pub const JWT_SVID_MAX: usize = 16 * 1024;
/// The longest that a JWT-SVID lives.
const LIFE_MAX: Ttl = Ttl::from_secs(3_600);
/// How far the clock of an issuer may be ahead or behind, in seconds.
const SKEW_SECS: i64 = 10;
/// What may sign (SPIFFE JWT-SVID, section 2.1).
const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"];

/// Why a JWT-SVID proves nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// The token itself is refused.
    #[error("the JWT-SVID is refused: {0}")]
    Token(#[from] VerifyError),
    /// The subject is no ID of a workload.
    #[error("the JWT-SVID's subject is refused")]
    Id(#[from] ParseSpiffeError),
    /// For somebody else.
    #[error("the JWT-SVID is not for audience `{0}`")]
    Audience(String),
    /// Nobody to verify it with.
    #[error("there is no bundle of the trust domain `{0}`; federate with it first")]
    UnknownDomain(String),
    /// Over.
    #[error("the JWT-SVID ended {0} s ago")]
    Expired(i64),
    /// Issued in the future.
    #[error("the JWT-SVID is not valid yet; check the clocks")]
    Early,
}

/// A key that signs a trust domain's JWT-SVIDs (ES256).
pub struct JwtSigner {
    domain: TrustDomain,
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    kid: String,
}

/// The public half of a key for JWT-SVIDs, as bundles hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtAuthority {
    pub(super) kid: String,
    /// The public members of its JSON Web Key, without `use`.
    pub(super) jwk: Json,
}

/// What a verified JWT-SVID says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtSvid {
    /// Whom it names.
    pub id: SpiffeId,
    /// For whom it is.
    pub audience: Vec<String>,
    /// When it ends.
    pub expires_at: Timestamp,
    /// All of its claims.
    pub claims: serde_json::Map<String, Json>,
}

/// Keys of bundles, ready to verify with.
pub struct JwtVerifier {
    domain: TrustDomain,
    keys: Vec<(String, PublicJwk)>,
}

#[derive(Serialize)]
struct Claims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    sub: &'a str,
    aud: &'a [&'a str],
    iat: i64,
    exp: i64,
}

impl JwtSigner {
    /// Makes a key.
    pub fn create(domain: TrustDomain) -> Result<Self, KeyError> {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| KeyError::Generate)?;
        Self::from_parts(domain, pkcs8.as_ref())
    }

    /// Puts a kept one together again.
    pub fn from_parts(domain: TrustDomain, key_pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key_pkcs8)
            .map_err(|_| KeyError::Private)?;
        let kid = sha256(pair.public_key().as_ref());
        let kid = URL_SAFE_NO_PAD.encode(kid.get(..12).unwrap_or_default());
        Ok(Self { domain, pair, pkcs8: Zeroizing::new(key_pkcs8.to_vec()), kid })
    }

    /// The key as PKCS#8, to be kept where nobody else reads.
    pub fn key_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Its public half.
    pub fn authority(&self) -> JwtAuthority {
        // An uncompressed point: 4, then both coordinates.
        let point = self.pair.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk =
            json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "x": text(x), "y": text(y) });
        JwtAuthority { kid: self.kid.clone(), jwk }
    }

    /// Signs that a workload is who it is, to these audiences, for `life`, at most an hour.
    pub fn sign(
        &self,
        id: &SpiffeId,
        audience: &[&str],
        life: Ttl,
        now: Timestamp,
    ) -> Result<SecretString, JwtError> {
        self.sign_as(None, id, audience, life, now)
    }

    /// The same, saying where the keys are to be found (`iss`, OpenID Connect Discovery).
    pub fn sign_as(
        &self,
        issuer: Option<&str>,
        id: &SpiffeId,
        audience: &[&str],
        life: Ttl,
        now: Timestamp,
    ) -> Result<SecretString, JwtError> {
        if id.trust_domain() != self.domain.as_str() {
            return Err(JwtError::UnknownDomain(id.trust_domain().to_owned()));
        }
        if audience.is_empty() || audience.iter().any(|name| name.is_empty()) {
            return Err(JwtError::Audience(String::new()));
        }
        let header = json!({ "alg": "ES256", "kid": self.kid, "typ": "JWT" }).to_string();
        let claims = Claims {
            iss: issuer,
            sub: id.as_str(),
            aud: audience,
            iat: now.as_second(),
            exp: life.min(LIFE_MAX).after(now).as_second(),
        };
        let payload =
            serde_json::to_vec(&claims).map_err(|error| VerifyError::Payload(error.to_string()))?;
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&payload, &mut token);
        let signature = self
            .pair
            .sign(&SystemRandom::new(), token.as_bytes())
            .map_err(|_| VerifyError::Signature)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(SecretString::from(token))
    }
}

impl JwtAuthority {
    /// Its id.
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

impl JwtVerifier {
    /// With the keys of a bundle.
    pub fn new(bundle: &TrustBundle) -> Self {
        let keys = bundle.jwt_authorities().iter();
        let keys = keys.filter_map(|authority| {
            Some((authority.kid.clone(), PublicJwk::read(&authority.jwk)?))
        });
        Self { domain: bundle.trust_domain().clone(), keys: keys.collect() }
    }

    /// The trust domain whose tokens it verifies.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Proves who holds a token that is for an audience.
    pub fn verify(&self, token: &str, audience: &str, now: Timestamp) -> Result<JwtSvid, JwtError> {
        let compact = Compact::split(token, JWT_SVID_MAX)?;
        let header = Header::read(&compact)?;
        let claims = read_claims(&compact)?;
        let sub = claims.get("sub").and_then(Json::as_str).ok_or_else(|| missing("sub"))?;
        let id: SpiffeId = sub.parse()?;
        if id.trust_domain() != self.domain.as_str() {
            return Err(JwtError::UnknownDomain(id.trust_domain().to_owned()));
        }
        self.check_signature(&header, &compact)?;
        let for_whom = audiences(&claims)?;
        if !for_whom.iter().any(|name| name == audience) {
            return Err(JwtError::Audience(shown(audience)));
        }
        let now = now.as_second();
        let expires = second(&claims, "exp")?.ok_or_else(|| missing("exp"))?;
        if now >= expires.saturating_add(SKEW_SECS) {
            return Err(JwtError::Expired(now.saturating_sub(expires)));
        }
        let begins = second(&claims, "nbf")?.max(second(&claims, "iat")?);
        if begins.is_some_and(|begins| begins > now.saturating_add(SKEW_SECS)) {
            return Err(JwtError::Early);
        }
        let expires_at = Timestamp::from_second(expires)
            .map_err(|_| VerifyError::Payload("`exp` is not a time".to_owned()))?;
        Ok(JwtSvid { id, audience: for_whom, expires_at, claims })
    }

    fn check_signature(&self, header: &Header, token: &Compact<'_>) -> Result<(), VerifyError> {
        let (signed, signature) = token.signed_parts()?;
        let mut candidates = self
            .keys
            .iter()
            .filter(|(kid, _)| header.kid.as_ref().is_none_or(|wanted| wanted == kid))
            .filter_map(|(_, key)| key.key_for(&header.alg))
            .peekable();
        if candidates.peek().is_none() {
            let kid = header.kid.as_deref().unwrap_or_default();
            return Err(VerifyError::UnknownKey(shown(kid)));
        }
        match candidates.any(|key| key.verify_sig(signed.as_bytes(), &signature).is_ok()) {
            true => Ok(()),
            false => Err(VerifyError::Signature),
        }
    }
}

/// The trust domain that a token says it is of. Nothing is verified: it only finds the bundle.
pub(super) fn claimed_domain(token: &str) -> Result<String, JwtError> {
    let compact = Compact::split(token, JWT_SVID_MAX)?;
    let claims = read_claims(&compact)?;
    let sub = claims.get("sub").and_then(Json::as_str).ok_or_else(|| missing("sub"))?;
    Ok(sub.parse::<SpiffeId>()?.trust_domain().to_owned())
}

/// The header, of which nothing may be unknown: a token brings neither its key nor its own rules.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
}

impl Header {
    fn read(token: &Compact<'_>) -> Result<Self, VerifyError> {
        let header: Self =
            serde_json::from_slice(&token.header_json()?).map_err(|_| VerifyError::Malformed)?;
        if !ALGORITHMS.contains(&header.alg.as_str()) {
            return Err(VerifyError::Algorithm(shown(&header.alg)));
        }
        match header.typ.as_deref() {
            None | Some("JWT" | "JOSE") => Ok(header),
            Some(other) => Err(VerifyError::Kind { found: shown(other), expected: "JWT" }),
        }
    }
}

pub(crate) fn read_claims(
    token: &Compact<'_>,
) -> Result<serde_json::Map<String, Json>, VerifyError> {
    serde_json::from_slice(&token.payload_json()?)
        .map_err(|error| VerifyError::Payload(shown(&error.to_string())))
}

pub(crate) fn missing(claim: &str) -> VerifyError {
    VerifyError::Payload(format!("`{claim}` is missing"))
}

fn audiences(claims: &serde_json::Map<String, Json>) -> Result<Vec<String>, VerifyError> {
    let malformed = || VerifyError::Payload("`aud` is no text and no list of texts".to_owned());
    match claims.get("aud") {
        Some(Json::String(one)) => Ok(vec![one.clone()]),
        Some(Json::Array(many)) => {
            many.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(malformed)).collect()
        }
        Some(_) => Err(malformed()),
        None => Err(missing("aud")),
    }
}

/// A NumericDate (RFC 7519, section 2), whole seconds of it.
pub(crate) fn second(
    claims: &serde_json::Map<String, Json>,
    claim: &str,
) -> Result<Option<i64>, VerifyError> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let whole = value.as_i64().or_else(|| {
        let number = value.as_f64()?.floor();
        #[expect(clippy::cast_possible_truncation, reason = "it was compared with the bounds")]
        (number.abs() < 1e15).then_some(number as i64)
    });
    whole.map(Some).ok_or_else(|| VerifyError::Payload(format!("`{claim}` is not a time")))
}
