//! A certificate that can be replaced while it is in use.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use nullius_pki::{IssuedCertificate, PrivateKey};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{TlsError, config::provider};

/// The certificate and key that a listener or a client shows. New handshakes take the newest; running connections
/// are left alone.
pub struct LiveCertificate {
    current: ArcSwap<CertifiedKey>,
}

impl LiveCertificate {
    /// Begins with a chain (leaf first) and the leaf's key.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(certified(chain, key)?) }))
    }

    /// Begins with a certificate of the infrastructure root.
    pub fn of(certificate: &IssuedCertificate, key: &PrivateKey) -> Result<Arc<Self>, TlsError> {
        Self::new(certificate.chain.clone(), key.to_der())
    }

    /// Shows another certificate from now on.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        self.current.store(Arc::new(certified(chain, key)?));
        Ok(())
    }

    /// Shows another certificate of the infrastructure root from now on.
    pub fn renew(&self, certificate: &IssuedCertificate, key: &PrivateKey) -> Result<(), TlsError> {
        self.replace(certificate.chain.clone(), key.to_der())
    }

    /// The certificate that new handshakes show.
    pub fn leaf(&self) -> Option<CertificateDer<'static>> {
        self.current.load().cert.first().cloned()
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(chain, key, &provider()).map_err(TlsError::Certificate)
}

impl fmt::Debug for LiveCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveCertificate").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for LiveCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl ResolvesClientCert for LiveCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
