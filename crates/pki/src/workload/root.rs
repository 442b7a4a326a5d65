//! The workload root: the key of the hub that says which cluster speaks for which trust domain.

use nullius_model::{Timestamp, TrustDomain, Ttl};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyUsagePurpose,
    PublicKeyData,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};
use yasna::Tag;
use zeroize::Zeroizing;

use super::authority::authority_name;
use crate::{
    Csr, PrivateKey, RootError,
    certificate::{certificate_pem, unreadable},
    random_bytes,
    root::{date, issue, name, serial},
};

const WHAT: &str = "the workload root";
const ROOT_LIFE_DAYS: u32 = 3_652;
/// Certificates begin this much before now, for peers whose clock is behind.
pub(super) const BACKDATE_SECS: i64 = 30;
/// The longest that a cluster's authority lives.
const AUTHORITY_MAX: Ttl = Ttl::from_secs(90 * 86_400);

/// A mailbox of a domain that is reserved (RFC 6761, section 6.4).
const NOBODY: &str = "nobody@invalid";

/// `id-ce-nameConstraints` (RFC 5280, section 4.2.1.10).
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];

/// The key under which each cluster has an authority of its own.
pub struct WorkloadRoot {
    key: PrivateKey,
    certificate: CertificateDer<'static>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl WorkloadRoot {
    /// Makes a new root (ECDSA P-256, ten years).
    pub fn create(now: Timestamp) -> Result<Self, RootError> {
        let key = PrivateKey::generate()?;
        let mut params = CertificateParams::default();
        params.not_before = date(now.as_second() - BACKDATE_SECS)?;
        params.not_after = date(Ttl::from_secs(ROOT_LIFE_DAYS * 86_400).after(now).as_second())?;
        params.serial_number = Some(serial());
        let mark = hex::encode(random_bytes::<4>());
        params.distinguished_name = name(&format!("nullius workload root {mark}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(key.pair()).map_err(issue)?;
        Self::new(certificate.into(), key)
    }

    /// Puts a stored root together again.
    pub fn from_parts(certificate_pem: &str, key_pkcs8: &[u8]) -> Result<Self, RootError> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| unreadable(WHAT, &error.to_string()))?;
        Self::new(certificate, PrivateKey::from_pkcs8(key_pkcs8)?)
    }

    fn new(certificate: CertificateDer<'static>, key: PrivateKey) -> Result<Self, RootError> {
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|_| unreadable(WHAT, "it is not X.509"))?;
        if parsed.public_key().raw != key.pair().subject_public_key_info() {
            return Err(RootError::KeyMismatch);
        }
        if !parsed.is_ca() {
            return Err(unreadable(WHAT, "it is no CA").into());
        }
        let time = |asn1: x509_parser::time::ASN1Time| {
            Timestamp::from_second(asn1.timestamp())
                .map_err(|_| unreadable(WHAT, "its life is not a time"))
        };
        let not_before = time(parsed.validity().not_before)?;
        let not_after = time(parsed.validity().not_after)?;
        Ok(Self { key, certificate, not_before, not_after })
    }

    /// The certificate in PEM.
    pub fn certificate_pem(&self) -> String {
        certificate_pem(&self.certificate)
    }

    /// The certificate in DER.
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The key as PKCS#8, to be sealed.
    pub fn key_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.key.to_pkcs8()
    }

    /// When the root ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Certifies a cluster's authority for its trust domain and nothing else, for `life`, at most 90 days.
    ///
    /// Of the request only the proven public key is used.
    pub fn certify(
        &self,
        request: &Csr,
        domain: &TrustDomain,
        life: Ttl,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, RootError> {
        if now < self.not_before || now >= self.not_after {
            return Err(RootError::NotValid);
        }
        let key = request.proven_key()?;
        let not_before = (now.as_second() - BACKDATE_SECS).max(self.not_before.as_second());
        let not_after = life.min(AUTHORITY_MAX).after(now).min(self.not_after);
        let mut params = CertificateParams::default();
        params.not_before = date(not_before)?;
        params.not_after = date(not_after.as_second())?;
        params.serial_number = Some(serial());
        params.distinguished_name = authority_name(domain, &key.subject_public_key_info());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        let mut constraint =
            CustomExtension::from_oid_content(NAME_CONSTRAINTS, only(domain.as_str()));
        constraint.set_criticality(true);
        params.custom_extensions.push(constraint);
        let issuer = Issuer::from_ca_cert_der(&self.certificate, self.key.pair()).map_err(issue)?;
        Ok(params.signed_by(&key, &issuer).map_err(issue)?.into())
    }
}

/// `NameConstraints` (RFC 5280, section 4.2.1.10) in DER: URIs of one host, and no DNS name or
/// address at all. Verifiers do not agree on how all mailboxes are excluded, so that one is permitted which there cannot be.
pub(super) fn only(host: &str) -> Vec<u8> {
    const MAILBOX: u64 = 1;
    const DNS: u64 = 2;
    const URI: u64 = 6;
    const ADDRESS: u64 = 7;
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_tagged_implicit(Tag::context(0), |writer| {
                writer.write_sequence(|writer| {
                    subtree(writer.next(), URI, host.as_bytes());
                    subtree(writer.next(), MAILBOX, NOBODY.as_bytes());
                });
            });
            writer.next().write_tagged_implicit(Tag::context(1), |writer| {
                writer.write_sequence(|writer| {
                    // Without letters it stands for all of them, and an address with its mask of zeros too.
                    subtree(writer.next(), DNS, b"");
                    subtree(writer.next(), ADDRESS, &[0; 8]);
                    subtree(writer.next(), ADDRESS, &[0; 32]);
                });
            });
        });
    })
}

fn subtree(writer: yasna::DERWriter<'_>, kind: u64, base: &[u8]) {
    writer.write_sequence(|writer| {
        writer.next().write_tagged_implicit(Tag::context(kind), |writer| writer.write_bytes(base));
    });
}
