//! Machines outside of clusters prove who they are by a token that each signs itself (a JWT as RFC 7523 has it): ES256 and nothing else,
//! for one audience, for minutes.
//!
//! The header names the key that is known of the machine (`kid`), or brings certificates (`x5c`, RFC 7515) that an authority stands behind,
//! never both. What the machine claims to be only finds the key; the time is the caller's.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        ParsedPublicKey,
    },
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use nullius_model::{ObjectName, Timestamp};
use rcgen::PublicKeyData as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime, pem::PemObject as _};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use crate::{
    CertificateError, Csr, KeyError, PrivateKey, VerifyError,
    jws::{Compact, shown},
    random::sha256,
    workload::is_valid_anchor,
};

/// The longest token that is looked at, in bytes: certificates are most of it.
pub const MACHINE_TOKEN_MAX: usize = 12 * 1024;
/// How long a token lives, in seconds, at most.
const LIFE_SECS: i64 = 600;
/// How far the clock of a machine may be ahead or behind, in seconds.
const SKEW_SECS: i64 = 30;
/// What keeps these tokens and all others apart.
const KIND: &str = "nullius-machine+jwt";
/// Certificates of a token that are looked at.
const CHAIN_MAX: usize = 6;
/// Certificates of an authority that are read.
const ANCHORS_MAX: usize = 16;
/// What the DER of a P-256 key begins with (RFC 5480); the point follows, uncompressed.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT: usize = 65;

/// The private key of a machine, and the certificates that an authority gave it, where it proves itself by those.
pub struct MachineKey {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    chain: Vec<CertificateDer<'static>>,
}

/// The public key of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachinePublicKey([u8; P256.len() + POINT]);

/// Who stands behind the certificates of a machine, and which name they must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineAuthority {
    anchors: Vec<CertificateDer<'static>>,
    name: Box<str>,
}

/// A token of a machine, read; nothing of it is verified.
#[derive(Debug)]
pub struct MachineToken<'t> {
    compact: Compact<'t>,
    header: Header,
    claims: Claims,
    machine: ObjectName,
}

/// Why a token proves no machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineTokenError {
    /// The token itself is refused.
    #[error("the machine's token is refused: {0}")]
    Token(VerifyError),
    /// `none`, one with a shared secret, or any other than ES256.
    #[error("the algorithm `{0}` is refused; machines sign with `ES256`")]
    Algorithm(String),
    /// It says of itself what no machine is called, or two different things.
    #[error("`iss` and `sub` of the machine's token are not the name of one machine")]
    Subject,
    /// For somebody else.
    #[error("the machine's token is not for audience `{0}`")]
    Audience(String),
    /// Over.
    #[error("the machine's token ended {0} s ago; check its clock")]
    Expired(i64),
    /// Signed in the future.
    #[error("the machine's token is not valid yet; check its clock")]
    Early,
    /// It would be valid for too long.
    #[error("the machine's token lives longer than {LIFE_SECS} s")]
    Long,
    /// It names no key and brings no certificate, or does both.
    #[error("the machine's token must have either `kid` or `x5c`")]
    NoProof,
    /// By another key than the one that is known.
    #[error("the machine's token is not by the key that joined; make a join token for it again")]
    OtherKey,
    /// The certificates prove no name.
    #[error("the machine's certificate proves nobody: {0}")]
    Certificate(String),
}

impl From<VerifyError> for MachineTokenError {
    fn from(error: VerifyError) -> Self {
        Self::Token(error)
    }
}

/// The header, of which nothing may be unknown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: Option<String>,
    x5c: Option<Vec<String>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    iat: i64,
    exp: i64,
}

