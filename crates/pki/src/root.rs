//! The infrastructure root: the key that says who is a hub and who is an agent of which cluster.
//!
//! It is no workload CA: no cluster's CA chains to it. Certificates carry exactly one URI name, chosen here and never
//! by the requester; agents have no DNS or IP name, so that none of them can pass for the hub before kubectl.

use std::net::IpAddr;

use nullius_model::{InfraId, Timestamp, Ttl};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, string::Ia5String,
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::{
    CertificateError, Csr, IssuedCertificate, PrivateKey,
    certificate::{certificate_pem, unreadable},
    random_bytes,
};

/// How long an agent's certificate lives.
pub const AGENT_CERTIFICATE_TTL: Ttl = Ttl::from_secs(3_600);
/// How long a hub's certificate lives; also the longest that is issued to anybody.
pub const HUB_CERTIFICATE_TTL: Ttl = Ttl::from_secs(86_400);

const ROOT_LIFE_DAYS: i64 = 3_652;
/// Certificates begin this much before now, for peers whose clock is behind.
const BACKDATE_SECS: i64 = 300;

/// The root cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The certificate or its key is unusable.
    #[error("the infrastructure root cannot be used")]
    Certificate(#[from] CertificateError),
    /// Certificate and key do not belong together.
    #[error("certificate and key of the infrastructure root do not belong together")]
    KeyMismatch,
    /// An agent's identity where a hub's is needed, or the reverse.
    #[error("`{0}` cannot have a certificate of this kind")]
    WrongRole(InfraId),
    /// The root has ended or not begun.
    #[error("the infrastructure root is not valid now; check the clock, or renew the root")]
    NotValid,
    /// A DNS name that cannot stand in a certificate.
    #[error("`{0}` cannot stand in a certificate as a DNS name")]
    Name(String),
    /// The certificate could not be signed.
    #[error("the certificate could not be issued: {0}")]
    Issue(String),
}

/// The CA of the infrastructure: its key and its certificate.
pub struct InfraRoot {
    key: PrivateKey,
    certificate: CertificateDer<'static>,
    pem: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl InfraRoot {
    /// Makes a new root (ECDSA P-256, ten years).
    pub fn create(now: Timestamp) -> Result<Self, RootError> {
        let key = PrivateKey::generate()?;
        let mut params = CertificateParams::default();
        params.not_before = date(now.as_second() - BACKDATE_SECS)?;
        params.not_after = date(now.as_second() + ROOT_LIFE_DAYS * 86_400)?;
        params.serial_number = Some(serial());
        let mark = hex::encode(random_bytes::<4>());
        params.distinguished_name = name(&format!("nullius infrastructure root {mark}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(key.pair()).map_err(issue)?;
        Self::new(certificate.into(), key)
    }

    /// Puts a stored root together again.
    pub fn from_parts(certificate_pem: &str, key_pkcs8: &[u8]) -> Result<Self, RootError> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| unreadable("the root certificate", &error.to_string()))?;
        Self::new(certificate, PrivateKey::from_pkcs8(key_pkcs8)?)
    }

    fn new(certificate: CertificateDer<'static>, key: PrivateKey) -> Result<Self, RootError> {
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|_| unreadable("the root certificate", "it is not X.509"))?;
        if parsed.public_key().raw != key.pair().subject_public_key_info() {
            return Err(RootError::KeyMismatch);
        }
        if !parsed.is_ca() {
            return Err(unreadable("the root certificate", "it is no CA").into());
        }
        let time = |asn1: x509_parser::time::ASN1Time| {
            Timestamp::from_second(asn1.timestamp())
                .map_err(|_| unreadable("the root certificate", "its life is not a time"))
        };
        let not_before = time(parsed.validity().not_before)?;
        let not_after = time(parsed.validity().not_after)?;
        let pem = certificate_pem(&certificate);
        Ok(Self { key, certificate, pem, not_before, not_after })
    }

    /// The certificate that kubeconfigs and agents pin, in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The certificate that kubeconfigs and agents pin, in DER.
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

