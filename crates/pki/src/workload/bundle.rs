//! Trust bundles: what stands behind the SVIDs of one trust domain, in the form in which SPIFFE exchanges them.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use nullius_model::{Timestamp, TrustDomain};
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value as Json, json};
use x509_parser::{
    oid_registry::OID_SIG_ED25519,
    prelude::{FromDer, X509Certificate},
    public_key::PublicKey,
};

use super::{JwtAuthority, JwtError, JwtSvid, JwtVerifier, jwt::claimed_domain};
use crate::{
    certificate::certificate_pem,
    jwk::{PublicJwk, public_members},
    jws::shown,
};

/// The longest bundle that is read, in bytes.
pub const BUNDLE_MAX: usize = 1024 * 1024;
/// Keys of a bundle that are looked at.
const KEYS_MAX: usize = 256;
/// The longest id of a key, in bytes.
const KEY_ID_MAX: usize = 256;

/// The authorities of a trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    domain: TrustDomain,
    x509: Vec<CertificateDer<'static>>,
    jwt: Vec<JwtAuthority>,
    sequence: Option<u64>,
    refresh_hint: Option<u64>,
}

/// A bundle that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Too long.
    #[error("the bundle is longer than {BUNDLE_MAX} bytes")]
    Oversize,
    /// Not JSON of a key set.
    #[error("the bundle is no JSON web key set: {0}")]
    Malformed(String),
    /// A key that breaks the rules.
    #[error("`keys[{index}]` of the bundle is refused: {why}")]
    Key {
        /// Which one, from 0.
        index: usize,
        /// What is wrong.
        why: String,
    },
}

impl TrustBundle {
    /// A bundle in which nothing stands.
    pub fn new(domain: TrustDomain) -> Self {
        Self { domain, x509: Vec::new(), jwt: Vec::new(), sequence: None, refresh_hint: None }
    }

    /// Reads a bundle (SPIFFE Trust Domain and Bundle, section 4). Keys of a use that is not known are passed over, as the
    /// specification says.
    pub fn read(domain: TrustDomain, text: &[u8]) -> Result<Self, BundleError> {
        Self::read_with(domain, text, Err)
    }

    /// Reads a bundle of somebody else, who may have keys that nobody uses here: these are left out, and what is wrong with each is
    /// given beside. Where nothing else is in it, it cannot be used.
    pub fn read_usable(
        domain: TrustDomain,
        text: &[u8],
    ) -> Result<(Self, Vec<BundleError>), BundleError> {
        let mut left_out = Vec::new();
        let bundle = Self::read_with(domain, text, |error| {
            left_out.push(error);
            Ok(())
        })?;
        match left_out.first() {
            Some(error) if bundle.x509.is_empty() && bundle.jwt.is_empty() => Err(error.clone()),
            _ => Ok((bundle, left_out)),
        }
    }