impl MachineKey {
    /// Makes a key.
    pub fn create() -> Result<Self, KeyError> {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| KeyError::Generate)?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// Reads a kept one (ECDSA P-256).
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
            .map_err(|_| KeyError::Private)?;
        Ok(Self { pair, pkcs8: Zeroizing::new(pkcs8.to_vec()), chain: Vec::new() })
    }

    /// A key and its certificates, the leaf first, both in PEM.
    pub fn with_certificates(key: &str, chain: &str) -> Result<Self, CertificateError> {
        let unreadable = |what, detail: String| CertificateError::Unreadable { what, detail };
        let der = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| unreadable("the key", "it is no `PRIVATE KEY` in PEM".to_owned()))?;
        let read = Self::from_pkcs8(der.secret_pkcs8_der());
        let read =
            read.map_err(|_| unreadable("the key", "machines sign with ECDSA P-256".to_owned()))?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| unreadable("the certificate", error.to_string()))?;
        let leaf = chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
        match leaf {
            Some((_, leaf)) if *leaf.public_key().raw == read.public_key().0 => {
                Ok(Self { chain, ..read })
            }
            Some(_) => Err(unreadable("the certificate", "it is of another key".to_owned())),
            None => Err(unreadable("the certificate", "there is none".to_owned())),
        }
    }

    /// The key as PKCS#8, to be kept where nobody else reads.
    pub fn key_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Its public half.
    pub fn public_key(&self) -> MachinePublicKey {
        let mut der = [0; P256.len() + POINT];
        let (head, point) = der.split_at_mut(P256.len());
        head.copy_from_slice(&P256);
        point.copy_from_slice(self.pair.public_key().as_ref());
        MachinePublicKey(der)
    }

    /// What proves that somebody has this key, and says which it is.
    pub fn request(&self) -> Result<Csr, CertificateError> {
        PrivateKey::from_pkcs8(&self.pkcs8)?.request()
    }

    /// Signs that this is a machine, to an audience, for the minutes after `now`.
    pub fn sign(
        &self,
        machine: &ObjectName,
        audience: &str,
        now: Timestamp,
    ) -> Result<SecretString, VerifyError> {
        let header = match self.chain.as_slice() {
            [] => json!({ "alg": "ES256", "typ": KIND, "kid": self.public_key().id() }),
            chain => {
                let chain: Vec<String> = chain.iter().map(|der| STANDARD.encode(der)).collect();
                json!({ "alg": "ES256", "typ": KIND, "x5c": chain })
            }
        };
        let claims = Claims {
            iss: machine.to_string(),
            sub: machine.to_string(),
            aud: audience.to_owned(),
            iat: now.as_second(),
            exp: now.as_second().saturating_add(LIFE_SECS),
        };
        let claims =
            serde_json::to_vec(&claims).map_err(|error| VerifyError::Payload(error.to_string()))?;
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&claims, &mut token);
        let signature = self
            .pair
            .sign(&SystemRandom::new(), token.as_bytes())
            .map_err(|_| VerifyError::Signature)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(SecretString::from(token))
    }
}

impl MachinePublicKey {
    /// The key of a request, after the proof that whoever asks has its private half.
    pub fn proven(request: &Csr) -> Result<Self, CertificateError> {
        let key = request.proven_key()?.subject_public_key_info();
        Self::from_der(&key).ok_or(CertificateError::KeyKind)
    }

    /// Reads it from the DER of a SubjectPublicKeyInfo; nothing where it is not of P-256.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let key: [u8; P256.len() + POINT] = der.try_into().ok()?;
        let (head, point) = key.split_at(P256.len());
        let is_point = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).is_ok();
        (head == P256 && is_point).then_some(Self(key))
    }

    /// Reads it as it is kept, in base64.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::from_der(&STANDARD.decode(text).ok()?)
    }

    /// As it is kept, in base64.
    pub fn to_text(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Its SHA-256 in hexadecimal digits.
    pub fn id(&self) -> String {
        hex::encode(sha256(&self.0))
    }

    fn verify(&self, signed: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        let point = self.0.get(P256.len()..).unwrap_or_default();
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        let key = key.map_err(|_| VerifyError::Signature)?;
        key.verify_sig(signed, signature).map_err(|_| VerifyError::Signature)
    }
}

impl MachineAuthority {
    /// Reads the certificates of an authority in PEM; the name is compared as it stands with the DNS and URI names of a machine's certificate.
    pub fn read(bundle: &str, name: &str) -> Result<Self, CertificateError> {
        const WHAT: &str = "the authority of the machine";
        let unreadable = |detail: String| CertificateError::Unreadable { what: WHAT, detail };
        let anchors: Vec<_> = CertificateDer::pem_slice_iter(bundle.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| unreadable(error.to_string()))?;
        if anchors.is_empty() || anchors.len() > ANCHORS_MAX {
            let count = anchors.len();
            return Err(unreadable(format!(
                "it has {count} certificates, 1 to {ANCHORS_MAX} can be"
            )));
        }
        for anchor in &anchors {
            let is_authority = X509Certificate::from_der(anchor)
                .is_ok_and(|(rest, it)| rest.is_empty() && it.is_ca());
            if !is_authority || anchor_from_trusted_cert(anchor).is_err() {
                return Err(unreadable("one of its certificates is no CA".to_owned()));
            }
        }
        Ok(Self { anchors, name: name.into() })
    }

    /// The key that certificates prove for the name.
    fn prove(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<MachinePublicKey, MachineTokenError> {
        let refused = |why: &str| MachineTokenError::Certificate(why.to_owned());
        let [leaf, issuers @ ..] = chain else { return Err(refused("there is none")) };
        let anchors = self.anchors.iter().filter(|anchor| is_valid_anchor(anchor, now));
        let anchors: Vec<_> = anchors.filter_map(|it| anchor_from_trusted_cert(it).ok()).collect();
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let entity =
            EndEntityCert::try_from(leaf).map_err(|error| refused(&shown(&error.to_string())))?;
        entity
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &anchors,
                issuers,
                at,
                KeyUsage::client_auth(),
                None,
                None,
            )
            .map_err(|error| refused(&shown(&error.to_string())))?;
        let Ok(([], leaf)) = X509Certificate::from_der(leaf) else {
            return Err(refused("its form is wrong"));
        };
        let usage = leaf.key_usage().map_err(|_| refused("its key usage is malformed"))?;
        if usage.is_some_and(|usage| !usage.value.digital_signature()) {
            return Err(refused("its key usage lacks digital signature"));
        }
        let names =
            leaf.subject_alternative_name().map_err(|_| refused("its names are malformed"))?;
        let has_name = names.iter().flat_map(|it| &it.value.general_names).any(|name| match name {
            GeneralName::DNSName(text) | GeneralName::URI(text) => **text == *self.name,
            _ => false,
        });
        if !has_name {
            return Err(refused("it does not have the name that the Machine asks for"));
        }
        MachinePublicKey::from_der(leaf.public_key().raw)
            .ok_or_else(|| refused("its key is not ECDSA P-256"))
    }
}

