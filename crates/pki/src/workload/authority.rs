//! The authority of one cluster: prepared with a key of its own, certified by the workload root, then issuing SVIDs.

use nullius_model::{SpiffeId, Timestamp, TrustDomain, Ttl};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::{CertificateDer, DnsName, pem::PemObject};
use x509_parser::{
    oid_registry::OID_X509_EXT_NAME_CONSTRAINTS,
    prelude::{FromDer, X509Certificate},
};
use zeroize::Zeroizing;

use super::{
    root::{BACKDATE_SECS, only},
    x509::X509Svid,
};
use crate::{
    CertificateError, Csr, PrivateKey, RootError,
    certificate::{certificate_pem, unreadable},
    random::sha256,
    root::{date, ia5, issue, serial},
};

const WHAT: &str = "the authority of the cluster";
/// The longest that an X.509-SVID lives.
const SVID_MAX: Ttl = Ttl::from_secs(86_400);

/// Why a certificate of an authority is not admitted.
#[derive(Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// Not X.509, or not of this form.
    #[error(transparent)]
    Unreadable(#[from] CertificateError),
    /// Another key or name than expected.
    #[error("the certificate of the authority is for another key or name")]
    Other,
    /// Not by the workload root.
    #[error("the workload root did not sign the certificate of the authority")]
    NotSigned,
    /// It may say more than its trust domain, or is no authority.
    #[error("the certificate of the authority is not bounded to the trust domain `{0}`")]
    Unbounded(TrustDomain),
    /// Over, or not begun.
    #[error(
        "the certificate of the authority is not valid now; check the clocks of hub and cluster"
    )]
    NotValid,
    /// The anchor does not belong to what the root signed.
    #[error(
        "the anchor of the trust domain `{0}` is not the authority that the workload root signed"
    )]
    Anchor(TrustDomain),
    /// The certificate signed by itself could not be made.
    #[error(transparent)]
    Root(#[from] RootError),
}

/// A key that waits for its certificate.
pub struct PreparedAuthority {
    domain: TrustDomain,
    key: PrivateKey,
}

/// An authority that may issue.
pub struct ClusterAuthority {
    domain: TrustDomain,
    key: PrivateKey,
    certificate: CertificateDer<'static>,
    anchor: CertificateDer<'static>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// What an X.509-SVID is asked for.
pub struct SvidRequest<'a> {
    /// The ID that was attested.
    pub id: &'a SpiffeId,
    /// DNS names beside it; few need one.
    pub dns_names: &'a [DnsName<'a>],
    /// The request, of which only the proven public key is used.
    pub csr: &'a Csr,
    /// How long it is to live, at most a day and never longer than the authority.
    pub life: Ttl,
}

/// Life of a certificate.
struct Life {
    not_before: Timestamp,
    not_after: Timestamp,
}

/// What the certificate of an authority says of itself; nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityFacts {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// SHA-256 of its public key, hexadecimal.
    pub key_digest: String,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

impl AuthorityFacts {
    /// Reads a certificate.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let certificate = parse(certificate)?;
        let time = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp())
                .map_err(|_| unreadable(WHAT, "its life is not a time"))
        };
        Ok(Self {
            serial: hex::encode(certificate.raw_serial()),
            key_digest: hex::encode(sha256(certificate.public_key().raw)),
            not_before: time(certificate.validity().not_before)?,
            not_after: time(certificate.validity().not_after)?,
        })
    }
}

impl PreparedAuthority {
    /// Makes the key (ECDSA P-256).
    pub fn create(domain: TrustDomain) -> Result<Self, CertificateError> {
        Ok(Self { domain, key: PrivateKey::generate()? })
    }

    /// Puts a kept one together again.
    pub fn from_parts(domain: TrustDomain, key_pkcs8: &[u8]) -> Result<Self, CertificateError> {
        Ok(Self { domain, key: PrivateKey::from_pkcs8(key_pkcs8)? })
    }

