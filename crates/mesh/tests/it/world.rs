//! Trust domains, workloads with their files, applications behind proxies, and clients that are not ours.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, Response};
use jiff::Timestamp;
use nullius_mesh::{Config, Proxy};
use nullius_model::{SpiffeId, TrustDomain, Ttl};
use nullius_pki::{
    PrivateKey,
    workload::{ClusterAuthority, PreparedAuthority, SvidRequest, TrustBundle, WorkloadRoot},
};
use nullius_telemetry::Metrics;
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

/// How long something that should come may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster's trust domain.
pub(crate) struct Domain {
    name: TrustDomain,
    pub(crate) authority: ClusterAuthority,
    key: Vec<u8>,
}

impl Domain {
    pub(crate) fn new(name: &str) -> Self {
        let now = Timestamp::now();
        let root = WorkloadRoot::create(now).unwrap();
        let name: TrustDomain = name.parse().unwrap();
        let prepared = PreparedAuthority::create(name.clone()).unwrap();
        let key = prepared.key_pkcs8().to_vec();
        let week = Ttl::from_secs(7 * 86_400);
        let signed = root.certify(&prepared.request().unwrap(), &name, week, now).unwrap();
        let authority = prepared.admit(signed, root.certificate_der(), now).unwrap();
        Self { name, authority, key }
    }

    pub(crate) fn id(&self, namespace: &str, account: &str) -> SpiffeId {
        SpiffeId::of_service_account(&self.name, &namespace.parse().unwrap(), account)
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        let mut bundle = TrustBundle::new(self.name.clone());
        bundle.add_x509(self.authority.anchor_der().clone()).unwrap();
        bundle
    }

    /// An SVID: its chain, and its key.
    pub(crate) fn svid(&self, id: &SpiffeId) -> Shown {
        let key = PrivateKey::generate().unwrap();
        let csr = key.request().unwrap();
        let asked = SvidRequest { id, dns_names: &[], csr: &csr, life: Ttl::from_secs(3_600) };
        let svid = self.authority.issue(&asked, Timestamp::now()).unwrap();
        Shown { chain: svid.chain, key: key.to_pkcs8().to_vec() }
    }

    /// What somebody with the authority's key signs, whatever our code would do.
    pub(crate) fn forge(&self, uris: &[&str]) -> Shown {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names =
            uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        let signer = KeyPair::try_from(self.key.as_slice()).unwrap();
        let issuer = Issuer::from_ca_cert_der(self.authority.anchor_der(), signer).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        Shown { chain: vec![leaf.into()], key: key.serialize_der() }
    }
}

/// A chain and its key.
pub(crate) struct Shown {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Vec<u8>,
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// A workload with its files.
pub(crate) struct Workload {
    pub(crate) folder: TempDir,
    pub(crate) id: SpiffeId,
    bundles: String,
}

impl Workload {
    /// One of a domain that believes these.
    pub(crate) fn new(
        domain: &Domain,
        namespace: &str,
        account: &str,
        believes: &[&Domain],
    ) -> Self {
        let id = domain.id(namespace, account);
        let folder = tempfile::tempdir().unwrap();
        let bundles = believes
            .iter()
            .map(|domain| format!("  - {{trustDomain: {0}, file: {0}.json}}\n", domain.name));
        let workload = Self { folder, id, bundles: bundles.collect() };
        believes.iter().for_each(|domain| workload.put_bundle(domain));
        workload.put_svid(domain);
        fs::create_dir(workload.file("intentions")).unwrap();
        workload
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file as a careful program does: whole, or not at all.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let new = self.file(".new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.file(name)).unwrap();
    }

    pub(crate) fn put_svid(&self, domain: &Domain) {
        self.put_shown(&domain.svid(&self.id));
    }

    pub(crate) fn put_shown(&self, shown: &Shown) {
        let chain: String = shown.chain.iter().map(|each| pem("CERTIFICATE", each)).collect();
        self.put("key.pem", &pem("PRIVATE KEY", &shown.key));
        self.put("svid.pem", &chain);
    }

    pub(crate) fn put_bundle(&self, domain: &Domain) {
        self.put(&format!("{}.json", domain.name), &domain.bundle().to_json().to_string());
    }

    /// Says who may call it: entries of `sources`.
    pub(crate) fn allow(&self, sources: &str) {
        let account = self.id.service_account().unwrap();
        let namespace = self.id.namespace().unwrap();
        self.put(
            "intentions/own.yaml",
            &format!(
                "apiVersion: nullius.dev/v1alpha1\nkind: Intention\nmetadata: {{name: own, namespace: {namespace}}}\n\
                 spec:\n  destination: {{serviceAccount: {account}}}\n  sources: [{sources}]\n"
            ),
        );
    }

    pub(crate) fn configuration(&self, rest: &str) -> String {
        format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: ProxyConfiguration\nidentity:\n  certificate: svid.pem\n  \
             key: key.pem\n  bundles:\n{}intentions: [intentions]\naccessLog: access.log\n{rest}",
            self.bundles
        )
    }