    /// Certifies a hub replica for the names under which people and agents reach it.
    ///
    /// Of the request only the proven public key is used. The life is `ttl`, at most a day.
    pub fn issue_hub(
        &self,
        csr: &Csr,
        id: &InfraId,
        names: &[ServerName<'_>],
        ttl: Ttl,
        now: Timestamp,
    ) -> Result<IssuedCertificate, RootError> {
        match id {
            InfraId::Hub { .. } => self.issue(csr, id, names, ttl, now),
            InfraId::AgentProxy { .. }
            | InfraId::AgentControl { .. }
            | InfraId::AgentAdmission { .. }
            | InfraId::AgentIdentity { .. } => Err(RootError::WrongRole(id.clone())),
        }
    }

    /// Certifies an agent; its only name is the URI.
    ///
    /// Of the request only the proven public key is used. The life is `ttl`, at most a day.
    pub fn issue_agent(
        &self,
        csr: &Csr,
        id: &InfraId,
        ttl: Ttl,
        now: Timestamp,
    ) -> Result<IssuedCertificate, RootError> {
        match id {
            InfraId::AgentProxy { .. }
            | InfraId::AgentControl { .. }
            | InfraId::AgentAdmission { .. }
            | InfraId::AgentIdentity { .. } => self.issue(csr, id, &[], ttl, now),
            InfraId::Hub { .. } => Err(RootError::WrongRole(id.clone())),
        }
    }

    fn issue(
        &self,
        csr: &Csr,
        id: &InfraId,
        names: &[ServerName<'_>],
        ttl: Ttl,
        now: Timestamp,
    ) -> Result<IssuedCertificate, RootError> {
        if now < self.not_before || now >= self.not_after {
            return Err(RootError::NotValid);
        }
        let public_key = csr.proven_key()?;
        let not_after = ttl.min(HUB_CERTIFICATE_TTL).after(now).min(self.not_after);
        let not_before = (now.as_second() - BACKDATE_SECS).max(self.not_before.as_second());

        let mut params = CertificateParams::default();
        params.not_before = date(not_before)?;
        params.not_after = date(not_after.as_second())?;
        params.serial_number = Some(serial());
        params.distinguished_name = name(match id {
            InfraId::Hub { .. } => "nullius hub",
            InfraId::AgentProxy { .. } => "nullius agent proxy",
            InfraId::AgentControl { .. } => "nullius agent control",
            InfraId::AgentAdmission { .. } => "nullius agent admission",
            InfraId::AgentIdentity { .. } => "nullius agent identity",
        });
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let uri = ia5(&id.to_string())?;
        params.subject_alt_names.push(SanType::URI(uri));
        for name in names {
            params.subject_alt_names.push(match name {
                ServerName::IpAddress(address) => SanType::IpAddress(IpAddr::from(*address)),
                ServerName::DnsName(name) => SanType::DnsName(ia5(name.as_ref())?),
                other => return Err(RootError::Name(other.to_str().into_owned())),
            });
        }
        let certificate = params.signed_by(&public_key, &self.issuer()?).map_err(issue)?;
        let not_after = Timestamp::from_second(not_after.as_second()).unwrap_or(not_after);
        Ok(IssuedCertificate { chain: vec![certificate.into()], id: id.clone(), not_after })
    }

    fn issuer(&self) -> Result<Issuer<'static, &KeyPair>, RootError> {
        Issuer::from_ca_cert_der(&self.certificate, self.key.pair()).map_err(issue)
    }
}

pub(crate) fn issue(error: rcgen::Error) -> RootError {
    RootError::Issue(error.to_string())
}

pub(crate) fn ia5(text: &str) -> Result<Ia5String, RootError> {
    Ia5String::try_from(text).map_err(|_| RootError::Name(text.to_owned()))
}

pub(crate) fn date(second: i64) -> Result<OffsetDateTime, RootError> {
    OffsetDateTime::from_unix_timestamp(second).map_err(|_| RootError::NotValid)
}

pub(crate) fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// A positive serial number of 127 random bits (RFC 5280, section 4.1.2.2).
pub(crate) fn serial() -> SerialNumber {
    let mut bytes = random_bytes::<16>();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

#[cfg(test)]
mod tests;