impl<'t> MachineToken<'t> {
    /// Whether a token says to be one of a machine. Nothing else of it is looked at.
    pub fn is_one(token: &str) -> bool {
        #[derive(Deserialize)]
        struct Kind {
            typ: Option<String>,
        }
        let header = Compact::split(token, MACHINE_TOKEN_MAX).and_then(|it| it.header_json());
        let kind = header.ok().and_then(|json| serde_json::from_slice::<Kind>(&json).ok());
        kind.is_some_and(|kind| kind.typ.as_deref() == Some(KIND))
    }

    /// Reads a token.
    pub fn read(token: &'t str) -> Result<Self, MachineTokenError> {
        let compact = Compact::split(token, MACHINE_TOKEN_MAX)?;
        let header: Header =
            serde_json::from_slice(&compact.header_json()?).map_err(|_| VerifyError::Malformed)?;
        if header.alg != "ES256" {
            return Err(MachineTokenError::Algorithm(shown(&header.alg)));
        }
        if header.typ != KIND {
            let found = shown(&header.typ);
            return Err(VerifyError::Kind { found, expected: KIND }.into());
        }
        if header.kid.is_some() == header.x5c.is_some() {
            return Err(MachineTokenError::NoProof);
        }
        let claims: Claims = serde_json::from_slice(&compact.payload_json()?)
            .map_err(|error| VerifyError::Payload(shown(&error.to_string())))?;
        if claims.iss != claims.sub {
            return Err(MachineTokenError::Subject);
        }
        let machine = claims.sub.parse().map_err(|_| MachineTokenError::Subject)?;
        Ok(Self { compact, header, claims, machine })
    }

    /// Which machine it says to be of.
    pub fn machine(&self) -> &ObjectName {
        &self.machine
    }

    /// Whether it is to be proven by certificates, not by the key that joined.
    pub fn has_certificates(&self) -> bool {
        self.header.x5c.is_some()
    }

    /// Proves it by the key that is known of the machine; says when it ends.
    pub fn verify_by_key(
        &self,
        key: &MachinePublicKey,
        audience: &str,
        now: Timestamp,
    ) -> Result<Timestamp, MachineTokenError> {
        let ends = self.check_claims(audience, now)?;
        if self.header.kid.as_deref() != Some(&*key.id()) {
            return Err(MachineTokenError::OtherKey);
        }
        self.check_signature(key)?;
        Ok(ends)
    }

    /// Proves it by certificates that it brings, which an authority stands behind; gives the key, and says when it ends.
    pub fn verify_by_authority(
        &self,
        authority: &MachineAuthority,
        audience: &str,
        now: Timestamp,
    ) -> Result<(MachinePublicKey, Timestamp), MachineTokenError> {
        let ends = self.check_claims(audience, now)?;
        let chain = self.header.x5c.as_ref().ok_or(MachineTokenError::NoProof)?;
        if chain.len() > CHAIN_MAX {
            let why = format!("there are more than {CHAIN_MAX} certificates");
            return Err(MachineTokenError::Certificate(why));
        }
        let chain: Result<Vec<_>, _> =
            chain.iter().map(|text| STANDARD.decode(text).map(CertificateDer::from)).collect();
        let chain = chain.map_err(|_| VerifyError::Malformed)?;
        let key = authority.prove(&chain, now)?;
        self.check_signature(&key)?;
        Ok((key, ends))
    }

    fn check_claims(&self, audience: &str, now: Timestamp) -> Result<Timestamp, MachineTokenError> {
        let Claims { aud, iat, exp, .. } = &self.claims;
        if aud != audience {
            return Err(MachineTokenError::Audience(audience.to_owned()));
        }
        let now = now.as_second();
        if exp.saturating_sub(*iat) > LIFE_SECS {
            return Err(MachineTokenError::Long);
        }
        if *iat > now.saturating_add(SKEW_SECS) {
            return Err(MachineTokenError::Early);
        }
        let ends = exp.saturating_add(SKEW_SECS);
        if now >= ends {
            return Err(MachineTokenError::Expired(now.saturating_sub(*exp)));
        }
        Timestamp::from_second(ends)
            .map_err(|_| VerifyError::Payload("`exp` is not a time".to_owned()).into())
    }

    fn check_signature(&self, key: &MachinePublicKey) -> Result<(), VerifyError> {
        let (signed, signature) = self.compact.signed_parts()?;
        key.verify(signed.as_bytes(), &signature)
    }
}

#[cfg(test)]
mod tests;
