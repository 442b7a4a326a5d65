//! The certificates of a cluster, with an authority of its own wherever production has one.
//!
//! The cluster's authority signs clients, the API server and the kubelets' serving certificates; the front proxy (what
//! aggregated APIs trust) and etcd have their own, so that neither can be had with a certificate of another.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
};
use time::{Duration, OffsetDateTime};

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Client,
    Server,
    Both,
}

/// A certificate authority of the cluster.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority and writes it to `<directory>/<file>.crt` and `.key`.
    pub(crate) fn create(directory: &Path, file: &str, common_name: &str) -> Result<Self> {
        let mut params = parameters(Subject::user(common_name, None))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let key_text = key.serialize_pem();
        let issuer = CertifiedIssuer::self_signed(params, key)?;
        fs::write(directory.join(format!("{file}.crt")), issuer.pem())?;
        write_secret(&directory.join(format!("{file}.key")), &key_text)?;
        Ok(Self { issuer })
    }

    /// Issues a certificate and writes it to `<directory>/<file>.crt` and `.key`.
    pub(crate) fn issue(
        &self,
        directory: &Path,
        file: &str,
        usage: Usage,
        subject: Subject<'_>,
    ) -> Result<()> {
        issue(&self.issuer, directory, file, usage, subject)
    }
}

/// Issues a certificate of an authority whose files `<directory>/<authority>.crt` and `.key` were made earlier, and
/// writes it to `<directory>/<file>.crt` and `.key`.
pub(crate) fn issue_later(
    directory: &Path,
    authority: &str,
    file: &str,
    usage: Usage,
    subject: Subject<'_>,
) -> Result<()> {
    let key = fs::read_to_string(directory.join(format!("{authority}.key")))?;
    let certificate = fs::read_to_string(directory.join(format!("{authority}.crt")))?;
    let issuer = Issuer::from_ca_cert_pem(&certificate, KeyPair::from_pem(&key)?)?;
    issue(&issuer, directory, file, usage, subject)
}

fn issue(
    issuer: &Issuer<'_, KeyPair>,
    directory: &Path,
    file: &str,
    usage: Usage,
    subject: Subject<'_>,
) -> Result<()> {
    let mut params =
        parameters(subject).with_context(|| format!("cannot make the certificate `{file}`"))?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = match usage {
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Both => {
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth]
        }
    };
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    fs::write(directory.join(format!("{file}.crt")), certificate.pem())?;
    write_secret(&directory.join(format!("{file}.key")), &key.serialize_pem())
}

/// Whom a certificate names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) common_name: &'a str,
    /// What Kubernetes takes as a group.
    pub(crate) organization: Option<&'a str>,
    /// DNS names and addresses of a server.
    pub(crate) names: &'a [String],
}

impl<'a> Subject<'a> {
    pub(crate) fn user(common_name: &'a str, organization: Option<&'a str>) -> Self {
        Self { common_name, organization, names: &[] }
    }
}

/// Makes the key pair that signs ServiceAccount tokens (RSA, as kubeadm makes it): `sa.key` and `sa.pub`.
pub(crate) fn service_account_key(directory: &Path) -> Result<()> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    write_secret(&directory.join("sa.key"), &key.serialize_pem())?;
    fs::write(directory.join("sa.pub"), key.public_key_pem())?;
    Ok(())
}

/// Writes a file that only its owner can read.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut file =
        fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

fn parameters(subject: Subject<'_>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(subject.names)?;
    params.distinguished_name = DistinguishedName::new();
    if let Some(organization) = subject.organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name.push(DnType::CommonName, subject.common_name);
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(365);
    Ok(params)
}
