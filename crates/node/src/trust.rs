//! Whom a node believes from the beginning: a mounted ConfigMap, which the kubelet replaces as a whole when it changes.

use std::{
    fmt, fs, io,
    net::{AddrParseError, SocketAddr},
    path::{Path, PathBuf},
};

use nullius_model::{ParseSpiffeError, TrustDomain};
use nullius_pki::workload::{BundleError, TrustBundle};

/// The kubelet's link to the files of one version.
const VERSION: &str = "..data";

/// What the cluster says of its trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trust {
    pub(crate) domain: TrustDomain,
    pub(crate) bundle: TrustBundle,
    /// Where `agent identity` is.
    pub(crate) issuer: Issuer,
}

/// Where `agent identity` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Issuer {
    /// At the address of its Service: nodes need no DNS.
    At(SocketAddr),
    /// Where somebody told a machine, `HOST:PORT`.
    Named(String),
}

impl Issuer {
    /// Its addresses now.
    pub(crate) async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::At(address) => Ok(vec![*address]),
            Self::Named(name) => Ok(tokio::net::lookup_host(name).await?.collect()),
        }
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => write!(f, "{address}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Why nobody can be believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error("cannot read `{path}`; `agent identity` fills the ConfigMap `nullius-trust`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the trust domain is refused")]
    Domain(#[from] ParseSpiffeError),
    #[error("the trust bundle is refused")]
    Bundle(#[from] BundleError),
    #[error("the address of the issuer is none: write `IP:port`")]
    Issuer(#[from] AddrParseError),
}

impl Trust {
    /// Reads the files of one version.
    pub(crate) fn read(folder: &Path) -> Result<Self, TrustError> {
        let version = folder.join(VERSION);
        // Resolved once: files of two versions must not be put together.
        let folder = fs::canonicalize(version).unwrap_or_else(|_| folder.to_owned());
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|source| TrustError::Read { path, source })
        };
        let domain: TrustDomain = read("trust-domain")?.trim().parse()?;
        let bundle = TrustBundle::read(domain.clone(), read("bundle.json")?.as_bytes())?;
        Ok(Self { domain, bundle, issuer: Issuer::At(read("issuer")?.trim().parse()?) })
    }

    /// The newer one of the bundle and another of the same trust domain: the agent's stream is sooner than the kubelet, and what a
    /// node remembers may be long gone. Not both together: what left the newer one was left out of it.
    pub(crate) fn newest(&self, other: Option<&TrustBundle>) -> TrustBundle {
        let other = other.filter(|other| *other.trust_domain() == self.domain);
        let newer = other.filter(|other| other.sequence() > self.bundle.sequence());
        newer.unwrap_or(&self.bundle).clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::os::unix::fs::symlink;

    use super::*;

    fn version(folder: &Path, name: &str, domain: &str, issuer: &str) {
        let version = folder.join(name);
        fs::create_dir(&version).unwrap();
        for (file, text) in
            [("trust-domain", domain), ("bundle.json", r#"{"keys":[]}"#), ("issuer", issuer)]
        {
            fs::write(version.join(file), text).unwrap();
        }
        let link = folder.join("..data.new");
        symlink(name, &link).unwrap();
        fs::rename(link, folder.join(VERSION)).unwrap();
    }

    #[test]
    fn the_newer_bundle_counts_and_not_what_left_it() {
        let domain: TrustDomain = "shop.example".parse().unwrap();
        let bundle = |sequence| TrustBundle::new(domain.clone()).at(sequence, 300);
        let issuer = Issuer::At("10.0.0.7:8447".parse().unwrap());
        let trust = Trust { domain: domain.clone(), bundle: bundle(7), issuer };
        let newest = |other: &TrustBundle| trust.newest(Some(other)).sequence();
        assert_eq!((newest(&bundle(8)), newest(&bundle(6))), (Some(8), Some(7)));
        assert_eq!(newest(&TrustBundle::new(domain.clone())), Some(7));
        let other = TrustBundle::new("bank.example".parse().unwrap()).at(9, 300);
        assert_eq!((newest(&other), trust.newest(None).sequence()), (Some(7), Some(7)));
    }

    #[test]
    fn a_version_is_read_as_a_whole_and_a_new_one_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(matches!(Trust::read(path), Err(TrustError::Read { .. })));
        version(path, "..1", "shop.example\n", "10.0.0.7:8447\n");
        let first = Trust::read(path).unwrap();
        assert_eq!(first.domain.as_str(), "shop.example");
        assert_eq!(first.issuer, Issuer::At("10.0.0.7:8447".parse().unwrap()));
        version(path, "..2", "bank.example", "[fd00::7]:8447");
        assert_eq!(Trust::read(path).unwrap().domain.as_str(), "bank.example");
        version(path, "..3", "Bank.example", "10.0.0.7:8447");
        assert!(matches!(Trust::read(path), Err(TrustError::Domain(_))));
        version(path, "..4", "bank.example", "identity:8447");
        assert!(matches!(Trust::read(path), Err(TrustError::Issuer(_))));
    }
}
