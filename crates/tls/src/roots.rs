//! Which authorities are believed: the pinned infrastructure root, or those of an ordinary server.

use std::sync::{Arc, LazyLock};

use nullius_pki::check_root;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::TlsError;

/// The pinned infrastructure roots: one, or the old and the new while the root is changed.
#[derive(Debug, Clone)]
pub struct InfraRoots {
    store: Arc<RootCertStore>,
    pem: Arc<str>,
}

impl InfraRoots {
    /// Reads the roots in PEM, as they stand in a join token or a kubeconfig. Each must be a self-signed CA.
    pub fn from_pem(pem: &str) -> Result<Self, TlsError> {
        let roots = read(pem.as_bytes())?;
        for root in &roots {
            check_root(root).map_err(|source| TlsError::Root { source: Box::new(source) })?;
        }
        Ok(Self { store: store(roots)?, pem: pem.into() })
    }

    /// The roots in PEM: the `certificate-authority-data` of a kubeconfig before its base64.
    pub fn as_pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn store(&self) -> &Arc<RootCertStore> {
        &self.store
    }
}

/// Authorities whose servers are checked by DNS name or IP address: an API server's, or the infrastructure roots for
/// a client that goes by the hub's address as kubectl does.
#[derive(Debug, Clone)]
pub struct WebRoots {
    store: Arc<RootCertStore>,
}

impl WebRoots {
    /// Reads one or more authorities in PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TlsError> {
        Ok(Self { store: store(read(pem)?)? })
    }

    /// The authorities that browsers believe (Mozilla's list, as it was when this was built).
    pub fn public() -> Self {
        static PUBLIC: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(
                webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned(),
            );
            Arc::new(store)
        });
        Self { store: Arc::clone(&PUBLIC) }
    }

    pub(crate) fn store(&self) -> &Arc<RootCertStore> {
        &self.store
    }
}

impl From<&InfraRoots> for WebRoots {
    fn from(roots: &InfraRoots) -> Self {
        Self { store: Arc::clone(&roots.store) }
    }
}

fn read(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let roots: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem(error.to_string()))?;
    if roots.is_empty() {
        return Err(TlsError::Pem("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

fn store(roots: Vec<CertificateDer<'static>>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(TlsError::Certificate)?;
    }
    Ok(Arc::new(store))
}
