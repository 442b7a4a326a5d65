#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
//! Real TLS, real gRPC and a real authority; of the API server there is what it says of tokens.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    client::conn::http2,
    service::service_fn,
};
use hyper_util::server::conn::auto;
use nullius_kube::{
    ApiServer, Credential, InCluster, NODE, NODE_NAMESPACE,
    identity::{IdentityRecord, MachineStore, NamespaceNews, News, NodeNews, PodNews, Reviewer},
};
use nullius_model::TrustDomain;
use nullius_pki::{
    ServingAuthority, sha256,
    workload::{TrustBundle, WorkloadRoot},
};
use nullius_proto::{
    VERSION,
    node_v1::{
        MeshNews, Registrations, WatchMeshRequest, WatchRequest, identity_client::IdentityClient,
        mesh_client::MeshClient,
    },
};
use nullius_tls::{LiveCertificate, WebhookAcceptor, WorkloadConnector, WorkloadStream};
use nullius_tunnel::{Fetch, FetchError, Reach, ServerProof};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tonic::{Code, Status, Streaming, transport::Endpoint};

use super::*;
use crate::{
    meters::Meters,
    svid::{
        callers::{Callers, Door},
        meters::SvidMeters,
        registry::Registry,
        standing::{Standing, own_id},
        turn::{Told, Turn, certified, prepared, turn},
    },
};

mod machines;

const POD: &str = "0c9a3c66-13a0-4bb7-8a5c-6f1d2f0b7a10";
const PATIENCE: Duration = Duration::from_secs(5);

