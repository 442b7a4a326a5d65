//! X.509-SVIDs: what one says, and whether the bundle of its trust domain stands behind it.

use std::fmt;

use nullius_model::{ParseSpiffeError, SpiffeId, Timestamp};
use rcgen::PublicKeyData as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext, anchor_from_trusted_cert,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::TrustBundle;
use crate::{PrivateKey, certificate::certificate_pem};

/// Certificates of a chain that are looked at.
const CHAIN_MAX: usize = 8;
/// Bytes of a certificate that are looked at.
const CERTIFICATE_MAX: usize = 64 * 1024;
/// Certificates that one list may hold.
const SPLIT_MAX: usize = 256;

/// A workload's certificate with the chain that peers need.
#[derive(Clone)]
pub struct X509Svid {
    /// The leaf, then its issuers without the anchor.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whom it names.
    pub id: SpiffeId,
    /// When it ends.
    pub not_after: Timestamp,
}

impl X509Svid {
    /// The chain in PEM.
    pub fn to_pem(&self) -> String {
        self.chain.iter().map(certificate_pem).collect()
    }

    /// Whether the leaf is for this key.
    pub fn is_for(&self, key: &PrivateKey) -> bool {
        let leaf = self.chain.first().and_then(|leaf| parse(leaf).ok());
        leaf.is_some_and(|leaf| leaf.public_key().raw == key.pair().subject_public_key_info())
    }
}

impl fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509Svid")
            .field("id", &self.id)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Why a certificate proves nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// No certificate, or too many.
    #[error("the chain has {0} certificates; one to eight are looked at")]
    Chain(usize),
    /// Not X.509.
    #[error("the certificate is not X.509: {0}")]
    Unreadable(&'static str),
    /// No URI name, or several.
    #[error("the certificate has {0} URI names; an SVID has exactly one")]
    UriNames(usize),
    /// The URI name is no ID of a workload.
    #[error("the certificate's URI name is refused")]
    Id(#[from] ParseSpiffeError),
    /// A leaf that could sign others.
    #[error("the certificate may sign others, so that it proves no workload: {0}")]
    Authority(&'static str),
    /// Without the right to sign what TLS needs.
    #[error("the certificate's key usage lacks digital signature")]
    KeyUsage,
    /// Nobody to verify it with.
    #[error("there is no bundle of the trust domain `{0}`; federate with it first")]
    UnknownDomain(String),
    /// Over, or not begun.
    #[error("the certificate is not valid now: it lives from {from} to {until}")]
    NotValid {
        /// When it begins.
        from: Timestamp,
        /// When it ends.
        until: Timestamp,
    },
    /// The bundle does not stand behind it.
    #[error("the bundle of `{domain}` does not stand behind the certificate of `{id}`: {why}")]
    NotVerified {
        /// The trust domain.
        domain: String,
        /// Whom the certificate names.
        id: SpiffeId,
        /// What the verifier says.
        why: String,
    },
}

/// Reads whom a leaf names, and until when. This looks at the certificate alone, at no chain (SPIFFE X509-SVID, sections 2 to 4).
pub fn read_x509_svid(leaf: &[u8]) -> Result<(SpiffeId, Timestamp), SvidError> {
    let leaf = parse(leaf)?;
    Ok((read(&leaf)?, time(leaf.validity().not_after)?))
}

/// Takes certificates apart that stand one after the other in DER, as the Workload API sends them; at most 256.
pub fn split_certificates(mut der: &[u8]) -> Result<Vec<CertificateDer<'static>>, SvidError> {
    let mut all = Vec::new();
    while !der.is_empty() {
        let (rest, _) = X509Certificate::from_der(der)
            .map_err(|_| SvidError::Unreadable("its form is wrong"))?;
        let (one, _) = der.split_at(der.len() - rest.len());
        if one.len() > CERTIFICATE_MAX || all.len() >= SPLIT_MAX {
            return Err(SvidError::Unreadable("it is too long"));
        }
        all.push(CertificateDer::from(one.to_vec()));
        der = rest;
    }
    Ok(all)
}

/// Where a certificate says its extended usages, those of an SVID are both ends of TLS.
struct BothEnds;

impl ExtendedKeyUsageValidator for BothEnds {
    fn validate(&self, usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let present = usages
            .map(|usage| usage.map(|usage| usage.to_decoded_oid()))
            .collect::<Result<Vec<_>, _>>()?;
        for (usage, end) in [
            (KeyUsage::SERVER_AUTH_REPR, KeyUsage::server_auth()),
            (KeyUsage::CLIENT_AUTH_REPR, KeyUsage::client_auth()),
        ] {
            if !present.is_empty() && !present.iter().any(|oid| oid == usage) {
                let context = RequiredEkuNotFoundContext { required: end, present };
                return Err(webpki::Error::RequiredEkuNotFoundContext(context));
            }
        }
        Ok(())
    }
}

/// Proves who presents a chain, by the bundle of the leaf's own trust domain alone.
pub fn verify_x509_svid<'b>(
    chain: &[CertificateDer<'_>],
    bundle_of: impl FnOnce(&str) -> Option<&'b TrustBundle>,
    now: Timestamp,
) -> Result<(SpiffeId, Timestamp), SvidError> {
    let [leaf, issuers @ ..] = chain else { return Err(SvidError::Chain(0)) };
    if chain.len() > CHAIN_MAX {
        return Err(SvidError::Chain(chain.len()));
    }
    let parsed = parse(leaf)?;
    let id = read(&parsed)?;
    let domain = id.trust_domain().to_owned();
    let Some(bundle) = bundle_of(&domain).filter(|bundle| bundle.trust_domain().as_str() == domain)
    else {
        return Err(SvidError::UnknownDomain(domain));
    };
    let (from, until) = (time(parsed.validity().not_before)?, time(parsed.validity().not_after)?);
    if now < from || now >= until {
        return Err(SvidError::NotValid { from, until });
    }
    let refused =
        |why: String| SvidError::NotVerified { domain: domain.clone(), id: id.clone(), why };
    let anchors: Vec<_> = bundle
        .x509_authorities()
        .iter()
        .filter(|anchor| is_valid_anchor(anchor, now))
        .filter_map(|anchor| anchor_from_trusted_cert(anchor).ok())
        .collect();
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let entity = EndEntityCert::try_from(leaf).map_err(|error| refused(error.to_string()))?;
    entity
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            issuers,
            at,
            BothEnds,
            None,
            None,
        )
        .map_err(|error| refused(error.to_string()))?;
    Ok((id, until))
}

