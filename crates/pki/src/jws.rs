//! Compact JWS (RFC 7515) with Ed25519 (RFC 8037), and nothing else of JOSE.
//!
//! A header is exactly `alg`, `kid` and `typ`; `crit`, `jwk`, `jku` and all others are refused, so that a token can
//! neither bring its own key nor choose how it is checked. `typ` keeps one kind of token from passing for another.

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use crate::random::sha256;

/// How far the clocks of hub and agent may be apart before a token is refused.
pub const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(5);

const SIGNATURE_LEN: usize = 64;
const SIGNATURE_TEXT_LEN: usize = 86;

/// What a token is, as its `typ` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Request,
    Command,
    KeySet,
    Access,
}

impl TokenKind {
    pub(crate) fn typ(self) -> &'static str {
        match self {
            Self::Request => "nullius-request+jwt",
            Self::Command => "nullius-command+jwt",
            Self::KeySet => "nullius-keyset+jwt",
            Self::Access => "nullius-access+jwt",
        }
    }

    /// The longest token that is looked at, in bytes.
    pub(crate) fn max_len(self) -> usize {
        match self {
            Self::Request | Self::Access => 4 * 1024,
            Self::KeySet => 64 * 1024,
            Self::Command => 1024 * 1024,
        }
    }
}

/// Why a token is refused before its claims are looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Longer than its kind may be.
    #[error("the token is longer than {max} bytes")]
    Oversize { max: usize },
    /// Not three parts of base64url, or a header that is not ours.
    #[error("the token is not a compact jws with `alg`, `kid` and `typ`")]
    Malformed,
    /// `none`, or any algorithm but EdDSA.
    #[error("the algorithm `{0}` is refused; only `EdDSA` is accepted")]
    Algorithm(String),
    /// A token of another kind.
    #[error("the token is of type `{found}`; `{expected}` is needed")]
    Kind { found: String, expected: &'static str },
    /// The key is not in the key set.
    #[error("the key `{0}` is not trusted here; the key set may be out of date")]
    UnknownKey(String),
    /// The key's time has not come or is over.
    #[error("the key `{0}` is not valid now; check the clocks of hub and cluster")]
    KeyNotValid(String),
    /// The signature does not match.
    #[error("the signature is wrong")]
    Signature,
    /// The signature is right, but the payload is not what its type promises.
    #[error("the payload is malformed: {0}")]
    Payload(String),
}

/// Key material that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a PKCS#8 Ed25519 private key.
    #[error("the signing key is not an ed25519 key in pkcs#8")]
    Private,
    /// Not 32 bytes in base64url.
    #[error("the public key is not an ed25519 key in base64url")]
    Public,
    /// The key could not be made.
    #[error("the signing key could not be made")]
    Generate,
}

/// A public Ed25519 key; its text is base64url without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key's id: the first 96 bits of its SHA-256 in base64url.
    pub fn kid(&self) -> String {
        URL_SAFE_NO_PAD.encode(&sha256(&self.0)[..12])
    }

    pub(crate) fn parse_key(&self) -> Result<ParsedPublicKey, KeyError> {
        ParsedPublicKey::new(&ED25519, self.0).map_err(|_| KeyError::Public)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| KeyError::Public)?;
        let key = Self(bytes.try_into().map_err(|_| KeyError::Public)?);
        key.parse_key()?;
        Ok(key)
    }
}

/// A private Ed25519 key with its id.
pub(crate) struct SecretKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SecretKey {
    pub(crate) fn generate() -> Result<Self, KeyError> {
        Self::new(Ed25519KeyPair::generate().map_err(|_| KeyError::Generate)?)
    }

    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        Self::new(Ed25519KeyPair::from_pkcs8(der).map_err(|_| KeyError::Private)?)
    }

    #[cfg(test)]
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        Self::new(Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Private)?)
    }

    fn new(pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Public)?;
        Ok(Self { pair, public: PublicKey(public) })
    }

    pub(crate) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let document = self.pair.to_pkcs8().map_err(|_| KeyError::Private)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs bytes as they are.
    pub(crate) fn sign_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        self.pair.sign(bytes).as_ref().to_vec()
    }

    /// The encoded header of tokens of a kind, with the point after it: it is the same for each of them.
    pub(crate) fn header(&self, kind: TokenKind) -> String {
        header(&self.public.kid(), kind)
    }

    /// Signs a payload under a header from [`Self::header`].
    pub(crate) fn sign(&self, header: &str, payload: &impl Payload) -> String {
        let payload = payload.to_json();
        let length = header.len() + payload.len().div_ceil(3) * 4 + 1 + SIGNATURE_TEXT_LEN;
        let mut token = String::with_capacity(length);
        token.push_str(header);
        URL_SAFE_NO_PAD.encode_string(&payload, &mut token);
        let signature = self.pair.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        token
    }
}