    /// Starts its proxy.
    pub(crate) async fn start(&self, rest: &str) -> Running {
        let text = self.configuration(rest);
        // Each has a file of its own, which it reads again.
        let mut names = (0..).map(|number| match number {
            0 => "proxy.yaml".to_owned(),
            number => format!("proxy-{number}.yaml"),
        });
        let name = names.find(|name| !self.file(name).exists()).unwrap();
        self.put(&name, &text);
        let config = Config::read(&self.file(&name)).unwrap();
        let proxy = Proxy::start(config, &Metrics::new()).await.unwrap();
        let addresses = proxy.addresses().clone();
        let stop = CancellationToken::new();
        let told = stop.clone();
        let task = tokio::spawn(async move { proxy.run(told).await.unwrap() });
        Running { addresses, stop: stop.drop_guard(), task, log: self.file("access.log") }
    }

    /// Starts its proxy with one listener `in` at an address of its own, for an application.
    pub(crate) async fn serve(&self, host: &str, wire: &str, forward: SocketAddr) -> Running {
        self.start(&format!(
            "listeners:\n- {{name: in, listen: '{host}:0', wire: [{wire}], forward: '{forward}', protocol: tcp}}\n"
        ))
        .await
    }

    /// Starts its proxy with one upstream `out`.
    pub(crate) async fn call(
        &self,
        wire: &str,
        to: SocketAddr,
        dial: SocketAddr,
        expect: &SpiffeId,
    ) -> Running {
        self.start(&format!(
            "upstreams:\n- {{name: out, listen: '127.0.0.1:0', wire: {wire}, destination: '{to}', dial: '{dial}', expect: ['{expect}']}}\n"
        ))
        .await
    }
}

/// A proxy that runs until it is dropped.
pub(crate) struct Running {
    addresses: std::collections::BTreeMap<String, SocketAddr>,
    stop: tokio_util::sync::DropGuard,
    task: JoinHandle<()>,
    log: PathBuf,
}

impl Running {
    /// Tells it to end; what is there tells when it has.
    pub(crate) fn stop(self) -> (JoinHandle<()>, PathBuf) {
        let Self { stop, task, log, .. } = self;
        drop(stop);
        (task, log)
    }

    pub(crate) fn at(&self, name: &str) -> SocketAddr {
        self.addresses[name]
    }

    /// The first line of the access log that fits; it may still be on its way.
    pub(crate) async fn line(&self, fits: impl Fn(&Json) -> bool) -> Json {
        wait_line(&self.log, fits).await
    }

