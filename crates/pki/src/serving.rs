//! An authority for one service inside a cluster: whoever calls the service is told its certificate, and nobody else
//! believes it. It has nothing to do with the infrastructure root.

use nullius_model::{Timestamp, Ttl};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyUsagePurpose, NameConstraints, SanType,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::{
    PrivateKey, RootError,
    certificate::{certificate_pem, pem, unreadable},
    random_bytes,
    root::{date, ia5, issue, name, serial},
};

/// How long such an authority lives where nothing else is asked for; it is replaced long before.
pub const SERVING_AUTHORITY_TTL: Ttl = Ttl::from_secs(90 * 86_400);
/// How long a serving certificate of it lives.
pub const SERVING_CERTIFICATE_TTL: Ttl = Ttl::from_secs(86_400);

const BACKDATE_SECS: i64 = 300;

/// The authority of one service, by its DNS name.
pub struct ServingAuthority {
    key: PrivateKey,
    certificate: CertificateDer<'static>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// A serving certificate with its key, which never leaves the process.
pub struct ServingCertificate {
    /// The certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKey,
    /// When it ends.
    pub not_after: Timestamp,
}

/// A certificate by which a caller of the service proves itself, as its configuration takes it.
pub struct CallerCertificate {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PEM.
    pub key_pem: Zeroizing<String>,
    /// When it ends.
    pub not_after: Timestamp,
}

impl ServingAuthority {
    /// Makes one that can only speak for this DNS name (ECDSA P-256).
    pub fn create(service: &str, now: Timestamp) -> Result<Self, RootError> {
        Self::create_for(service, SERVING_AUTHORITY_TTL, now)
    }

    /// The same with a life of its own, for callers that somebody configures by hand.
    pub fn create_for(service: &str, life: Ttl, now: Timestamp) -> Result<Self, RootError> {
        let key = PrivateKey::generate()?;
        let mut params = CertificateParams::default();
        params.not_before = date(now.as_second() - BACKDATE_SECS)?;
        params.not_after = date(life.after(now).as_second())?;
        params.serial_number = Some(serial());
        // Two of them stand in one bundle while they change: each has a name of its own.
        let mark = hex::encode(random_bytes::<4>());
        params.distinguished_name = name(&format!("nullius serving authority {mark}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(service.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        let certificate = params.self_signed(key.pair()).map_err(issue)?;
        Self::new(certificate.into(), key)
    }

    /// Puts a kept one together again.
    pub fn from_parts(certificate_pem: &str, key_pkcs8: &[u8]) -> Result<Self, RootError> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| unreadable("the serving authority", &error.to_string()))?;
        Self::new(certificate, PrivateKey::from_pkcs8(key_pkcs8)?)
    }

    fn new(certificate: CertificateDer<'static>, key: PrivateKey) -> Result<Self, RootError> {
        use rcgen::PublicKeyData as _;
        const WHAT: &str = "the serving authority";
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

    /// The certificate in PEM, as callers believe it.
    pub fn certificate_pem(&self) -> String {
        certificate_pem(&self.certificate)
    }

    /// The key as PKCS#8, to be kept where nobody else reads.
    pub fn key_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.key.to_pkcs8()
    }

    /// Whether a third or less of its life is left.
    pub fn is_old(&self, now: Timestamp) -> bool {
        let life = self.not_after.duration_since(self.not_before);
        self.not_after.duration_since(now) < life / 3
    }

    /// A certificate with a key of its own for a service's DNS name, valid for a day at most.
    pub fn issue(&self, service: &str, now: Timestamp) -> Result<ServingCertificate, RootError> {
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let life = SERVING_CERTIFICATE_TTL;
        let (certificate, key, not_after) = self.sign(service, usage, life, now)?;
        Ok(ServingCertificate { chain: vec![certificate], key, not_after })
    }

    /// A certificate for a caller, under a name below the service's: it can call, and serve nothing.
    pub fn issue_caller(
        &self,
        name: &str,
        life: Ttl,
        now: Timestamp,
    ) -> Result<CallerCertificate, RootError> {
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let (certificate, key, not_after) = self.sign(name, usage, life, now)?;
        let key_pem = Zeroizing::new(pem("PRIVATE KEY", &key.to_pkcs8()));
        Ok(CallerCertificate { certificate_pem: certificate_pem(&certificate), key_pem, not_after })
    }

    fn sign(
        &self,
        service: &str,
        usage: ExtendedKeyUsagePurpose,
        life: Ttl,
        now: Timestamp,
    ) -> Result<(CertificateDer<'static>, PrivateKey, Timestamp), RootError> {
        if now < self.not_before || now >= self.not_after {
            return Err(RootError::NotValid);
        }
        let key = PrivateKey::generate()?;
        let not_after = life.after(now).min(self.not_after);
        let mut params = CertificateParams::default();
        params.not_before =
            date((now.as_second() - BACKDATE_SECS).max(self.not_before.as_second()))?;
        params.not_after = date(not_after.as_second())?;
        params.serial_number = Some(serial());
        params.distinguished_name = name("nullius agent");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names.push(SanType::DnsName(ia5(service)?));
        let issuer = Issuer::from_ca_cert_der(&self.certificate, self.key.pair()).map_err(issue)?;
        let certificate = params.signed_by(key.pair(), &issuer).map_err(issue)?;
        Ok((certificate.into(), key, not_after))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    const SERVICE: &str = "hook.system.svc";

    #[test]
    fn an_authority_survives_being_kept_and_ends() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let made = ServingAuthority::create(SERVICE, now).unwrap();
        let kept =
            ServingAuthority::from_parts(&made.certificate_pem(), &made.key_pkcs8()).unwrap();
        let issued = kept.issue(SERVICE, now).unwrap();
        assert_eq!(issued.not_after, SERVING_CERTIFICATE_TTL.after(now));
        assert!(!kept.is_old(now));
        let later = Ttl::from_secs(61 * 86_400).after(now);
        assert!(kept.is_old(later) && kept.issue(SERVICE, later).is_ok());
        let over = SERVING_AUTHORITY_TTL.after(now);
        assert!(matches!(kept.issue(SERVICE, over), Err(RootError::NotValid)));
        let year = Ttl::from_secs(365 * 86_400);
        let caller = kept.issue_caller("api-server.hook.system.svc", year, now).unwrap();
        assert_eq!(
            caller.not_after,
            SERVING_AUTHORITY_TTL.after(now),
            "no longer than its authority"
        );
        assert!(caller.key_pem.contains("PRIVATE KEY"));
        let lasting =
            ServingAuthority::create_for(SERVICE, Ttl::from_secs(2 * year.as_secs()), now);
        assert!(!lasting.unwrap().is_old(year.after(now)));
        let other = ServingAuthority::create(SERVICE, now).unwrap();
        let mixed = ServingAuthority::from_parts(&made.certificate_pem(), &other.key_pkcs8());
        assert!(matches!(mixed, Err(RootError::KeyMismatch)));
    }
}
