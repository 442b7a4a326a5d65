//! Public keys as JSON Web Keys (RFC 7517, RFC 7518), for the algorithms that others sign tokens with.
//!
//! RSA from 2048 bits on and the NIST curves; a key that names an algorithm verifies that one alone.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

/// 2048 bits.
const RSA_MODULUS_MIN: usize = 256;

/// The public members of keys (RFC 7518, section 6); `d` and its like never travel on.
const PUBLIC: [&str; 7] = ["kty", "alg", "crv", "x", "y", "n", "e"];

/// What RSA keys verify, by its name in JOSE.
static RSA: [(&str, &aws_lc_rs::signature::RsaParameters); 6] = [
    ("RS256", &RSA_PKCS1_2048_8192_SHA256),
    ("RS384", &RSA_PKCS1_2048_8192_SHA384),
    ("RS512", &RSA_PKCS1_2048_8192_SHA512),
    ("PS256", &RSA_PSS_2048_8192_SHA256),
    ("PS384", &RSA_PSS_2048_8192_SHA384),
    ("PS512", &RSA_PSS_2048_8192_SHA512),
];

/// A curve: its name, what it verifies, and the bytes of a coordinate.
type Curve = (&'static str, &'static str, &'static dyn VerificationAlgorithm, usize);
static CURVES: [Curve; 3] = [
    ("P-256", "ES256", &ECDSA_P256_SHA256_FIXED, 32),
    ("P-384", "ES384", &ECDSA_P384_SHA384_FIXED, 48),
    ("P-521", "ES512", &ECDSA_P521_SHA512_FIXED, 66),
];

/// A public key, and what it verifies.
pub(crate) struct PublicJwk {
    /// Its id, where it has one.
    pub(crate) kid: Option<String>,
    /// `use`, where it is said.
    pub(crate) usage: Option<String>,
    keys: Vec<(&'static str, ParsedPublicKey)>,
}

impl PublicJwk {
    /// Reads a key; `None` for one of a kind, size or algorithm that nobody should sign with.
    pub(crate) fn read(jwk: &Json) -> Option<Self> {
        #[derive(Deserialize)]
        struct Jwk {
            kty: String,
            kid: Option<String>,
            #[serde(rename = "use")]
            usage: Option<String>,
            alg: Option<String>,
            crv: Option<String>,
            n: Option<String>,
            e: Option<String>,
            x: Option<String>,
            y: Option<String>,
        }
        let jwk = Jwk::deserialize(jwk).ok()?;
        let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
        let mut keys = Vec::new();
        match jwk.kty.as_str() {
            "RSA" => {
                let (n, e) = (bytes(jwk.n)?, bytes(jwk.e)?);
                let modulus = n.get(n.iter().position(|byte| *byte != 0)?..)?;
                if modulus.len() < RSA_MODULUS_MIN {
                    return None;
                }
                for (algorithm, parameters) in RSA {
                    let components = RsaPublicKeyComponents { n: modulus, e: e.as_slice() };
                    keys.push((algorithm, components.to_parsed_public_key(parameters).ok()?));
                }
            }
            "EC" => {
                let crv = jwk.crv?;
                let (_, algorithm, verification, size) =
                    *CURVES.iter().find(|(name, ..)| *name == crv)?;
                let (x, y) = (bytes(jwk.x)?, bytes(jwk.y)?);
                if x.len() != size || y.len() != size {
                    return None;
                }
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                keys.push((algorithm, ParsedPublicKey::new(verification, point).ok()?));
            }
            _ => return None,
        }
        if let Some(only) = &jwk.alg {
            keys.retain(|(algorithm, _)| algorithm == only);
        }
        (!keys.is_empty()).then_some(Self { kid: jwk.kid, usage: jwk.usage, keys })
    }

    /// The key for an algorithm, where it verifies that.
    pub(crate) fn key_for(&self, algorithm: &str) -> Option<&ParsedPublicKey> {
        self.keys.iter().find(|(name, _)| *name == algorithm).map(|(_, key)| key)
    }
}

/// A key without what is private, and without its use and id.
pub(crate) fn public_members(key: &Json) -> Json {
    let members = key.as_object().into_iter().flatten();
    let public = members.filter(|(name, _)| PUBLIC.contains(&name.as_str()));
    Json::Object(public.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>())
}