    pub(crate) async fn reason(&self, reason: &str) -> Json {
        self.line(|line| line["reason"] == reason).await
    }
}

pub(crate) async fn wait_line(log: &Path, fits: impl Fn(&Json) -> bool) -> Json {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        // The last one may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = || whole.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        if let Some(line) = lines().find(|line| fits(line)) {
            return line;
        }
        assert!(Instant::now() < deadline, "no such line in the access log:\n{text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An application; it counts who has come.
pub(crate) struct Application {
    pub(crate) address: SocketAddr,
    pub(crate) came: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Application {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Application {
    /// Serves each connection with a function.
    pub(crate) async fn new<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::at("127.0.0.1:0", serve).await
    }

    /// Serves each connection to an address with a function.
    pub(crate) async fn at<F>(
        address: &str,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let socket = TcpListener::bind(address).await.unwrap();
        let address = socket.local_addr().unwrap();
        let came = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&came);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = socket.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, came, task }
    }

    /// Gives back what it is sent.
    pub(crate) async fn echo() -> Self {
        Self::new(|mut stream| async move {
            let (mut read, mut write) = stream.split();
            if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                let _ = write.shutdown().await;
            }
        })
        .await
    }

    /// Passes connections on to another address, so that they can be counted.
    pub(crate) async fn relay(to: SocketAddr) -> Self {
        Self::new(move |mut stream| async move {
            let Ok(mut other) = TcpStream::connect(to).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut other).await;
        })
        .await
    }

    /// Nobody listens any more when this is over.
    pub(crate) async fn end(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    pub(crate) fn count(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }
}

/// Sends a text and reads as much back.
pub(crate) async fn ping(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<()> {
    stream.write_all(text).await?;
    let mut back = vec![0; text.len()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap()?;
    assert_eq!(back, text);
    Ok(())
}

/// Reads until the connection ends, and says whether that was an end or a break.
pub(crate) async fn read_end(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("it ends")?;
    Ok(all)
}

/// A TLS client that is not ours: it believes everybody.
pub(crate) fn foreign(shown: Option<Shown>, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believer));
    let mut config = match shown {
        Some(Shown { chain, key }) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

pub(crate) async fn connect(
    config: &Arc<ClientConfig>,
    to: SocketAddr,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(to).await?;
    let name = ServerName::IpAddress(to.ip().into());
    TlsConnector::from(Arc::clone(config)).connect(name, tcp).await
}

/// An HTTP/2 client that knows CONNECT and nothing of us, as Istio's ztunnel is one.
pub(crate) struct Tunnel {
    sender: h2::client::SendRequest<Bytes>,
    _driver: JoinHandle<()>,
}

pub(crate) type Asked = Result<(Response<h2::RecvStream>, h2::SendStream<Bytes>), h2::Error>;

impl Tunnel {
    pub(crate) async fn open(shown: Shown, protocol: &[u8], to: SocketAddr) -> Self {
        let stream = connect(&foreign(Some(shown), &[protocol]), to).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Self { sender, _driver: driver }
    }

    pub(crate) async fn connect(&self, authority: &str) -> Asked {
        self.send(Request::builder().method(Method::CONNECT).uri(authority), b"").await
    }

    /// Sends a request with bytes that do not wait for the answer.
    pub(crate) async fn send(
        &self,
        builder: http::request::Builder,
        early: &'static [u8],
    ) -> Asked {
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut send) = sender.send_request(builder.body(()).unwrap(), false)?;
        if !early.is_empty() {
            // The answer may have come before, and then nobody hears it.
            let _ = send.send_data(Bytes::from_static(early), false);
        }
        let response = tokio::time::timeout(PATIENCE, response).await.expect("an answer comes")?;
        Ok((response, send))
    }

    /// How much may be sent at once after a CONNECT that is not answered.
    pub(crate) async fn room(&self, authority: &str) -> usize {
        let mut sender = self.sender.clone().ready().await.unwrap();
        let request = Request::builder().method(Method::CONNECT).uri(authority).body(()).unwrap();
        let (_response, mut send) = sender.send_request(request, false).unwrap();
        send.reserve_capacity(64 << 20);
        std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
        send.capacity()
    }
}

#[derive(Debug)]
struct Believer;

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
