//! A whole way: client → public listener → hub → TLS tunnel → agent → API server over TLS, in one process.

use std::{
    collections::{BTreeSet, HashSet},
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use http::{Request, Response, header};
use hyper::{body::Incoming, service::service_fn};
use nullius_access::{Caller, Snapshot};
use nullius_model::{
    AnyObject, AuditId, Clock as _, ClusterName, Factor, Identity, InfraId, InstanceId, KeySet,
    Proof, RequestAssertion, SessionId, SystemClock, Timestamp, Ttl,
};
use nullius_pki::{
    AssertionVerifier, InfraRoot, KeySetSigner, PrivateKey, RequestFacts, Signer, Verifier,
    connection_id, path_hash, random_bits,
};
use nullius_policy::{KubePermit, decide_kube};
use nullius_rbac::RequestInfo;
use nullius_tls::{
    Accepted, HubAcceptor, InfraRoots, LiveCertificate, PeerRule, agent_client_config, exporter,
};
use nullius_tunnel::{
    Admission, Agent, Assert, AssertError, Class, Dial, Forward, Gate, Presented, PublicLimits,
    Refusal, Report, Served, TunnelBody, TunnelOptions, Tunnels, Upgrade, Upstream,
    serve_public_connection,
};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

pub(crate) const ADA: u128 = 1;
pub(crate) const BOB: u128 = 2;

pub(crate) fn cluster() -> ClusterName {
    "dev".parse().unwrap()
}

pub(crate) fn session(bits: u128) -> SessionId {
    SessionId::from_bits(bits)
}

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// Signs as a hub does.
pub(crate) struct TestAssert {
    signer: Signer,
}

impl TestAssert {
    pub(crate) fn sign(
        &self,
        user: u128,
        method: &str,
        target: &str,
        exporter: &[u8; 32],
        upgrade: Option<&str>,
    ) -> String {
        let iat = now().as_second();
        self.signer.sign_request(&RequestAssertion {
            aud: cluster(),
            iat,
            exp: iat + 30,
            jti: format!("{:032x}", random_bits()),
            sub: name_of(user).parse().unwrap(),
            sid: session(user),
            perm: None,
            plan: 1,
            method: method.to_owned(),
            path: path_hash(target),
            upgrade: upgrade.map(str::to_owned),
            conn: connection_id(exporter),
        })
    }
}

impl Assert for TestAssert {
    fn assertion(
        &self,
        permit: &KubePermit,
        connection: &[u8; 32],
        upgrade: Option<Upgrade>,
    ) -> Result<String, AssertError> {
        let user = if permit.user().as_str() == "ada" { ADA } else { BOB };
        let upgrade = upgrade.map(Upgrade::as_str);
        Ok(self.sign(user, permit.method().as_str(), permit.path_and_query(), connection, upgrade))
    }
}

/// Checks as an agent does.
pub(crate) struct TestGate {
    verifier: AssertionVerifier,
    pub(crate) refused: Mutex<Vec<String>>,
}

impl Gate for TestGate {
    fn admit<'a>(
        &'a self,
        presented: Presented<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Admission, Refusal>> + Send + 'a>> {
        let facts = RequestFacts {
            method: presented.method(),
            path_and_query: presented.path_and_query(),
            upgrade: presented.upgrade.map(Upgrade::as_str),
            exporter: presented.exporter,
        };
        let admitted = match self.verifier.verify(presented.assertion, &facts, now()) {
            Ok(assertion) => Ok(Admission {
                credential: format!("token-of-{}", assertion.sub).into(),
                session: assertion.sid,
            }),
            Err(error) => {
                self.refused.lock().unwrap().push(error.to_string());
                Err(Refusal::new(403, format!("the agent refuses: {error}")))
            }
        };
        Box::pin(std::future::ready(admitted))
    }
}

pub(crate) struct World {
    pub(crate) tunnels: Tunnels,
    pub(crate) assert: Arc<TestAssert>,
    pub(crate) gate: Arc<TestGate>,
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    pub(crate) reports: Arc<Mutex<Vec<Report>>>,
    pub(crate) signed_out: Arc<Mutex<HashSet<u128>>>,
    pub(crate) shutdown: CancellationToken,
    hub: SocketAddr,
    root: InfraRoot,
}

/// One agent process.
pub(crate) struct TestAgent {
    pub(crate) agent: Agent,
    pub(crate) instance: InstanceId,
    connector: TlsConnector,
    hub: SocketAddr,
}

impl World {
    /// A hub with its listeners, without agents.
    pub(crate) async fn start() -> Self {
        Self::start_with(TunnelOptions::default()).await
    }

