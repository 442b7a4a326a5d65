//! Workloads among themselves (SPIFFE): mutual TLS 1.3 in which each side proves its X.509-SVID, and only the bundle of the other's
//! own trust domain can stand behind it.
//!
//! A [`WorkloadTls`] is one generation: an SVID with its key, and the bundles of that moment. A new SVID or bundle makes a new one. No
//! session is resumed: each connection proves its SVID anew, so that a lock or a new bundle counts from the next handshake on.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use nullius_model::{SpiffeId, Timestamp};
use nullius_pki::workload::{SvidError, TrustBundle, read_x509_svid, verify_x509_svid};
use rustls::{
    CipherSuite, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error,
    OtherError, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::{TlsError, Transport, config::provider, parts::in_time, tcp};

/// One generation of what a workload proves itself by, and others.
pub struct WorkloadTls {
    id: SpiffeId,
    not_after: Timestamp,
    certificate: Arc<SingleCertAndKey>,
    bundles: Arc<Bundles>,
    provider: Arc<CryptoProvider>,
}

/// Whom a peer has proven to be, and by what.
#[derive(Clone)]
pub struct WorkloadPeer {
    /// Its ID.
    pub id: SpiffeId,
    /// When its SVID ends.
    pub not_after: Timestamp,
    /// When it was proven.
    pub proven_at: Timestamp,
    chain: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for WorkloadPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadPeer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a handshake between workloads failed.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// Too slow.
    #[error("the tls handshake took too long")]
    Timeout,
    /// The peer's SVID is refused.
    #[error("the peer's SVID is refused")]
    Svid(#[source] SvidError),
    /// The peer is somebody, but not who is expected.
    #[error("the server is `{found}`, and it is not expected there")]
    Unexpected {
        /// Who it is.
        found: SpiffeId,
    },
    /// The peer offers other protocols, or none.
    #[error("no protocol was agreed upon")]
    Protocol,
    /// The peer refused, what it said is no TLS of ours, or the connection broke.
    #[error("the tls handshake failed: {0}")]
    Handshake(String),
}

/// Bundles by trust domain.
#[derive(Debug)]
struct Bundles(BTreeMap<String, TrustBundle>);

impl Bundles {
    fn new(bundles: impl IntoIterator<Item = TrustBundle>) -> Self {
        let by_domain = |bundle: TrustBundle| (bundle.trust_domain().to_string(), bundle);
        Self(bundles.into_iter().map(by_domain).collect())
    }

    fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        at: Timestamp,
    ) -> Result<(SpiffeId, Timestamp), SvidError> {
        verify_x509_svid(chain, |domain| self.0.get(domain), at)
    }
}

impl WorkloadTls {
    /// Puts an SVID (leaf first), its key and the bundles together. Of several bundles of one trust domain the last counts.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        bundles: impl IntoIterator<Item = TrustBundle>,
    ) -> Result<Self, TlsError> {
        let leaf = chain.first().ok_or_else(|| TlsError::Pem("it holds no certificate".into()))?;
        let (id, not_after) = read_x509_svid(leaf).map_err(TlsError::Svid)?;
        let provider = aes_alone();
        let certified =
            CertifiedKey::from_der(chain, key, &provider).map_err(TlsError::Certificate)?;
        Ok(Self {
            id,
            not_after,
            certificate: Arc::new(SingleCertAndKey::from(certified)),
            bundles: Arc::new(Bundles::new(bundles)),
            provider,
        })
    }

    /// Whom the SVID names.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// When the SVID ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether the bundles of this generation still stand behind a peer that was proven before. That its SVID has ended meanwhile
    /// is no reason to say no.
    pub fn still_proves(&self, peer: &WorkloadPeer) -> Result<(), SvidError> {
        self.bundles.verify(&peer.chain, peer.proven_at).map(drop)
    }

    /// Accepts whoever has an SVID of a trust domain that is known; `protocols` are the names of ALPN, without any it is not spoken.
    pub fn acceptor(&self, protocols: &[&[u8]]) -> Result<WorkloadAcceptor, TlsError> {
        let verifier = self.verifier(None);
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(settings)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::clone(&self.certificate) as _);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(WorkloadAcceptor { acceptor: Arc::new(config).into() })
    }

    /// Accepts whoever connects, and proves this SVID to them: what is asked over the connection is proven by other means.
    pub fn open_acceptor(&self, protocols: &[&[u8]]) -> Result<OpenAcceptor, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(settings)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.certificate) as _);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(OpenAcceptor { acceptor: Arc::new(config).into(), asks: !protocols.is_empty() })
    }

    /// Connects to whoever proves one of these IDs. Another one is refused inside the handshake: it hears nothing of us.
    pub fn connector(
        &self,
        expected: Arc<[SpiffeId]>,
        protocols: &[&[u8]],
    ) -> Result<WorkloadConnector, TlsError> {
        let verifier = self.verifier(Some(expected));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(settings)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::clone(&self.certificate) as _);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config.resumption = Resumption::disabled();
        Ok(WorkloadConnector { connector: Arc::new(config).into(), asks: !protocols.is_empty() })
    }

    fn verifier(&self, expected: Option<Arc<[SpiffeId]>>) -> SvidVerifier {
        let algorithms = self.provider.signature_verification_algorithms;
        SvidVerifier { bundles: Arc::clone(&self.bundles), expected, algorithms }
    }
}