/// What may be signed: plain data of this workspace that always becomes JSON.
pub(crate) trait Payload: Serialize {
    #[expect(
        clippy::expect_used,
        reason = "plain structs with string keys and integers always become JSON"
    )]
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data becomes JSON")
    }
}

impl Payload for nullius_model::RequestAssertion {}
impl Payload for nullius_model::Command {}
impl Payload for nullius_model::KeySet {}
impl Payload for crate::AccessClaims {}

/// The encoded header of tokens of a kind signed by a key, with the point after it.
pub(crate) fn header(kid: &str, kind: TokenKind) -> String {
    let json = format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"{}"}}"#, kind.typ());
    let mut header = URL_SAFE_NO_PAD.encode(json);
    header.push('.');
    header
}

/// A token cut into its parts; nothing of it is verified.
#[derive(Debug)]
pub(crate) struct Compact<'a> {
    /// The header part with the point after it.
    pub(crate) header: &'a str,
    payload: &'a str,
    signature: &'a str,
    signed: &'a str,
}

impl<'a> Compact<'a> {
    pub(crate) fn split(token: &'a str, max: usize) -> Result<Self, VerifyError> {
        if token.len() > max {
            return Err(VerifyError::Oversize { max });
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(VerifyError::Malformed)?;
        let point = signed.find('.').ok_or(VerifyError::Malformed)?;
        let (header, payload) = signed.split_at(point + 1);
        if payload.contains('.') || payload.is_empty() || point == 0 {
            return Err(VerifyError::Malformed);
        }
        Ok(Self { header, payload, signature, signed })
    }

    pub(crate) fn header_json(&self) -> Result<Vec<u8>, VerifyError> {
        let text = self.header.strip_suffix('.').unwrap_or(self.header);
        URL_SAFE_NO_PAD.decode(text).map_err(|_| VerifyError::Malformed)
    }

    /// The `kid`, after `alg` and `typ` were found to be right.
    pub(crate) fn kid(&self, kind: TokenKind) -> Result<String, VerifyError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Header {
            alg: String,
            kid: Option<String>,
            typ: Option<String>,
        }
        let header: Header =
            serde_json::from_slice(&self.header_json()?).map_err(|_| VerifyError::Malformed)?;
        if header.alg != "EdDSA" {
            return Err(VerifyError::Algorithm(shown(&header.alg)));
        }
        let typ = header.typ.unwrap_or_default();
        if typ != kind.typ() {
            return Err(VerifyError::Kind { found: shown(&typ), expected: kind.typ() });
        }
        header.kid.ok_or(VerifyError::Malformed)
    }

    /// Checks the signature and reads the payload.
    pub(crate) fn open<T: DeserializeOwned>(
        &self,
        key: &ParsedPublicKey,
    ) -> Result<T, VerifyError> {
        if self.signature.len() != SIGNATURE_TEXT_LEN {
            return Err(VerifyError::Signature);
        }
        let mut signature = [0; SIGNATURE_LEN + 8];
        let length = URL_SAFE_NO_PAD
            .decode_slice(self.signature, &mut signature)
            .map_err(|_| VerifyError::Malformed)?;
        let signature = signature.get(..length).ok_or(VerifyError::Malformed)?;
        key.verify_sig(self.signed.as_bytes(), signature).map_err(|_| VerifyError::Signature)?;
        serde_json::from_slice(&self.payload_json()?)
            .map_err(|error| VerifyError::Payload(shown(&error.to_string())))
    }

    /// The signed text and the raw signature, for tokens of other algorithms.
    pub(crate) fn signed_parts(&self) -> Result<(&'a str, Vec<u8>), VerifyError> {
        let signature =
            URL_SAFE_NO_PAD.decode(self.signature).map_err(|_| VerifyError::Malformed)?;
        Ok((self.signed, signature))
    }

    pub(crate) fn payload_json(&self) -> Result<Vec<u8>, VerifyError> {
        URL_SAFE_NO_PAD.decode(self.payload).map_err(|_| VerifyError::Malformed)
    }
}

/// Text of a peer, cut and escaped for an error message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(120).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