    pub(crate) async fn start_with(options: TunnelOptions) -> Self {
        nullius_tls::install_provider();
        let offline = KeySetSigner::generate().unwrap();
        let signer = Signer::generate().unwrap();
        let key = signer.entry(Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let keys = KeySet { revision: 1, keys: [key].into() };
        let verifier = Arc::new(Verifier::new(offline.public(), 0).unwrap());
        verifier.install(&offline.sign(&keys)).unwrap();
        let gate = Arc::new(TestGate {
            verifier: AssertionVerifier::new(verifier, cluster()),
            refused: Mutex::default(),
        });
        let assert = Arc::new(TestAssert { signer });
        let tunnels = Tunnels::new(options);
        let root = InfraRoot::create(now()).unwrap();
        let shutdown = CancellationToken::new();
        let reports = Arc::default();
        let signed_out = Arc::default();

        let hub = serve_agents(&root, tunnels.clone()).await;
        let front = Arc::new(Front {
            tunnels: tunnels.clone(),
            assert: Arc::clone(&assert),
            reports: Arc::clone(&reports),
            signed_out: Arc::clone(&signed_out),
            snapshot: fleet(),
        });
        let http1 = serve_people(Arc::clone(&front), None, shutdown.clone()).await;
        let http2 = serve_people(front, Some(b"h2"), shutdown.clone()).await;
        Self { tunnels, assert, gate, http1, http2, reports, signed_out, shutdown, hub, root }
    }

    /// A hub with one agent that has one connection of each class.
    pub(crate) async fn with_agent(dial: Arc<dyn Dial>) -> (Self, TestAgent) {
        let world = Self::start().await;
        let agent = world.agent(dial, 7);
        agent.connect(Class::Small, 1).await;
        agent.connect(Class::Bulk, 1).await;
        world.attached(2).await;
        (world, agent)
    }

    pub(crate) fn agent(&self, dial: Arc<dyn Dial>, instance: u128) -> TestAgent {
        let upstream = Upstream::new(cluster(), dial);
        let gate: Arc<dyn Gate> = Arc::clone(&self.gate) as Arc<dyn Gate>;
        let instance = InstanceId::from_bits(instance);
        let id = InfraId::AgentProxy { cluster: cluster(), instance: instance.clone() };
        let key = PrivateKey::generate().unwrap();
        let csr = key.request().unwrap();
        let certificate = self.root.issue_agent(&csr, &id, Ttl::from_secs(600), now()).unwrap();
        let roots = InfraRoots::from_pem(self.root.certificate_pem()).unwrap();
        let certificate = LiveCertificate::of(&certificate, &key).unwrap();
        let small =
            agent_client_config(&roots, certificate, PeerRule::Hub, Class::Small.protocol())
                .unwrap();
        TestAgent {
            agent: Agent::new(cluster(), gate, upstream),
            instance,
            connector: TlsConnector::from(small),
            hub: self.hub,
        }
    }

    /// Waits until so many connections are there.
    pub(crate) async fn attached(&self, count: usize) {
        until(|| self.tunnels.agents(&cluster()).len() == count).await;
    }

    pub(crate) fn live(&self, user: u128) -> usize {
        self.tunnels.live(&session(user))
    }
}

impl TestAgent {
    pub(crate) async fn connect(&self, class: Class, epoch: u64) -> Served {
        let (io, exporter) = self.dial(class).await;
        self.agent.serve(io, class, exporter, epoch)
    }

    /// A connection to the hub that nobody serves yet.
    pub(crate) async fn dial(
        &self,
        class: Class,
    ) -> (tokio_rustls::client::TlsStream<TcpStream>, [u8; 32]) {
        let mut config = self.connector.config().as_ref().clone();
        config.alpn_protocols = vec![class.protocol().as_str().as_bytes().to_vec()];
        let tcp = TcpStream::connect(self.hub).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        let exporter = exporter(tls.get_ref().1).unwrap();
        (tls, exporter)
    }
}

/// Polls a condition; the tests' only way to wait for what another task does.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), wait).await.expect("in time");
}

async fn serve_agents(root: &InfraRoot, tunnels: Tunnels) -> SocketAddr {
    let key = PrivateKey::generate().unwrap();
    let id = InfraId::Hub { instance: InstanceId::from_bits(99) };
    let names = ["127.0.0.1".try_into().unwrap()];
    let csr = key.request().unwrap();
    let certificate = root.issue_hub(&csr, &id, &names, Ttl::from_secs(600), now()).unwrap();
    let roots = InfraRoots::from_pem(root.certificate_pem()).unwrap();
    let acceptor =
        HubAcceptor::new(LiveCertificate::of(&certificate, &key).unwrap(), &roots).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let (acceptor, tunnels) = (acceptor.clone(), tunnels.clone());
            tokio::spawn(async move {
                let Ok(Accepted::Agent { stream, id, protocol, .. }) = acceptor.accept(tcp).await
                else {
                    return;
                };
                let exporter = exporter(stream.get_ref().1).unwrap();
                let class = Class::of(protocol).unwrap();
                // A refusal closes the connection, which the agent's side sees.
                if let Ok(mut attached) = tunnels.attach(stream, &id, class, exporter).await {
                    attached.ended().await;
                }
            });
        }
    });
    address
}