impl fmt::Debug for WorkloadTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadTls").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Accepts workloads.
#[derive(Clone)]
pub struct WorkloadAcceptor {
    acceptor: TlsAcceptor,
}

impl WorkloadAcceptor {
    /// Does the handshake. Run it in a task of its own: a slow client must not hold up the next.
    pub async fn accept(
        &self,
        tcp: TcpStream,
    ) -> Result<(WorkloadStream, WorkloadPeer), WorkloadError> {
        let stream = in_time(self.acceptor.accept(tcp)).await.map_err(failure)?;
        let peer = workload_peer(stream.get_ref().1)?;
        Ok((WorkloadStream(stream.into()), peer))
    }
}

/// Accepts clients that prove nothing in the handshake.
#[derive(Clone)]
pub struct OpenAcceptor {
    acceptor: TlsAcceptor,
    /// Whether a protocol must be agreed upon.
    asks: bool,
}

impl OpenAcceptor {
    /// Takes those too who do not say what they speak.
    #[must_use]
    pub fn or_none(self) -> Self {
        Self { asks: false, ..self }
    }

    /// Does the handshake. Run it in a task of its own: a slow client must not hold up the next.
    pub async fn accept(&self, tcp: TcpStream) -> Result<WorkloadStream, WorkloadError> {
        let stream = in_time(self.acceptor.accept(tcp)).await.map_err(failure)?;
        if self.asks && stream.get_ref().1.alpn_protocol().is_none() {
            return Err(WorkloadError::Protocol);
        }
        Ok(WorkloadStream(stream.into()))
    }
}

/// Connects to workloads.
#[derive(Clone)]
pub struct WorkloadConnector {
    connector: TlsConnector,
    /// Whether a protocol must be agreed upon.
    asks: bool,
}

impl WorkloadConnector {
    /// Connects to whoever proves one of these IDs by these bundles, and shows nothing itself: for those who have no SVID yet.
    pub fn without_svid(
        bundles: impl IntoIterator<Item = TrustBundle>,
        expected: Arc<[SpiffeId]>,
        protocols: &[&[u8]],
    ) -> Result<Self, TlsError> {
        let provider = aes_alone();
        let verifier = SvidVerifier {
            bundles: Arc::new(Bundles::new(bundles)),
            expected: Some(expected),
            algorithms: provider.signature_verification_algorithms,
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(settings)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config.resumption = Resumption::disabled();
        Ok(Self { connector: Arc::new(config).into(), asks: !protocols.is_empty() })
    }

    /// Does the handshake with who is at an address; the address proves nothing.
    pub async fn connect(
        &self,
        tcp: TcpStream,
        address: IpAddr,
    ) -> Result<(WorkloadStream, WorkloadPeer), WorkloadError> {
        self.connect_to(tcp, ServerName::IpAddress(address.into())).await
    }

    /// The same under a name that is told to the server (SNI), for one behind a gateway that leads by it; whom the SVID names is what
    /// counts.
    pub async fn connect_named(
        &self,
        tcp: TcpStream,
        host: &str,
        address: IpAddr,
    ) -> Result<(WorkloadStream, WorkloadPeer), WorkloadError> {
        let name = ServerName::try_from(host.to_owned());
        self.connect_to(tcp, name.unwrap_or(ServerName::IpAddress(address.into()))).await
    }

    async fn connect_to(
        &self,
        tcp: TcpStream,
        name: ServerName<'static>,
    ) -> Result<(WorkloadStream, WorkloadPeer), WorkloadError> {
        let stream = in_time(self.connector.connect(name, tcp)).await.map_err(failure)?;
        let connection = stream.get_ref().1;
        if self.asks && connection.alpn_protocol().is_none() {
            return Err(WorkloadError::Protocol);
        }
        let peer = workload_peer(connection)?;
        Ok((WorkloadStream(stream.into()), peer))
    }

    /// Does the handshake inside a connection that stands already, with whoever is behind it. Its protocol is offered, and nobody has to
    /// know it.
    pub async fn connect_inside<IO>(
        &self,
        io: IO,
        address: IpAddr,
    ) -> Result<(WorkloadStream<IO>, WorkloadPeer), WorkloadError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::IpAddress(address.into());
        let stream = in_time(self.connector.connect(name, io)).await.map_err(failure)?;
        let peer = workload_peer(stream.get_ref().1)?;
        Ok((WorkloadStream(stream.into()), peer))
    }
}

