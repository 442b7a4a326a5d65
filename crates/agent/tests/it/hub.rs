//! A hub as an agent sees it: TLS, enrolment, control and tunnels are the product's own; what it orders, a test says.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::Stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use nullius_access::{Caller, Snapshot};
use nullius_agent::{Address, HubSettings};
use nullius_model::{
    AnyObject, ClusterName, Command, CommandId, Factor, Identity, InfraId, InstanceId, KeySet,
    Order, Proof, RequestAssertion, SessionId, Timestamp, Ttl,
};
use nullius_pki::{
    Csr, InfraRoot, IssuerKeys, KeySetSigner, PrivateKey, Signer, connection_id, path_hash,
    random_bits,
};
use nullius_policy::{KubePermit, decide_kube};
use nullius_proto::{
    HUB_AUDIENCE, VERSION,
    agent_v1::{
        self as wire, AgentMessage, AgentRole, EnrolRequest, EnrolResponse, HubMessage,
        JoinRequest, JoinResponse,
        agent_message::Kind as FromAgent,
        control_server::{Control, ControlServer},
        enrolment_server::{Enrolment, EnrolmentServer},
        hub_message::Kind as ToAgent,
    },
};
use nullius_rbac::RequestInfo;
use nullius_tls::{Accepted, HubAcceptor, InfraRoots, LiveCertificate, Protocol, exporter};
use nullius_tunnel::{
    Assert, AssertError, Class, Forward, TunnelBody, TunnelOptions, Tunnels, Upgrade,
};
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

pub(crate) const JOIN_TOKEN: &str = "a-join-token";
/// How long something that should come may take on a machine that is slow and busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn cluster() -> ClusterName {
    "plane".parse().unwrap()
}

pub(crate) struct TestHub {
    pub(crate) address: SocketAddr,
    id: String,
    pub(crate) offline: KeySetSigner,
    pub(crate) signer: Signer,
    pub(crate) tunnels: Tunnels,
    pub(crate) root: InfraRoot,
    /// Seconds that agents' certificates live.
    pub(crate) certificate_seconds: AtomicU32,
    pub(crate) lease_seconds: AtomicU32,
    /// Whether heartbeats are answered.
    pub(crate) hears: AtomicBool,
    /// How long an agent waits for its welcome.
    pub(crate) welcome_millis: AtomicU64,
    /// What agents came for, in that order.
    pub(crate) arrivals: Mutex<Vec<&'static str>>,
    /// The highest term that an agent told.
    term: AtomicU64,
    joined: Mutex<Option<IssuerKeys>>,
    heard: Mutex<Vec<FromAgent>>,
    news: watch::Sender<u64>,
    to_agent: Mutex<Option<mpsc::Sender<HubMessage>>>,
    revision: AtomicU64,
}

