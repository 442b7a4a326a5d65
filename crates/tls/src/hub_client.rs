//! From a person's machine to a hub: pinned once its root is known, and a first look before it is.

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{HttpVersions, InfraRoots, TlsError, config::provider, hub_client_config};

/// Makes connections to a hub of the pinned root, for HTTP/1.1.
#[derive(Clone)]
pub struct HubConnector {
    connector: TlsConnector,
}

impl HubConnector {
    /// Believes these roots and nothing else.
    pub fn new(roots: &InfraRoots) -> Result<Self, TlsError> {
        Ok(Self { connector: hub_client_config(roots, HttpVersions::Http1)?.into() })
    }

    /// Does the handshake; `host` is a DNS name or an address without brackets and serves as SNI.
    pub async fn connect<IO>(&self, io: IO, host: &str) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        self.connector.connect(server_name(host)?, io).await
    }
}

/// A connection to somebody who proved nothing. What it says is a claim: use it only to learn which root to ask a
/// person about, or to compare with a fingerprint that came another way, and send it nothing secret.
pub struct UnverifiedPeer<IO> {
    stream: TlsStream<IO>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> UnverifiedPeer<IO> {
    /// Does the handshake with whoever answers.
    pub async fn connect(io: IO, host: &str) -> io::Result<Self> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(BelieveNobodyYet { algorithms }))
            .with_no_client_auth();
        config.alpn_protocols = HttpVersions::Http1.alpn();
        config.resumption = Resumption::disabled();
        let stream = TlsConnector::from(Arc::new(config)).connect(server_name(host)?, io).await?;
        Ok(Self { stream })
    }

    /// The stream, for a question without secrets.
    pub fn into_stream(self) -> TlsStream<IO> {
        self.stream
    }
}

/// Takes any certificate, but checks that its holder has the key.
#[derive(Debug)]
struct BelieveNobodyYet {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for BelieveNobodyYet {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

pub(crate) fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}