    /// The key as PKCS#8, to be kept where nobody else reads.
    pub fn key_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.key.to_pkcs8()
    }

    /// What the workload root is asked to sign.
    pub fn request(&self) -> Result<Csr, CertificateError> {
        self.key.request()
    }

    /// Takes what the workload root signed, and makes the anchor beside it.
    pub fn admit(
        self,
        certificate: CertificateDer<'static>,
        root: &CertificateDer<'_>,
        now: Timestamp,
    ) -> Result<ClusterAuthority, NotAdmitted> {
        let key = self.key.pair().subject_public_key_info();
        let Life { not_before, not_after } =
            check_signed(&certificate, root, &self.domain, &key, now)?;
        let mut params = CertificateParams::default();
        params.not_before = date(not_before.as_second())?;
        params.not_after = date(not_after.as_second())?;
        params.serial_number = Some(serial());
        params.distinguished_name = authority_name(&self.domain, &key);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let anchor = params.self_signed(self.key.pair()).map_err(issue)?.into();
        let Self { domain, key } = self;
        Ok(ClusterAuthority { domain, key, certificate, anchor, not_before, not_after })
    }
}

impl ClusterAuthority {
    /// Puts a kept one together again: the certificate that the root signed, and the anchor, both PEM.
    pub fn from_parts(
        prepared: PreparedAuthority,
        certificate_pem: &str,
        anchor_pem: &str,
        root: &CertificateDer<'_>,
        now: Timestamp,
    ) -> Result<Self, NotAdmitted> {
        let read = |pem: &str| {
            CertificateDer::from_pem_slice(pem.as_bytes())
                .map_err(|error| unreadable(WHAT, &error.to_string()))
        };
        let (certificate, anchor) = (read(certificate_pem)?, read(anchor_pem)?);
        let key = prepared.key.pair().subject_public_key_info();
        let Life { not_before, not_after } =
            check_signed(&certificate, root, &prepared.domain, &key, now)?;
        check_anchor(&anchor, &certificate, &prepared.domain)?;
        let PreparedAuthority { domain, key } = prepared;
        Ok(Self { domain, key, certificate, anchor, not_before, not_after })
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// What the workload root signed.
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What bundles hold.
    pub fn anchor_der(&self) -> &CertificateDer<'static> {
        &self.anchor
    }

    /// What the workload root signed, and what bundles hold, both PEM.
    pub fn to_pem(&self) -> (String, String) {
        (certificate_pem(&self.certificate), certificate_pem(&self.anchor))
    }

    /// The key as PKCS#8, to be kept where nobody else reads.
    pub fn key_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.key.to_pkcs8()
    }

    /// When it begins.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// When it ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Issues an X.509-SVID (SPIFFE X509-SVID, sections 2 to 4).
    pub fn issue(&self, asked: &SvidRequest<'_>, now: Timestamp) -> Result<X509Svid, RootError> {
        if asked.id.trust_domain() != self.domain.as_str() {
            return Err(RootError::Issue(format!(
                "`{}` is not of the trust domain `{}`",
                asked.id, self.domain
            )));
        }
        if now < self.not_before || now >= self.not_after {
            return Err(RootError::NotValid);
        }
        let key = asked.csr.proven_key()?;
        let not_before = (now.as_second() - BACKDATE_SECS).max(self.not_before.as_second());
        let not_after = asked.life.min(SVID_MAX).after(now).min(self.not_after);
        let mut params = CertificateParams::default();
        params.not_before = date(not_before)?;
        params.not_after = date(not_after.as_second())?;
        params.serial_number = Some(serial());
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, "nullius");
        params.distinguished_name = subject;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names.push(SanType::URI(ia5(asked.id.as_str())?));
        for name in asked.dns_names {
            params.subject_alt_names.push(SanType::DnsName(ia5(name.as_ref())?));
        }
        let issuer = Issuer::from_ca_cert_der(&self.anchor, self.key.pair()).map_err(issue)?;
        let certificate = params.signed_by(&key, &issuer).map_err(issue)?;
        let not_after = Timestamp::from_second(not_after.as_second()).unwrap_or(not_after);
        Ok(X509Svid { chain: vec![certificate.into()], id: asked.id.clone(), not_after })
    }
}