/// An anchor has a life, which webpki does not look at.
pub(crate) fn is_valid_anchor(anchor: &CertificateDer<'_>, now: Timestamp) -> bool {
    let life = parse(anchor)
        .ok()
        .map(|anchor| (time(anchor.validity().not_before), time(anchor.validity().not_after)));
    matches!(life, Some((Ok(from), Ok(until))) if from <= now && now < until)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, SvidError> {
    if der.len() > CERTIFICATE_MAX {
        return Err(SvidError::Unreadable("it is too long"));
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(SvidError::Unreadable("bytes follow it")),
        Err(_) => Err(SvidError::Unreadable("its form is wrong")),
    }
}

fn read(leaf: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let malformed = |_| SvidError::Unreadable("an extension stands twice or is malformed");
    let names = leaf.subject_alternative_name().map_err(malformed)?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let [uri] = uris.as_slice() else { return Err(SvidError::UriNames(uris.len())) };
    let id = uri.parse()?;
    let constraints = leaf.basic_constraints().map_err(malformed)?;
    if constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(SvidError::Authority("it is a CA"));
    }
    let usage = leaf.key_usage().map_err(malformed)?.ok_or(SvidError::KeyUsage)?.value;
    if usage.key_cert_sign() {
        return Err(SvidError::Authority("its key usage has certificate sign"));
    }
    if usage.crl_sign() {
        return Err(SvidError::Authority("its key usage has CRL sign"));
    }
    if usage.digital_signature() { Ok(id) } else { Err(SvidError::KeyUsage) }
}

fn time(asn1: x509_parser::time::ASN1Time) -> Result<Timestamp, SvidError> {
    Timestamp::from_second(asn1.timestamp())
        .map_err(|_| SvidError::Unreadable("its life is not a time"))
}
