//! Private keys, requests for certificates, issued certificates, and the identity that stands in one.
//!
//! A private key is made by the process that uses it; only a request with its public half travels.

use std::fmt;

use nullius_model::{InfraId, ParseInfraIdError, Timestamp};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject,
};
use secrecy::SecretString;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509CertificationRequest};
use zeroize::Zeroizing;

/// Longest request for a certificate that is looked at, in bytes.
const CSR_MAX: usize = 8 * 1024;

/// A certificate, request or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not DER or PEM of what was expected.
    #[error("{what} cannot be read: {detail}")]
    Unreadable { what: &'static str, detail: String },
    /// The requester did not prove that it holds the private key.
    #[error("the certificate request is not signed by the key that it names")]
    NoPossession,
    /// The key is of a kind that is not certified.
    #[error("the key of the certificate request is not ECDSA P-256 or Ed25519")]
    KeyKind,
    /// No URI name, or several.
    #[error("the certificate has {0} URI names; exactly one is needed")]
    UriNames(usize),
    /// The URI name is no identity of ours.
    #[error("the certificate's URI name is refused")]
    Identity(#[source] ParseInfraIdError),
    /// The key could not be made or used.
    #[error("the key cannot be used: {0}")]
    Key(String),
}

/// A private ECDSA P-256 key of this process.
pub struct PrivateKey {
    pair: KeyPair,
}

impl PrivateKey {
    /// Makes a new key.
    pub fn generate() -> Result<Self, CertificateError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|error| CertificateError::Key(error.to_string()))?;
        Ok(Self { pair })
    }

    /// Reads a key from PKCS#8 DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, CertificateError> {
        let der = PrivatePkcs8KeyDer::from(der);
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map_err(|error| CertificateError::Key(error.to_string()))?;
        Ok(Self { pair })
    }

    /// The key as PKCS#8 DER, to be sealed.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.pair.serialize_der())
    }

    /// The key in PEM.
    pub fn to_pem(&self) -> SecretString {
        private_key_pem(&self.to_pkcs8())
    }

    /// The key in the form that TLS takes.
    pub fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pair.serialize_der()))
    }

    /// A request for a certificate. It carries the public key and nothing else: names are the issuer's matter.
    pub fn request(&self) -> Result<Csr, CertificateError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params
            .serialize_request(&self.pair)
            .map_err(|error| CertificateError::Key(error.to_string()))?;
        Ok(Csr(csr.der().to_vec()))
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.pair
    }
}

/// A request for a certificate (PKCS#10) as received; nothing of it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr(Vec<u8>);

impl Csr {
    /// Takes a request in DER.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Self {
        Self(der.into())
    }

    /// Reads a request in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
            unreadable("the certificate request", "it is not PEM of type `CERTIFICATE REQUEST`")
        })?;
        Ok(Self(der.to_vec()))
    }

    /// The request in PEM, as an agent sends it.
    pub fn to_pem(&self) -> String {
        pem("CERTIFICATE REQUEST", &self.0)
    }

    /// The request in DER.
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }

    /// The public key, after the proof that the requester holds its private half. Names and extensions that the
    /// request asks for are not even read.
    pub(crate) fn proven_key(&self) -> Result<impl PublicKeyData + use<>, CertificateError> {
        const WHAT: &str = "the certificate request";
        if self.0.len() > CSR_MAX {
            return Err(unreadable(WHAT, "it is too long"));
        }
        let (rest, csr) = X509CertificationRequest::from_der(&self.0)
            .map_err(|_| unreadable(WHAT, "it is not PKCS#10"))?;
        if !rest.is_empty() {
            return Err(unreadable(WHAT, "bytes follow it"));
        }
        csr.verify_signature().map_err(|_| CertificateError::NoPossession)?;
        let key = csr.certification_request_info.subject_pki.raw;
        let key =
            rcgen::SubjectPublicKeyInfo::from_der(key).map_err(|_| CertificateError::KeyKind)?;
        let kind = key.algorithm();
        if kind != &PKCS_ECDSA_P256_SHA256 && kind != &rcgen::PKCS_ED25519 {
            return Err(CertificateError::KeyKind);
        }
        Ok(key)
    }
}

/// A certificate that an infrastructure root issued, with the chain that a peer needs.
#[derive(Clone)]
pub struct IssuedCertificate {
    /// The certificate, then its issuers without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whom it names.
    pub id: InfraId,
    /// When it ends.
    pub not_after: Timestamp,
}

impl IssuedCertificate {
    /// The chain in PEM.
    pub fn to_pem(&self) -> String {
        self.chain.iter().map(certificate_pem).collect()
    }

    /// Reads a chain in PEM as an agent gets it.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unreadable("the certificate", &error.to_string()))?;
        let leaf = chain.first().ok_or_else(|| unreadable("the certificate", "there is none"))?;
        let CertificateIdentity { id, not_after } = identity_of(leaf)?;
        Ok(Self { chain, id, not_after })
    }
}

impl fmt::Debug for IssuedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedCertificate")
            .field("id", &self.id)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Whom a certificate of the infrastructure root names, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateIdentity {
    /// The one URI name.
    pub id: InfraId,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

/// Reads the identity out of a certificate. The chain must have been verified: this looks at names alone.
pub fn identity_of(certificate: &[u8]) -> Result<CertificateIdentity, CertificateError> {
    let (rest, certificate) = X509Certificate::from_der(certificate)
        .map_err(|_| unreadable("the certificate", "it is not X.509"))?;
    if !rest.is_empty() {
        return Err(unreadable("the certificate", "bytes follow it"));
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| unreadable("the certificate", "its names are malformed"))?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let [uri] = uris.as_slice() else {
        return Err(CertificateError::UriNames(uris.len()));
    };
    let id = uri.parse().map_err(CertificateError::Identity)?;
    let not_after = Timestamp::from_second(certificate.validity().not_after.timestamp())
        .map_err(|_| unreadable("the certificate", "its end is not a time"))?;
    Ok(CertificateIdentity { id, not_after })
}

/// Checks that a certificate can be pinned as a root: a CA that signed itself.
pub fn check_root(certificate: &[u8]) -> Result<(), CertificateError> {
    const WHAT: &str = "the root certificate";
    let (rest, root) =
        X509Certificate::from_der(certificate).map_err(|_| unreadable(WHAT, "it is not X.509"))?;
    if !rest.is_empty() {
        return Err(unreadable(WHAT, "bytes follow it"));
    }
    if !root.is_ca() {
        return Err(unreadable(WHAT, "it is no CA"));
    }
    if root.subject() != root.issuer() || root.verify_signature(None).is_err() {
        return Err(unreadable(WHAT, "it did not sign itself"));
    }
    Ok(())
}

/// A private key of any kind, PKCS#8, in PEM.
pub fn private_key_pem(pkcs8: &[u8]) -> SecretString {
    pem("PRIVATE KEY", pkcs8).into()
}

/// A certificate in PEM.
pub fn certificate_pem(der: &CertificateDer<'_>) -> String {
    pem("CERTIFICATE", der)
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let mut pem = String::with_capacity(text.len() + text.len() / 64 + 64);
    pem.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

pub(crate) fn unreadable(what: &'static str, detail: &str) -> CertificateError {
    CertificateError::Unreadable { what, detail: detail.to_owned() }
}