/// Checks an anchor of a cluster before it joins a bundle: the workload root must have signed the same name and key for that trust
/// domain alone.
pub fn verify_authority(
    anchor: &CertificateDer<'_>,
    certificate: &CertificateDer<'_>,
    root: &CertificateDer<'_>,
    domain: &TrustDomain,
    now: Timestamp,
) -> Result<(), NotAdmitted> {
    let parsed = parse(anchor)?;
    check_signed(certificate, root, domain, parsed.public_key().raw, now)?;
    check_anchor(anchor, certificate, domain)
}

/// The name that an authority has by its trust domain and key, whoever signs it.
pub(super) fn authority_name(domain: &TrustDomain, key: &[u8]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, domain.as_str());
    let mark = hex::encode(sha256(key).get(..8).unwrap_or_default());
    name.push(DnType::CommonName, format!("nullius cluster authority {mark}"));
    name
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|_| unreadable(WHAT, "it is not X.509"))?;
    if rest.is_empty() { Ok(certificate) } else { Err(unreadable(WHAT, "bytes follow it")) }
}

fn check_signed(
    certificate: &CertificateDer<'_>,
    root: &CertificateDer<'_>,
    domain: &TrustDomain,
    key: &[u8],
    now: Timestamp,
) -> Result<Life, NotAdmitted> {
    let (certificate, root) = (parse(certificate)?, parse(root)?);
    if certificate.issuer() != root.subject()
        || certificate.verify_signature(Some(root.public_key())).is_err()
    {
        return Err(NotAdmitted::NotSigned);
    }
    if certificate.public_key().raw != key {
        return Err(NotAdmitted::Other);
    }
    let unbounded = || NotAdmitted::Unbounded(domain.clone());
    let is_authority = is_authority_alone(&certificate);
    let bounds = certificate
        .get_extension_unique(&OID_X509_EXT_NAME_CONSTRAINTS)
        .map_err(|_| unbounded())?
        .is_some_and(|bounds| bounds.critical && bounds.value == only(domain.as_str()));
    if !is_authority || !bounds {
        return Err(unbounded());
    }
    let life = &certificate.validity();
    let time = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_second(time.timestamp()).map_err(|_| NotAdmitted::NotValid)
    };
    let life = Life { not_before: time(life.not_before)?, not_after: time(life.not_after)? };
    if now < life.not_before || now >= life.not_after {
        return Err(NotAdmitted::NotValid);
    }
    Ok(life)
}

/// A CA below which there is none.
fn is_authority_alone(certificate: &X509Certificate<'_>) -> bool {
    let constraints = certificate.basic_constraints().ok().flatten();
    let usage = certificate.key_usage().ok().flatten();
    constraints.is_some_and(|constraints| {
        constraints.value.ca && constraints.value.path_len_constraint == Some(0)
    }) && usage.is_some_and(|usage| usage.value.key_cert_sign())
}

fn check_anchor(
    anchor: &CertificateDer<'_>,
    certificate: &CertificateDer<'_>,
    domain: &TrustDomain,
) -> Result<(), NotAdmitted> {
    let (anchor, certificate) = (parse(anchor)?, parse(certificate)?);
    let is_same = anchor.subject() == certificate.subject()
        && anchor.issuer() == anchor.subject()
        && anchor.public_key().raw == certificate.public_key().raw
        && anchor.validity() == certificate.validity()
        && is_authority_alone(&anchor)
        && anchor.verify_signature(None).is_ok();
    if is_same { Ok(()) } else { Err(NotAdmitted::Anchor(domain.clone())) }
}