    fn read_with(
        domain: TrustDomain,
        text: &[u8],
        mut refuse: impl FnMut(BundleError) -> Result<(), BundleError>,
    ) -> Result<Self, BundleError> {
        if text.len() > BUNDLE_MAX {
            return Err(BundleError::Oversize);
        }
        let malformed = |why: &str| BundleError::Malformed(shown(why));
        let document: Map<String, Json> =
            serde_json::from_slice(text).map_err(|error| malformed(&error.to_string()))?;
        let keys = document.get("keys").and_then(Json::as_array);
        let keys = keys.ok_or_else(|| malformed("`keys` is missing or no list"))?;
        if keys.len() > KEYS_MAX {
            return Err(malformed("it has more than 256 keys"));
        }
        let number = |name: &str| match document.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| {
                BundleError::Malformed(format!("`{name}` is no number of 0 or more"))
            }),
        };
        let mut bundle = Self {
            sequence: number("spiffe_sequence")?,
            refresh_hint: number("spiffe_refresh_hint")?,
            ..Self::new(domain)
        };
        for (index, key) in keys.iter().enumerate() {
            if let Err(why) = bundle.take(key) {
                refuse(BundleError::Key { index, why })?;
            }
        }
        Ok(bundle)
    }

    fn take(&mut self, key: &Json) -> Result<(), String> {
        match key.get("use").and_then(Json::as_str) {
            Some("x509-svid") => {
                let chain = key.get("x5c").and_then(Json::as_array).map(Vec::as_slice);
                let Some([Json::String(certificate)]) = chain else {
                    return Err("`x5c` must be a list of exactly one certificate".to_owned());
                };
                let der =
                    STANDARD.decode(certificate).map_err(|_| "`x5c[0]` is no base64".to_owned())?;
                self.add_x509(der.into()).map_err(str::to_owned)
            }
            Some("jwt-svid") => {
                let kid = key.get("kid").and_then(Json::as_str).filter(|kid| !kid.is_empty());
                let kid = kid.ok_or("`kid` is missing")?;
                if kid.len() > KEY_ID_MAX {
                    return Err(format!("`kid` is longer than {KEY_ID_MAX} bytes"));
                }
                if self.jwt.iter().any(|known| known.kid == kid) {
                    return Err(format!("the id `{}` stands twice", shown(kid)));
                }
                let jwk = public_members(key);
                if PublicJwk::read(&jwk).is_none() {
                    return Err(
                        "it is no RSA key of 2048 bits or more and no key on P-256, P-384 or P-521"
                            .to_owned(),
                    );
                }
                self.jwt.push(JwtAuthority { kid: kid.to_owned(), jwk });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Adds an anchor for X.509-SVIDs; one that is there already is not added again.
    ///
    /// # Errors
    ///
    /// What is wrong with a certificate that can be no anchor.
    pub fn add_x509(&mut self, anchor: CertificateDer<'static>) -> Result<(), &'static str> {
        match X509Certificate::from_der(&anchor) {
            Ok(([], certificate)) => {
                if !certificate.is_ca() {
                    return Err("the certificate is no CA");
                }
                if jwk_of(&certificate).is_none() {
                    return Err(
                        "the certificate's key is neither RSA nor on P-256, P-384, P-521 or Ed25519",
                    );
                }
            }
            _ => return Err("the certificate is not X.509"),
        }
        if !self.x509.contains(&anchor) {
            self.x509.push(anchor);
        }
        Ok(())
    }

    /// Adds a key for JWT-SVIDs; one of the same id is replaced.
    pub fn add_jwt(&mut self, authority: JwtAuthority) {
        self.jwt.retain(|known| known.kid != authority.kid);
        self.jwt.push(authority);
    }

    /// Says which version of the bundle this is, and after how many seconds to look again.
    #[must_use]
    pub fn at(self, sequence: u64, refresh_hint_secs: u64) -> Self {
        Self { sequence: Some(sequence), refresh_hint: Some(refresh_hint_secs), ..self }
    }

    /// The bundle without the anchors and keys that do not stand behind anything any more.
    #[must_use]
    pub fn only(
        mut self,
        is_anchor: impl Fn(&CertificateDer<'static>) -> bool,
        is_key: impl Fn(&JwtAuthority) -> bool,
    ) -> Self {
        self.x509.retain(is_anchor);
        self.jwt.retain(is_key);
        self
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Anchors for X.509-SVIDs.
    pub fn x509_authorities(&self) -> &[CertificateDer<'static>] {
        &self.x509
    }

    /// Keys for JWT-SVIDs.
    pub fn jwt_authorities(&self) -> &[JwtAuthority] {
        &self.jwt
    }

    /// Which version of the bundle this is; a lower one is older.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// After how many seconds to look again.
    pub fn refresh_hint_secs(&self) -> Option<u64> {
        self.refresh_hint
    }

    /// The anchors in PEM.
    pub fn to_pem(&self) -> String {
        self.x509.iter().map(certificate_pem).collect()
    }

    /// The keys for JWT-SVIDs alone, as the Workload API sends them.
    pub fn jwt_json(&self) -> Json {
        let keys = self.jwt.iter().map(jwt_key);
        json!({ "keys": keys.collect::<Vec<_>>() })
    }

    /// The same for whoever knows of OpenID Connect and nothing of SPIFFE: `use: sig`.
    pub fn discovery_json(&self) -> Json {
        let keys = self.jwt.iter().map(|authority| jwk_for("sig", authority));
        json!({ "keys": keys.collect::<Vec<_>>() })
    }

    /// The bundle as others read it.
    pub fn to_json(&self) -> Json {
        let x509 = self.x509.iter().map(|anchor| {
            let mut key = X509Certificate::from_der(anchor)
                .ok()
                .and_then(|(_, certificate)| jwk_of(&certificate))
                .unwrap_or_default();
            key.insert("use".to_owned(), json!("x509-svid"));
            key.insert("x5c".to_owned(), json!([STANDARD.encode(anchor)]));
            Json::Object(key)
        });
        let jwt = self.jwt.iter().map(jwt_key);
        let mut document = Map::from_iter([("keys".to_owned(), x509.chain(jwt).collect())]);
        let numbers =
            [("spiffe_sequence", self.sequence), ("spiffe_refresh_hint", self.refresh_hint)];
        for (name, value) in numbers {
            document.extend(value.map(|value| (name.to_owned(), json!(value))));
        }
        Json::Object(document)
    }

    /// Proves who holds a token, by whichever of these bundles is of its trust domain.
    pub fn verify_jwt<'b>(
        token: &str,
        audience: &str,
        bundle_of: impl FnOnce(&str) -> Option<&'b Self>,
        now: Timestamp,
    ) -> Result<JwtSvid, JwtError> {
        let domain = claimed_domain(token)?;
        match bundle_of(&domain) {
            Some(bundle) => JwtVerifier::new(bundle).verify(token, audience, now),
            None => Err(JwtError::UnknownDomain(domain)),
        }
    }
}

fn jwt_key(authority: &JwtAuthority) -> Json {
    jwk_for("jwt-svid", authority)
}

fn jwk_for(usage: &str, authority: &JwtAuthority) -> Json {
    let mut key = authority.jwk.as_object().cloned().unwrap_or_default();
    key.insert("use".to_owned(), json!(usage));
    key.insert("kid".to_owned(), json!(authority.kid));
    Json::Object(key)
}

/// The key of a certificate as a JSON Web Key (RFC 7518, section 6; RFC 8037); kinds that nobody signs certificates with have none here.
fn jwk_of(certificate: &X509Certificate<'_>) -> Option<Map<String, Json>> {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let key = match certificate.public_key().parsed().ok()? {
        PublicKey::RSA(key) => {
            let trimmed = |bytes: &[u8]| {
                let first = bytes.iter().position(|byte| *byte != 0).unwrap_or_default();
                text(bytes.get(first..).unwrap_or_default())
            };
            json!({ "kty": "RSA", "n": trimmed(key.modulus), "e": trimmed(key.exponent) })
        }
        PublicKey::EC(point) => {
            let coordinates = point.data().strip_prefix(&[4])?;
            let (x, y) = coordinates.split_at_checked(coordinates.len() / 2)?;
            let curve = match x.len() {
                32 => "P-256",
                48 => "P-384",
                66 => "P-521",
                _ => return None,
            };
            json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) })
        }
        PublicKey::Unknown(point)
            if certificate.public_key().algorithm.algorithm == OID_SIG_ED25519 =>
        {
            json!({ "kty": "OKP", "crv": "Ed25519", "x": text(point) })
        }
        _ => return None,
    };
    key.as_object().cloned()
}