struct Front {
    tunnels: Tunnels,
    assert: Arc<TestAssert>,
    reports: Arc<Mutex<Vec<Report>>>,
    signed_out: Arc<Mutex<HashSet<u128>>>,
    snapshot: Snapshot,
}

async fn serve_people(
    front: Arc<Front>,
    alpn: Option<&'static [u8]>,
    shutdown: CancellationToken,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let (front, shutdown) = (Arc::clone(&front), shutdown.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let front = Arc::clone(&front);
                    async move { Ok::<_, Infallible>(front.answer(request).await) }
                });
                let limits = PublicLimits {
                    head_timeout: std::time::Duration::from_millis(700),
                    ..PublicLimits::default()
                };
                let _ = serve_public_connection(tcp, alpn, service, &limits, shutdown).await;
            });
        }
    });
    address
}

impl Front {
    async fn answer(&self, request: Request<Incoming>) -> Response<TunnelBody> {
        self.forward(request).await.unwrap_or_else(Refusal::into_response)
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<TunnelBody>, Refusal> {
        let bearer = request.headers().get(header::AUTHORIZATION);
        let user = match bearer.map(|value| value.as_bytes()) {
            Some(b"Bearer ada") => ADA,
            Some(b"Bearer bob") => BOB,
            _ => return Err(Refusal::new(401, "sign in")),
        };
        let target = request.uri().path_and_query().unwrap().as_str().to_owned();
        let target = target
            .strip_prefix("/clusters/dev")
            .filter(|target| target.starts_with('/'))
            .ok_or_else(|| Refusal::new(404, "no such path"))?;
        let info = RequestInfo::parse(request.method().as_str(), target)
            .map_err(|error| Refusal::new(400, error.to_string()))?;
        let mark = self.tunnels.mark();
        if self.signed_out.lock().unwrap().contains(&user) {
            return Err(Refusal::new(401, "the session has ended"));
        }
        let identity = identity(user);
        let decision =
            decide_kube(&self.snapshot, &Caller::new(&identity), &cluster(), &info, now());
        let permit = decision
            .into_result()
            .map_err(|denial| Refusal::new(denial.http_status(), denial.kube_status().message))?;
        let (mut parts, body) = request.into_parts();
        parts.uri = target.parse().unwrap();
        let reports = Arc::clone(&self.reports);
        let audit_id: AuditId = format!("audit-{:x}", random_bits()).parse().unwrap();
        let forward = Forward {
            permit: &permit,
            mark,
            audit_id: &audit_id,
            assert: self.assert.as_ref(),
            on_end: Some(Box::new(move |report| reports.lock().unwrap().push(report))),
            on_cut: Some(Box::new(|| "the session of ada has ended".to_owned())),
        };
        Ok(self.tunnels.forward(forward, Request::from_parts(parts, body)).await)
    }
}

pub(crate) fn name_of(user: u128) -> &'static str {
    if user == ADA { "ada" } else { "bob" }
}

fn identity(user: u128) -> Identity {
    Identity {
        user: name_of(user).parse().unwrap(),
        groups: BTreeSet::new(),
        session: session(user),
        proof: Proof { factors: [Factor::Password, Factor::Totp].into(), factor_at: now() },
        signed_in_at: now(),
        expires_at: Ttl::from_secs(3_600).after(now()),
    }
}

pub(crate) fn permit(user: u128, method: &str, target: &str) -> KubePermit {
    let info = RequestInfo::parse(method, target).unwrap();
    let identity = identity(user);
    let decision = decide_kube(&fleet(), &Caller::new(&identity), &cluster(), &info, now());
    decision.into_result().unwrap()
}

fn fleet() -> Snapshot {
    let object = |kind: &str, name: &str, spec: serde_json::Value| -> AnyObject {
        serde_json::from_value(json!({
            "apiVersion": "nullius.dev/v1alpha1",
            "kind": kind,
            "metadata": { "name": name, "uid": format!("{kind}-{name}") },
            "spec": spec,
        }))
        .unwrap()
    };
    let all = json!({ "rules": [
        { "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] },
        { "nonResourceURLs": ["*"], "verbs": ["*"] },
    ]});
    let grant = json!({
        "subjects": [{ "kind": "User", "name": "ada" }, { "kind": "User", "name": "bob" }],
        "role": "all",
        "clusters": { "names": ["dev"] },
    });
    Snapshot::compile(
        &[
            object("Cluster", "dev", json!({})),
            object("User", "ada", json!({})),
            object("User", "bob", json!({})),
            object("Role", "all", all),
            object("Grant", "all", grant),
        ],
        1,
    )
}