/// A connection between workloads.
#[derive(Debug)]
pub struct WorkloadStream<IO = TcpStream>(TlsStream<IO>);

impl WorkloadStream {
    /// The protocol that was agreed upon.
    pub fn protocol(&self) -> Option<&[u8]> {
        self.0.get_ref().1.alpn_protocol()
    }

    /// Lets it end with a reset when it is dropped: what was cut off must not look like a whole.
    pub fn reset_on_close(&self) {
        tcp::reset_on_close(self.0.get_ref().0);
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for WorkloadStream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WorkloadStream<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Transport for WorkloadStream {
    fn poll_cut_short(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.get_mut().0).poll_cut_short(cx)
    }
}

/// What workloads speak: AES-GCM alone.
fn aes_alone() -> Arc<CryptoProvider> {
    let mut provider = (*provider()).clone();
    let aes_gcm = [CipherSuite::TLS13_AES_256_GCM_SHA384, CipherSuite::TLS13_AES_128_GCM_SHA256];
    provider.cipher_suites.retain(|suite| aes_gcm.contains(&suite.suite()));
    Arc::new(provider)
}

fn workload_peer(connection: &CommonState) -> Result<WorkloadPeer, WorkloadError> {
    let chain = connection.peer_certificates().unwrap_or_default();
    let leaf = chain.first().ok_or(WorkloadError::Svid(SvidError::Chain(0)))?;
    let (id, not_after) = read_x509_svid(leaf).map_err(WorkloadError::Svid)?;
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    Ok(WorkloadPeer { id, not_after, proven_at: moment(UnixTime::now()), chain })
}

fn failure(error: io::Error) -> WorkloadError {
    if error.kind() == io::ErrorKind::TimedOut {
        return WorkloadError::Timeout;
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(rustls::CertificateError::Other(OtherError(why)))) => {
            if let Some(svid) = why.downcast_ref::<SvidError>() {
                return WorkloadError::Svid(svid.clone());
            }
            if let Some(Unexpected(found)) = why.downcast_ref::<Unexpected>() {
                return WorkloadError::Unexpected { found: found.clone() };
            }
            WorkloadError::Handshake(why.to_string())
        }
        Some(Error::NoApplicationProtocol) => WorkloadError::Protocol,
        Some(Error::NoCertificatesPresented) => WorkloadError::Svid(SvidError::Chain(0)),
        _ => WorkloadError::Handshake(error.to_string()),
    }
}

/// Somebody who is not expected.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not expected here")]
struct Unexpected(SpiffeId);

/// Verifies SVIDs of clients and servers alike.
#[derive(Debug)]
struct SvidVerifier {
    bundles: Arc<Bundles>,
    /// Who may be there; none where that is decided later.
    expected: Option<Arc<[SpiffeId]>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl SvidVerifier {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(leaf)
            .chain(issuers)
            .map(|each| CertificateDer::from(&**each))
            .collect();
        let (id, _) = self.bundles.verify(&chain, moment(now)).map_err(refused)?;
        match &self.expected {
            Some(expected) if !expected.contains(&id) => Err(refused(Unexpected(id))),
            Some(_) | None => Ok(()),
        }
    }
}

fn moment(now: UnixTime) -> Timestamp {
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(rustls::CertificateError::Other(OtherError(Arc::new(error))))
}

fn settings(error: Error) -> TlsError {
    TlsError::Settings(error.to_string())
}

impl ServerCertVerifier for SvidVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOfferedOrEnabled))
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

impl ClientCertVerifier for SvidVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOfferedOrEnabled))
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
