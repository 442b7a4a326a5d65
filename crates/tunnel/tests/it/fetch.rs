//! What a server of somebody else may do to who fetches from it: nothing but answer, briefly, or be refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nullius_model::{SpiffeId, Timestamp, TrustDomain, Ttl};
use nullius_pki::{
    PrivateKey,
    workload::{ClusterAuthority, PreparedAuthority, SvidRequest, TrustBundle, WorkloadRoot},
};
use nullius_tls::{WorkloadConnector, WorkloadTls};
use nullius_tunnel::{Fetch, FetchError, Io, Reach, ServerProof};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

const MAX: usize = 64 * 1024;
const HOUR: Ttl = Ttl::from_secs(3_600);

type Stream = Box<dyn Io>;

/// A server of the web on this machine: its address, and the authority behind its certificate.
async fn web<R>(answer: impl Fn(Stream) -> R + Send + 'static) -> (String, String)
where
    R: Future<Output = ()> + Send + 'static,
{
    nullius_tls::install_provider();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &ca).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/bundle", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(tls) = acceptor.accept(tcp).await {
                let stream = asked(Box::new(tls)).await;
                tokio::spawn(answer(stream));
            }
        }
    });
    (url, ca.pem())
}

/// The stream once a request was read from it.
async fn asked(mut stream: Stream) -> Stream {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream
}

async fn says(mut stream: Stream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}

async fn fetch(url: &str, server: ServerProof<'_>) -> Result<Vec<u8>, FetchError> {
    let (reach, accept) = (Reach::All, "application/json");
    Fetch { url, server, reach, max: MAX, accept }.get().await
}

#[tokio::test]
async fn a_document_comes_as_it_is_from_whom_the_authorities_stand_behind() {
    let answer = |stream| says(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    let (url, pem) = web(answer).await;
    assert_eq!(fetch(&url, ServerProof::Authorities(&pem)).await.unwrap(), b"{}");
    let (_, of_another) = web(answer).await;
    for strange in [ServerProof::Authorities(&of_another), ServerProof::Web] {
        let refused = fetch(&url, strange).await;
        assert!(matches!(refused, Err(FetchError::Connect(..))), "{refused:?}");
    }
}

#[tokio::test]
async fn nobody_is_followed_elsewhere() {
    for status in ["301 Moved", "302 Found", "307 Again", "308 There", "401 No", "500 Oh"] {
        let (url, pem) = web(move |stream| async move {
            let text = format!("HTTP/1.1 {status}\r\nlocation: https://169.254.169.254/\r\ncontent-length: 0\r\n\r\n");
            says(stream, &text).await;
        })
        .await;
        let refused = fetch(&url, ServerProof::Authorities(&pem)).await;
        assert!(matches!(refused, Err(FetchError::Status(_))), "{status}: {refused:?}");
    }
}

#[tokio::test]
async fn of_an_answer_of_100_mib_little_is_read() {
    const ALL: usize = 100 * 1024 * 1024;
    for length in [format!("content-length: {ALL}"), "connection: close".to_owned()] {
        let written = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&written);
        let (url, pem) = web(move |mut stream| {
            let (written, head) =
                (Arc::clone(&counted), format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n"));
            async move {
                stream.write_all(head.as_bytes()).await.unwrap();
                let piece = vec![b' '; 64 * 1024];
                while written.load(Ordering::Relaxed) < ALL
                    && stream.write_all(&piece).await.is_ok()
                {
                    written.fetch_add(piece.len(), Ordering::Relaxed);
                }
            }
        })
        .await;
        let refused = fetch(&url, ServerProof::Authorities(&pem)).await;
        assert!(matches!(refused, Err(FetchError::Body { max: MAX, .. })), "{refused:?}");
        let sent = written.load(Ordering::Relaxed);
        assert!(sent < 32 * 1024 * 1024, "{sent}");
    }
}

#[tokio::test]
async fn who_answers_without_end_is_left_after_ten_seconds() {
    let (url, pem) = web(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{").await.unwrap();
        stream.flush().await.unwrap();
        // From here on time is what this server says.
        tokio::time::pause();
        while stream.write_all(b" ").await.is_ok() && stream.flush().await.is_ok() {
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    })
    .await;
    let refused = fetch(&url, ServerProof::Authorities(&pem)).await;
    assert!(matches!(refused, Err(FetchError::Slow)), "{refused:?}");
}

/// A trust domain of somebody else.
struct Bank {
    domain: TrustDomain,
    authority: ClusterAuthority,
}

impl Bank {
    fn open(domain: &str) -> Self {
        nullius_tls::install_provider();
        let (domain, now): (TrustDomain, _) = (domain.parse().unwrap(), Timestamp::now());
        let root = WorkloadRoot::create(now).unwrap();
        let prepared = PreparedAuthority::create(domain.clone()).unwrap();
        let signed = root.certify(&prepared.request().unwrap(), &domain, HOUR, now).unwrap();
        let authority = prepared.admit(signed, root.certificate_der(), now).unwrap();
        Self { domain, authority }
    }

    fn bundle(&self) -> TrustBundle {
        let mut bundle = TrustBundle::new(self.domain.clone());
        bundle.add_x509(self.authority.anchor_der().clone()).unwrap();
        bundle
    }

    /// Its bundle endpoint, which proves itself by an SVID.
    async fn endpoint(&self, id: &SpiffeId) -> String {
        let key = PrivateKey::generate().unwrap();
        let csr = key.request().unwrap();
        let request = SvidRequest { id, dns_names: &[], csr: &csr, life: HOUR };
        let svid = self.authority.issue(&request, Timestamp::now()).unwrap();
        let tls = WorkloadTls::new(svid.chain, key.to_der(), []).unwrap();
        let acceptor = tls.open_acceptor(&[]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                if let Ok(tls) = acceptor.accept(tcp).await {
                    let stream = asked(Box::new(tls)).await;
                    says(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
                }
            }
        });
        url
    }
}

#[tokio::test]
async fn an_endpoint_of_spiffe_is_believed_by_the_bundle_and_its_id_alone() {
    let (bank, other) = (Bank::open("bank.example"), Bank::open("bank.example"));
    let id: SpiffeId = "spiffe://bank.example/bundles".parse().unwrap();
    let url = bank.endpoint(&id).await;
    let proof = |bundle: TrustBundle, id: &str| {
        let expected = [id.parse().unwrap()].into();
        ServerProof::Svid(WorkloadConnector::without_svid([bundle], expected, &[]).unwrap())
    };
    assert_eq!(fetch(&url, proof(bank.bundle(), id.as_str())).await.unwrap(), b"{}");
    for strange in [
        proof(bank.bundle(), "spiffe://bank.example/somebody"),
        proof(other.bundle(), id.as_str()),
        proof(TrustBundle::new("bank.example".parse().unwrap()), id.as_str()),
    ] {
        let refused = fetch(&url, strange).await;
        assert!(matches!(refused, Err(FetchError::Svid(..))), "{refused:?}");
    }
    // A certificate for its name it has none.
    let refused = fetch(&url, ServerProof::Web).await;
    assert!(matches!(refused, Err(FetchError::Connect(..))), "{refused:?}");
}