impl TestHub {
    pub(crate) async fn start() -> Arc<Self> {
        nullius_tls::install_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hub = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            id: format!("{:032x}", random_bits()),
            offline: KeySetSigner::generate().unwrap(),
            signer: Signer::generate().unwrap(),
            tunnels: Tunnels::new(TunnelOptions::default()),
            root: InfraRoot::create(Timestamp::now()).unwrap(),
            certificate_seconds: AtomicU32::new(3_600),
            lease_seconds: AtomicU32::new(30),
            hears: AtomicBool::new(true),
            welcome_millis: AtomicU64::new(0),
            arrivals: Mutex::default(),
            term: AtomicU64::new(0),
            joined: Mutex::default(),
            heard: Mutex::default(),
            news: watch::Sender::new(0),
            to_agent: Mutex::default(),
            revision: AtomicU64::new(1),
        });
        let acceptor = hub.acceptor();
        let serving = Arc::clone(&hub);
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                let (hub, acceptor) = (Arc::clone(&serving), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(accepted) = acceptor.accept(tcp).await {
                        hub.serve(accepted).await;
                    }
                });
            }
        });
        hub
    }

    pub(crate) fn settings(&self) -> HubSettings {
        HubSettings {
            addresses: vec![Address { host: "127.0.0.1".into(), port: self.address.port() }],
            roots: InfraRoots::from_pem(self.root.certificate_pem()).unwrap(),
            offline_key: self.offline.public(),
            hub_id: self.id.clone(),
        }
    }

    fn acceptor(&self) -> HubAcceptor {
        let key = PrivateKey::generate().unwrap();
        let id = InfraId::Hub { instance: InstanceId::from_bits(1) };
        let names = ["127.0.0.1".try_into().unwrap()];
        let csr = key.request().unwrap();
        let now = Timestamp::now();
        let certificate = self.root.issue_hub(&csr, &id, &names, Ttl::from_secs(600), now).unwrap();
        let roots = InfraRoots::from_pem(self.root.certificate_pem()).unwrap();
        HubAcceptor::new(LiveCertificate::of(&certificate, &key).unwrap(), &roots).unwrap()
    }

    async fn serve(self: &Arc<Self>, accepted: Accepted<tokio::net::TcpStream>) {
        match accepted {
            Accepted::Public(stream) => {
                let service = EnrolmentServer::new(Service(Arc::clone(self)));
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
                    .await;
            }
            Accepted::Agent { stream, protocol: Protocol::Control, .. } => {
                let service = ControlServer::new(Service(Arc::clone(self)));
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
                    .await;
            }
            Accepted::Agent { stream, id, protocol, .. } => {
                let exporter = exporter(stream.get_ref().1).unwrap();
                let class = Class::of(protocol).unwrap();
                self.arrivals.lock().unwrap().push("tunnel");
                if let Ok(mut attached) = self.tunnels.attach(stream, &id, class, exporter).await {
                    attached.ended().await;
                }
            }
        }
    }

    pub(crate) fn key_set(&self, revision: u64) -> String {
        let key = self.signer.entry(Timestamp::UNIX_EPOCH, Timestamp::MAX);
        self.offline.sign(&KeySet { revision, keys: [key].into() })
    }

    fn note(&self, kind: FromAgent) {
        self.heard.lock().unwrap().push(kind);
        self.news.send_modify(|news| *news += 1);
    }

    /// The first message, heard already or to come, that the question answers.
    pub(crate) async fn hear<T>(&self, mut question: impl FnMut(&FromAgent) -> Option<T>) -> T {
        let mut news = self.news.subscribe();
        let hearing = async {
            loop {
                news.borrow_and_update();
                let found = self.heard.lock().unwrap().iter().find_map(&mut question);
                if let Some(found) = found {
                    return found;
                }
                news.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, hearing).await.expect("the agent says it")
    }

    /// Forgets what was heard, but for how the agent stands now: it says that again only when it changes.
    pub(crate) fn forget(&self) {
        let mut heard = self.heard.lock().unwrap();
        let state = heard.iter().rposition(|kind| matches!(kind, FromAgent::State(_)));
        let state = state.map(|at| heard.swap_remove(at));
        heard.clear();
        heard.extend(state);
    }

    pub(crate) async fn hello(&self) -> wire::Hello {
        self.hear(|kind| match kind {
            FromAgent::Hello(hello) => Some(hello.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn alarm(&self, what: &str) -> String {
        self.hear(|kind| match kind {
            FromAgent::Alarm(alarm) if alarm.what == what => Some(alarm.detail.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) fn command(&self, order: Order) -> (String, String) {
        let id = CommandId::from_bits(random_bits());
        let command = Command {
            cluster: cluster(),
            id: id.clone(),
            revision: self.revision.fetch_add(1, Ordering::SeqCst),
            issued_at: Timestamp::now(),
            order,
        };
        (id.to_string(), self.signer.sign_command(&command))
    }

    pub(crate) async fn send(&self, kind: ToAgent) {
        let to_agent = self.to_agent.lock().unwrap().clone().expect("an agent is attached");
        to_agent.send(HubMessage { kind: Some(kind) }).await.unwrap();
    }

    /// Gives an order and waits for its answer.
    pub(crate) async fn order(&self, order: Order) -> FromAgent {
        let (id, jws) = self.command(order);
        self.send(ToAgent::Command(wire::Command { jws, heed_only: false })).await;
        self.hear(|kind| {
            let of = match kind {
                FromAgent::SessionReady(ready) => &ready.command,
                FromAgent::SessionFlushed(flushed) => &flushed.command,
                FromAgent::CommandFailed(failed) => &failed.command,
                _ => return None,
            };
            (*of == id).then(|| kind.clone())
        })
        .await
    }

    pub(crate) async fn wait_for_tunnels(&self, count: usize) {
        let wait = async {
            while self.tunnels.agents(&cluster()).len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("tunnels stand");
    }

    /// A request of a session through the tunnel.
    pub(crate) async fn ask(
        &self,
        session: &SessionId,
        generation: u64,
        target: &str,
    ) -> Response<TunnelBody> {
        let mark = self.tunnels.mark();
        let info = RequestInfo::parse("GET", target).unwrap();
        let identity = identity(session);
        let decided =
            decide_kube(&fleet(), &Caller::new(&identity), &cluster(), &info, Timestamp::now());
        let permit = decided.into_result().unwrap();
        let audit_id = format!("audit-{:x}", random_bits()).parse().unwrap();
        let forward = Forward {
            permit: &permit,
            mark,
            audit_id: &audit_id,
            assert: &Asserts { signer: &self.signer, generation },
            on_end: None,
            on_cut: None,
        };
        let request = Request::get(target).body(Empty::<bytes::Bytes>::new()).unwrap();
        self.tunnels.forward(forward, request).await
    }

    pub(crate) async fn get(
        &self,
        session: &SessionId,
        generation: u64,
        target: &str,
    ) -> (StatusCode, String) {
        let response = self.ask(session, generation, target).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

struct Asserts<'a> {
    signer: &'a Signer,
    generation: u64,
}

impl Assert for Asserts<'_> {
    fn assertion(
        &self,
        permit: &KubePermit,
        connection: &[u8; 32],
        upgrade: Option<Upgrade>,
    ) -> Result<String, AssertError> {
        let iat = Timestamp::now().as_second();
        Ok(self.signer.sign_request(&RequestAssertion {
            aud: cluster(),
            iat,
            exp: iat + 30,
            jti: format!("{:032x}", random_bits()),
            sub: permit.user().clone(),
            sid: permit.session().clone(),
            perm: permit.permission().cloned(),
            plan: self.generation,
            method: permit.method().as_str().to_owned(),
            path: path_hash(permit.path_and_query()),
            upgrade: upgrade.map(|upgrade| upgrade.as_str().to_owned()),
            conn: connection_id(connection),
        }))
    }
}

fn identity(session: &SessionId) -> Identity {
    let now = Timestamp::now();
    Identity {
        user: "ada".parse().unwrap(),
        groups: BTreeSet::new(),
        session: session.clone(),
        proof: Proof { factors: [Factor::Password, Factor::Totp].into(), factor_at: now },
        signed_in_at: now,
        expires_at: Ttl::from_secs(3_600).after(now),
    }
}

/// Everything is granted: what the agent and the cluster refuse is what the tests ask.
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
    let rules = json!([{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }]);
    let objects = [
        object("User", "ada", json!({})),
        object("Cluster", "plane", json!({})),
        object("Role", "all", json!({ "rules": rules })),
        object(
            "Grant",
            "all",
            json!({
                "subjects": [{ "kind": "User", "name": "ada" }],
                "role": "all",
                "clusters": { "names": ["plane"] },
            }),
        ),
    ];
    Snapshot::compile(&objects, 1)
}

struct Service(Arc<TestHub>);

#[tonic::async_trait]
impl Enrolment for Service {
    async fn join(
        &self,
        request: tonic::Request<JoinRequest>,
    ) -> Result<tonic::Response<JoinResponse>, Status> {
        let request = request.into_inner();
        let mut joined = self.0.joined.lock().unwrap();
        if request.token != JOIN_TOKEN || joined.is_some() {
            return Err(Status::permission_denied("the join token is wrong, used or too old"));
        }
        *joined = Some(IssuerKeys::from_jwks(&request.issuer, request.jwks.as_bytes()).unwrap());
        Ok(tonic::Response::new(JoinResponse {
            offline_key: self.0.offline.public().to_string(),
            hub_id: self.0.id.clone(),
        }))
    }

    async fn enrol(
        &self,
        request: tonic::Request<EnrolRequest>,
    ) -> Result<tonic::Response<EnrolResponse>, Status> {
        let request = request.into_inner();
        let now = Timestamp::now();
        let joined = self.0.joined.lock().unwrap();
        let issuer = joined.as_ref().ok_or_else(|| Status::permission_denied("not joined"))?;
        let proven = issuer
            .verify(&request.service_account_token, HUB_AUDIENCE, now)
            .map_err(|error| Status::permission_denied(error.to_string()))?;
        let instance = request.instance.parse().unwrap();
        let (account, id) = match request.role() {
            AgentRole::Proxy => {
                ("nullius-agent-proxy", InfraId::AgentProxy { cluster: cluster(), instance })
            }
            _ => ("nullius-provisioner", InfraId::AgentControl { cluster: cluster(), instance }),
        };
        assert_eq!(proven.name.as_str(), account, "each role proves its own account");
        let csr = Csr::from_pem(&request.certificate_request).unwrap();
        let life = Ttl::from_secs(self.0.certificate_seconds.load(Ordering::SeqCst));
        let issued = self.0.root.issue_agent(&csr, &id, life, now).unwrap();
        Ok(tonic::Response::new(EnrolResponse {
            certificate: issued.to_pem(),
            not_after: issued.not_after.as_second(),
            key_set: self.0.key_set(5),
        }))
    }
}

#[tonic::async_trait]
impl Control for Service {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<HubMessage, Status>> + Send>>;

    async fn attach(
        &self,
        request: tonic::Request<Streaming<AgentMessage>>,
    ) -> Result<tonic::Response<Self::AttachStream>, Status> {
        let mut from_agent = request.into_inner();
        let (to_agent, stream) = mpsc::channel(64);
        let hub = Arc::clone(&self.0);
        let welcome = wire::Welcome {
            version: VERSION,
            lease_seconds: hub.lease_seconds.load(Ordering::SeqCst),
            heartbeat_seconds: 1,
        };
        // A slow hub: the agent has no lease before this.
        let slow = Duration::from_millis(hub.welcome_millis.load(Ordering::SeqCst));
        tokio::time::sleep(slow).await;
        hub.arrivals.lock().unwrap().push("welcome");
        to_agent.send(HubMessage { kind: Some(ToAgent::Welcome(welcome)) }).await.unwrap();
        {
            // The one that leads acts, for as long as it is there.
            let mut acting = hub.to_agent.lock().unwrap();
            let led = hub.term.load(Ordering::SeqCst) > 0;
            if !led || acting.as_ref().is_none_or(mpsc::Sender::is_closed) {
                *acting = Some(to_agent.clone());
            }
        }
        tokio::spawn(async move {
            while let Ok(Some(message)) = from_agent.message().await {
                match message.kind.unwrap() {
                    FromAgent::Heartbeat(_) => {
                        if hub.hears.load(Ordering::SeqCst) {
                            let kind = Some(ToAgent::HeartbeatAck(wire::HeartbeatAck {}));
                            let _ = to_agent.send(HubMessage { kind }).await;
                        }
                    }
                    FromAgent::State(state) => {
                        if hub.term.fetch_max(state.term, Ordering::SeqCst) < state.term {
                            *hub.to_agent.lock().unwrap() = Some(to_agent.clone());
                        }
                        hub.note(FromAgent::State(state));
                    }
                    kind => hub.note(kind),
                }
            }
        });
        let stream = tokio_stream::StreamExt::map(ReceiverStream::new(stream), Ok);
        Ok(tonic::Response::new(Box::pin(stream)))
    }
}

/// Objects of an answer.
pub(crate) fn objects(answer: &FromAgent) -> BTreeMap<String, String> {
    let objects = match answer {
        FromAgent::SessionReady(ready) => &ready.objects,
        FromAgent::SessionFlushed(flushed) => &flushed.objects,
        other => panic!("{other:?}"),
    };
    objects.iter().map(|(object, uid)| (object.clone(), uid.clone())).collect()
}