fn domain() -> TrustDomain {
    "dev.example".parse().unwrap()
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut told = String::new();
    for three in text.as_bytes().chunks(3) {
        let bits =
            (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(*three.get(at).unwrap_or(&0)));
        for at in 0..=three.len() {
            told.push(char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    told
}

/// A token as anybody may write one.
fn token(audience: &str, subject: &str, pod: &str, signature: &str) -> String {
    let header = base64(r#"{"alg":"RS256","kid":"a"}"#);
    let claims = json!({
        "iss": "https://kubernetes.default.svc", "aud": [audience], "sub": subject,
        "exp": Timestamp::now().as_second() + 3_600,
        "kubernetes.io": {
            "namespace": NODE_NAMESPACE, "serviceaccount": { "name": NODE, "uid": "1" },
            "pod": { "name": "part", "uid": pod }, "node": { "name": "near", "uid": "n1" },
        },
    });
    format!("{header}.{}.{}", base64(&claims.to_string()), base64(signature))
}

fn of_node(pod: &str, signature: &str) -> String {
    let subject = format!("system:serviceaccount:{NODE_NAMESPACE}:{NODE}");
    token("nullius-agent:dev", &subject, pod, signature)
}

/// What an API server says of tokens: one is good.
struct Reviews {
    good: String,
    asked: AtomicUsize,
    machines: machines::Objects,
}

impl Reviews {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path().contains("/machines/") {
            return self.machines.answer(request).await;
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let asked: Value = serde_json::from_slice(&body).unwrap();
        let status = match asked["spec"]["token"] == self.good {
            false => json!({ "authenticated": false }),
            true => json!({
                "authenticated": true, "audiences": ["nullius-agent:dev"],
                "user": {
                    "username": format!("system:serviceaccount:{NODE_NAMESPACE}:{NODE}"),
                    "extra": {
                        "authentication.kubernetes.io/pod-name": ["part"],
                        "authentication.kubernetes.io/pod-uid": [POD],
                        "authentication.kubernetes.io/node-name": ["near"],
                        "authentication.kubernetes.io/node-uid": ["n1"],
                    },
                },
            }),
        };
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "metadata": {}, "spec": asked["spec"], "status": status,
        });
        let mut response = Response::new(Full::from(review.to_string()));
        let json = hyper::header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
        response
    }

    /// Serves, and says how to find it.
    async fn listens(self: Arc<Self>, tasks: &mut JoinSet<()>) -> (ApiServer, TempDir) {
        let now = Timestamp::now();
        let signer = ServingAuthority::create("localhost", now).unwrap();
        let shown = signer.issue("localhost", now).unwrap();
        let certificate = LiveCertificate::new(shown.chain, shown.key.to_der()).unwrap();
        let acceptor = WebhookAcceptor::new(certificate, None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.crt");
        std::fs::write(&ca_file, signer.certificate_pem()).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = tcp.local_addr().unwrap().port();
        tasks.spawn(async move {
            loop {
                let (stream, _) = tcp.accept().await.unwrap();
                let (acceptor, reviews) = (acceptor.clone(), Arc::clone(&self));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let answer = service_fn(move |request| {
                        let reviews = Arc::clone(&reviews);
                        async move { Ok::<_, Infallible>(reviews.answer(request).await) }
                    });
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        let host = "localhost".to_owned();
        (ApiServer::in_cluster(&InCluster { host, port, ca_file }).unwrap(), folder)
    }
}

fn standing() -> Standing {
    let now = Timestamp::now();
    let root = WorkloadRoot::create(now).unwrap();
    let kept = |record: &IdentityRecord| match turn(record, &domain(), Told::NotYet, now).unwrap() {
        Turn::Keep(record) => *record,
        other => panic!("{other:?}"),
    };
    let record = kept(&IdentityRecord::default());
    let request = prepared(record.next.as_ref().unwrap(), &domain()).unwrap().request().unwrap();
    let week = Ttl::from_secs(7 * 86_400);
    let signed = root.certify(&request, &domain(), week, now).unwrap();
    let record = certified(&record, &domain(), signed, root.certificate_der(), now).unwrap();
    Standing::of(&kept(&record.unwrap()), &domain(), now).unwrap().unwrap()
}

/// The port of an agent in whose cluster one node has one part.
struct Port {
    address: SocketAddr,
    reviews: Arc<Reviews>,
    connector: WorkloadConnector,
    issuing: Arc<Issuing>,
    deaf: Arc<AtomicBool>,
    deaf_to_mesh: Arc<AtomicBool>,
    /// What the hub will be told.
    waiting: crate::report::Waiting,
    _standing: watch::Sender<Option<Arc<Standing>>>,
    _tasks: JoinSet<()>,
    _folder: TempDir,
}

impl Port {
    async fn listens() -> Self {
        nullius_tls::install_provider();
        let mut tasks = JoinSet::new();
        let reviews = Arc::new(Reviews {
            good: of_node(POD, "good"),
            asked: AtomicUsize::new(0),
            machines: machines::Objects::none(),
        });
        let (api, folder) = Arc::clone(&reviews).listens(&mut tasks).await;
        let mut registry = Registry::new(domain());
        registry.hear_nodes(News::All(vec![NodeNews { name: "near".into(), uid: "n1".into() }]));
        registry.hear_namespaces(News::All(Vec::<NamespaceNews>::new()));
        registry.hear_pods(News::All(vec![part("part", POD)]));
        registry.hear_declared(News::All(Vec::new()));
        registry.hear_machines(News::All(Vec::new()));
        let registry = Arc::new(RwLock::new(registry));
        let reviewer = Reviewer::new(&api, Credential::None).unwrap();
        let (stop, deaf) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let hears = |deaf: &Arc<AtomicBool>| {
            let deaf = Arc::clone(deaf);
            move || !deaf.load(Ordering::Relaxed)
        };
        let door = Door::new(MachineStore::new(&api, Credential::None).unwrap(), hears(&deaf));
        let callers = Callers::new(&"dev".parse().unwrap(), reviewer, Arc::clone(&registry));
        let callers = callers.with_machines(door);
        let standing = standing();
        let id = own_id(&domain()).unwrap();
        let shown = Shown::default();
        let (acceptor, _) = show(&standing, &id, Timestamp::now()).unwrap();
        shown.0.store(Some(Arc::new(acceptor)));
        let bundle = (*standing.bundle).clone();
        let connector = WorkloadConnector::without_svid([bundle], [id].into(), &[b"h2"]).unwrap();
        let (told, followed) = watch::channel(Some(Arc::new(standing)));
        let meters = SvidMeters::new(&Meters::new().all);
        let issuing = Arc::new(Issuing::new(registry, callers, followed, meters, hears(&deaf)));
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let deaf_to_mesh = Arc::new(AtomicBool::new(false));
        let mesh = Arc::new(Mesh::new(domain(), hears(&deaf_to_mesh)));
        mesh.hear(|book| book.hear_namespaces(News::All(Vec::new())));
        mesh.hear(|book| book.hear_pods(News::All(Vec::new())));
        mesh.hear(|book| book.hear_services(News::All(Vec::new())));
        mesh.hear(|book| book.hear_slices(News::All(Vec::new())));
        mesh.hear(|book| book.hear_intentions(News::All(Vec::new())));
        let (reports, waiting) = crate::report::open();
        let sightings = Arc::new(Sightings::new(domain(), reports));
        let elsewhere = PodNews { node: Some("far".into()), ..part("other", "of-another-node") };
        sightings.hear_pods(News::All(vec![part("part", POD), elsewhere]));
        tasks.spawn(serve(tcp, shown, Arc::clone(&issuing), mesh, sightings, stop));
        Self {
            address,
            reviews,
            connector,
            issuing,
            deaf,
            deaf_to_mesh,
            waiting,
            _standing: told,
            _tasks: tasks,
            _folder: folder,
        }
    }

    /// Connects from an address of this machine's own network.
    async fn dial(&self, last: u8) -> std::io::Result<WorkloadStream> {
        dial(self.address, self.connector.clone(), last).await
    }

    /// What a node hears first.
    async fn watch(&self, token: &str) -> Result<usize, Status> {
        let mut told = self.stream(token).await?;
        Ok(told.message().await?.unwrap().entries.len())
    }

    fn channel(&self) -> tonic::transport::Channel {
        let (address, connector) = (self.address, self.connector.clone());
        let dialling = tower::service_fn(move |_: hyper::Uri| {
            let connector = connector.clone();
            async move { dial(address, connector, 1).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://agent").connect_with_connector_lazy(dialling)
    }

    /// What a node hears of the mesh.
    async fn mesh(&self, token: &str) -> Result<Streaming<MeshNews>, Status> {
        let request = with_token(WatchMeshRequest { version: VERSION }, token);
        Ok(MeshClient::new(self.channel()).watch(request).await?.into_inner())
    }

    async fn stream(&self, token: &str) -> Result<Streaming<Registrations>, Status> {
        let request = with_token(WatchRequest { version: VERSION }, token);
        Ok(IdentityClient::new(self.channel()).watch(request).await?.into_inner())
    }

    fn asked(&self) -> usize {
        self.reviews.asked.load(Ordering::Relaxed)
    }
}

fn with_token<T>(message: T, token: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    request
}

async fn dial(
    address: SocketAddr,
    connector: WorkloadConnector,
    last: u8,
) -> std::io::Result<WorkloadStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::from([127, 0, 0, last]), 0))?;
    let tcp = socket.connect(address).await?;
    let connected = connector.connect(tcp, address.ip()).await.map_err(std::io::Error::other)?;
    Ok(connected.0)
}

fn part(name: &str, uid: &str) -> PodNews {
    PodNews {
        namespace: NODE_NAMESPACE.into(),
        name: name.into(),
        uid: uid.into(),
        node: Some("near".into()),
        account: NODE.into(),
        label: None,
        mesh: None,
        is_ended: false,
        is_on_host: false,
        parts: Arc::default(),
    }
}

/// The body of a request: what it says, and whether it ends there.
struct Said(Option<Bytes>, bool);

impl hyper::body::Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if self.1 => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

fn call(token: &str, body: Said) -> Request<Said> {
    Request::post("http://agent/nullius.node.v1.Identity/IssueX509")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .body(body)
        .unwrap()
}

/// A stranger: as many calls as it may make, on one connection after the other.
async fn harass(port: Arc<Port>, kind: usize, last: u8, refused: mpsc::UnboundedSender<()>) {
    // A message of version 1 and nothing else, and the beginning of the longest that is read.
    let whole = Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]);
    let begun = {
        let length = u32::try_from(MESSAGE_MAX).unwrap().to_be_bytes();
        let mut bytes = vec![0; MESSAGE_MAX / 2];
        bytes[1..5].copy_from_slice(&length);
        Bytes::from(bytes)
    };
    let mut number = 0_u64;
    loop {
        let Ok(stream) = port.dial(last).await else { continue };
        let io = TokioIo::new(stream);
        let Ok((mut calls, connection)) = http2::handshake(TokioExecutor::new(), io).await else {
            continue;
        };
        let connection = tokio::spawn(connection);
        let mut all = JoinSet::new();
        for _ in 0..64 {
            number += 1;
            let forged = format!("{last}-{number}");
            let token = match kind % 3 {
                0 => of_node(&format!("{:02x?}", sha256(forged.as_bytes())), &forged),
                1 => token("nullius-agent:dev", "system:serviceaccount:evil:evil", POD, &forged),
                _ => token("nullius-hub", "system:serviceaccount:evil:evil", POD, &forged),
            };
            let body = if kind.is_multiple_of(2) {
                Said(Some(whole.clone()), true)
            } else {
                Said(Some(begun.clone()), false)
            };
            if calls.ready().await.is_err() {
                break;
            }
            all.spawn(calls.send_request(call(&token, body)));
        }
        while let Some(answer) = all.join_next().await {
            if matches!(answer, Ok(Ok(_))) {
                let _ = refused.send(());
            }
        }
        connection.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_with_tokens_of_their_own_making_keep_no_node_waiting_and_cost_no_review() {
    let port = Arc::new(Port::listens().await);
    let mut strangers = JoinSet::new();
    let (tell, mut refused) = mpsc::unbounded_channel();
    for kind in 0..128 {
        strangers.spawn(harass(Arc::clone(&port), kind, 9, tell.clone()));
    }
    for _ in 0..200 {
        timeout(Duration::from_secs(60), refused.recv()).await.unwrap().unwrap();
    }
    assert_eq!(port.asked(), 0, "nothing is asked for who names no part of a node");
    for _ in 0..5 {
        let told = timeout(PATIENCE, port.watch(&port.reviews.good)).await.unwrap();
        assert_eq!(told.unwrap(), 0);
    }
    assert_eq!(port.asked(), 1, "it is remembered for the node");
    strangers.shutdown().await;
}

#[tokio::test]
async fn a_token_of_somebody_who_knows_a_pod_is_asked_about_and_takes_no_room_of_the_nodes() {
    let port = Port::listens().await;
    for forged in 0..20 {
        let refused = port.watch(&of_node(POD, &format!("forged {forged}"))).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    assert_eq!(port.asked(), 20);
    port.watch(&port.reviews.good).await.unwrap();
    port.watch(&port.reviews.good).await.unwrap();
    assert_eq!(port.asked(), 21);
}

#[tokio::test]
async fn a_part_that_the_watches_have_not_told_of_yet_is_waited_for() {
    let port = Arc::new(Port::listens().await);
    let hear = |news| {
        let mut registry = port.issuing.registry.write().unwrap_or_else(PoisonError::into_inner);
        registry.hear_pods(news);
        drop(registry);
        port.issuing.callers.hear();
    };
    hear(News::Gone(part("part", POD)));
    let late = Arc::clone(&port);
    let mut proving = tokio::spawn(async move { late.watch(&late.reviews.good).await });
    assert!(timeout(Duration::from_millis(300), &mut proving).await.is_err());
    assert_eq!(port.asked(), 0);
    hear(News::Put(part("part", POD)));
    proving.await.unwrap().unwrap();
    hear(News::Gone(part("part", POD)));
    let refused = port.watch(&port.reviews.good).await.unwrap_err();
    assert_eq!((refused.code(), port.asked()), (Code::Unauthenticated, 1));
}

#[tokio::test]
async fn a_replica_that_hears_no_api_server_sends_its_nodes_away_and_takes_none() {
    let port = Port::listens().await;
    let mut told = port.stream(&port.reviews.good).await.unwrap();
    told.message().await.unwrap().unwrap();
    port.deaf.store(true, Ordering::Relaxed);
    let ended = timeout(PATIENCE, told.message()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    assert!(ended.message().contains("hears no API server"), "{ended}");
    let refused = timeout(PATIENCE, port.dial(1)).await.unwrap();
    assert!(refused.is_err(), "another replica is to be found");
    port.deaf.store(false, Ordering::Relaxed);
    port.watch(&port.reviews.good).await.unwrap();
}

#[tokio::test]
async fn what_was_seen_is_heard_of_nodes_alone_and_of_their_own_pods() {
    use nullius_proto::node_v1::{SeenBatch, SeenFlow, seeing_client::SeeingClient};

    let port = Port::listens().await;
    let tell = async |token: &str, batch: SeenBatch| {
        let mut client = SeeingClient::new(port.channel());
        client.tell(with_token(batch, token)).await.map(|receipt| receipt.into_inner().number)
    };
    let flow = |pod: &str| SeenFlow { pod: pod.to_owned(), connections: 3, ..SeenFlow::default() };
    let batch = SeenBatch {
        version: VERSION,
        process: "a".repeat(32),
        number: 1,
        flows: vec![flow(POD), flow("of-another-node")],
        ..SeenBatch::default()
    };
    let refused = tell(&of_node(POD, "forged"), batch.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(port.waiting.next(), None);
    let good = &port.reviews.good;
    assert_eq!(tell(good, batch.clone()).await.unwrap(), 1);
    let told = port.waiting.next().unwrap();
    assert_eq!(told.mesh_flows.iter().map(|flow| flow.connections).collect::<Vec<_>>(), [3]);
    assert_eq!(told.disbelieved_nodes, [("near".to_owned(), 1)].into());
    assert_eq!(tell(good, batch.clone()).await.unwrap(), 1, "its receipt may have been lost");
    assert_eq!(port.waiting.next(), None);
    let other = SeenBatch { version: VERSION + 1, ..batch.clone() };
    assert_eq!(tell(good, other).await.unwrap_err().code(), Code::FailedPrecondition);
    let long = SeenBatch { number: 2, flows: vec![flow(&"x".repeat(300_000))], ..batch };
    assert!(tell(good, long).await.is_err());
}

#[tokio::test]
async fn who_hears_no_intentions_any_more_lets_nodes_go_and_until_then_says_that_it_is_there() {
    let port = Port::listens().await;
    let soon = Duration::from_secs(30);
    let mut told = port.mesh(&port.reviews.good).await.unwrap();
    for sequence in [1, 2] {
        let news = timeout(soon, told.message()).await.unwrap().unwrap().unwrap();
        assert_eq!((news.sequence, news.is_complete), (sequence, true));
        assert!(news.put_workloads.is_empty() && news.put_intentions.is_empty());
    }
    port.deaf_to_mesh.store(true, Ordering::Relaxed);
    let ended = timeout(soon, told.message()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    assert_eq!(port.mesh(&port.reviews.good).await.unwrap_err().code(), Code::Unavailable);
    // Identities do not wait for what the mesh needs beside them.
    port.watch(&port.reviews.good).await.unwrap();
}

#[tokio::test]
async fn anybody_is_told_the_bundle_over_https_spiffe_and_nothing_else() {
    let port = Port::listens().await;
    let bundle = (*port.issuing.standing.borrow().as_ref().unwrap().bundle).clone();
    let fetch = async |path: &str, id: &str, protocols: &[&[u8]]| {
        let expected = [id.parse().unwrap()].into();
        let connector = WorkloadConnector::without_svid([bundle.clone()], expected, protocols);
        let url = format!("https://{}{path}", port.address);
        let server = ServerProof::Svid(connector.unwrap());
        let (reach, max, accept) = (Reach::All, 64 * 1024, "application/json");
        Fetch { url: &url, server, reach, max, accept }.get().await
    };
    let own = own_id(&domain()).unwrap().to_string();
    for protocols in [&[][..], &[&b"http/1.1"[..]], &[b"h2", b"http/1.1"]] {
        let told = fetch(endpoint::PATH, &own, protocols).await.unwrap();
        let told = TrustBundle::read(domain(), &told).unwrap();
        assert_eq!(told, bundle);
    }
    for path in ["/", "/nullius.node.v1.Identity/Watch", "/bundle/"] {
        let told = fetch(path, &own, &[]).await;
        assert!(matches!(told, Err(FetchError::Status(status)) if status == 404), "{told:?}");
    }
    let other = fetch(endpoint::PATH, "spiffe://dev.example/ns/shop/sa/web", &[]).await;
    assert!(matches!(other, Err(FetchError::Svid(..))), "{other:?}");
    assert_eq!(port.asked(), 0, "nobody is asked who that is");
    // Nodes go on to say what they speak.
    assert_eq!(port.watch(&port.reviews.good).await.unwrap(), 0);
}

#[tokio::test]
async fn who_asks_for_the_bundle_and_says_no_more_is_let_go() {
    let port = Port::listens().await;
    let bundle = (*port.issuing.standing.borrow().as_ref().unwrap().bundle).clone();
    let expected = [own_id(&domain()).unwrap()].into();
    let connector = WorkloadConnector::without_svid([bundle], expected, &[]).unwrap();
    let begun = Instant::now();
    let mut silent = dial(port.address, connector.clone(), 1).await.unwrap();
    let mut long = dial(port.address, connector, 2).await.unwrap();
    long.write_all(b"GET /bundle HTTP/1.1\r\n").await.unwrap();
    long.write_all(&[b'a'; 12 * 1024]).await.unwrap();
    for stream in [&mut silent, &mut long] {
        let mut told = Vec::new();
        let _ = timeout(3 * PATIENCE, stream.read_to_end(&mut told)).await.unwrap();
        assert!(!told.starts_with(b"HTTP/1.1 200"));
    }
    assert!(begun.elapsed() < 2 * STRANGER, "{:?}", begun.elapsed());
}
