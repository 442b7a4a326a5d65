//! `agent identity` as far as a node sees it: the real seam over real TLS, with a real authority behind it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use nullius_model::{Timestamp, TrustDomain, Ttl};
use nullius_pki::{
    Csr, MachinePublicKey, MachineToken, PrivateKey,
    workload::{
        ClusterAuthority, JwtSigner, PreparedAuthority, SvidRequest, TrustBundle, WorkloadRoot,
    },
};
use nullius_proto::node_v1::{
    Bundle, Entry, IssueJwtRequest, IssueJwtResponse, IssueX509Request, IssueX509Response,
    JoinMachineRequest, JoinMachineResponse, MeshNews, MeshReport, MeshReported, Registrations,
    WatchMeshRequest, WatchRequest,
    identity_server::{Identity, IdentityServer},
    machines_server::{Machines, MachinesServer},
    mesh_server::{Mesh, MeshServer},
};
use nullius_tls::WorkloadTls;
use secrecy::ExposeSecret as _;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};
use tonic::{Request, Response, Status, service::Routes};

pub(crate) const DOMAIN: &str = "shop.example.org";
pub(crate) const AGENT: &str = "/ns/nullius-system/sa/nullius-identity";

/// A cluster's authority, which outlives its agents.
pub(crate) struct Authority {
    x509: ClusterAuthority,
    jwt: JwtSigner,
}

/// What an agent tells and signs.
#[derive(Clone)]
struct Desk {
    authority: Arc<Authority>,
    told: watch::Receiver<Option<Registrations>>,
    news: watch::Receiver<Vec<MeshNews>>,
    reports: watch::Sender<Option<MeshReport>>,
    judge: Judge,
    deaf: Arc<AtomicBool>,
    machine: Arc<Mutex<Option<MachinePublicKey>>>,
}

/// The token with which one machine may join.
pub(crate) const JOIN_TOKEN: &str = "join-1";

/// Says whether a caller's token is believed.
pub(crate) type Judge = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// An agent that runs.
pub(crate) struct Agent {
    pub(crate) address: SocketAddr,
    pub(crate) told: watch::Sender<Option<Registrations>>,
    /// All that is told of the mesh, in order; each stream begins with the first.
    pub(crate) news: watch::Sender<Vec<MeshNews>>,
    /// What a node said last of what is in force.
    pub(crate) reports: watch::Receiver<Option<MeshReport>>,
    /// It hears nothing itself, and signs nothing.
    pub(crate) deaf: Arc<AtomicBool>,
    serving: JoinHandle<()>,
}

impl Authority {
    pub(crate) fn create() -> Arc<Self> {
        let (domain, now): (TrustDomain, _) = (DOMAIN.parse().unwrap(), Timestamp::now());
        let root = WorkloadRoot::create(now).unwrap();
        let prepared = PreparedAuthority::create(domain.clone()).unwrap();
        let week = Ttl::from_secs(7 * 86_400);
        let signed = root.certify(&prepared.request().unwrap(), &domain, week, now).unwrap();
        let x509 = prepared.admit(signed, root.certificate_der(), now).unwrap();
        Arc::new(Self { x509, jwt: JwtSigner::create(domain).unwrap() })
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        let mut bundle = TrustBundle::new(DOMAIN.parse().unwrap());
        bundle.add_x509(self.x509.anchor_der().clone()).unwrap();
        bundle.add_jwt(self.jwt.authority());
        bundle.at(1, 300)
    }

    fn sign(&self, id: &str, csr: &Csr, life: u32) -> nullius_pki::workload::X509Svid {
        let asked = SvidRequest {
            id: &id.parse().unwrap(),
            dns_names: &[],
            csr,
            life: Ttl::from_secs(life),
        };
        self.x509.issue(&asked, Timestamp::now()).unwrap()
    }

    /// What is told of these entries.
    pub(crate) fn registrations(&self, entries: &[(&str, &str, &str)]) -> Registrations {
        let entry = |(id, path, selector): &(&str, &str, &str)| Entry {
            id: (*id).to_owned(),
            spiffe_id: format!("spiffe://{DOMAIN}{path}"),
            selectors: vec![(*selector).to_owned()],
            x509_ttl_seconds: 3_600,
            jwt_ttl_seconds: 300,
            ..Entry::default()
        };
        let jwks = self.bundle().to_json().to_string().into_bytes();
        Registrations {
            trust_domain: DOMAIN.to_owned(),
            entries: entries.iter().map(entry).collect(),
            bundles: vec![Bundle { trust_domain: DOMAIN.to_owned(), jwks }],
            reissue_before: 0,
        }
    }
}

impl Agent {
    /// Begins to serve at an address, as this workload.
    pub(crate) async fn start(
        address: IpAddr,
        judge: Judge,
        authority: &Arc<Authority>,
        path: &str,
        first: Option<Registrations>,
    ) -> Self {
        let key = PrivateKey::generate().unwrap();
        let id = format!("spiffe://{DOMAIN}{path}");
        let svid = authority.sign(&id, &key.request().unwrap(), 3_600);
        let tls = WorkloadTls::new(svid.chain, key.to_der(), []).unwrap();
        let acceptor = tls.open_acceptor(&[b"h2"]).unwrap();
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, watched) = watch::channel(first);
        let (news, heard) = watch::channel(Vec::new());
        let (report, reports) = watch::channel(None);
        let deaf = Arc::new(AtomicBool::new(false));
        let desk = Desk {
            authority: Arc::clone(authority),
            told: watched,
            news: heard,
            reports: report,
            judge,
            deaf: Arc::clone(&deaf),
            machine: Arc::default(),
        };
        let routes = Routes::new(IdentityServer::new(desk.clone()))
            .add_service(MachinesServer::new(desk.clone()))
            .add_service(MeshServer::new(desk))
            .prepare();
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, routes) = (acceptor.clone(), routes.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let _ = http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
                        .await;
                });
            }
        });
        Self { address, told, news, reports, deaf, serving }
    }

    /// Goes away, with all of its connections.
    pub(crate) async fn stop(self) {
        self.serving.abort();
        let _ = self.serving.await;
    }
}

impl Desk {
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        match token(request) {
            Some(token) if self.believes(&token) => Ok(()),
            _ => Err(Status::unauthenticated("the token is not believed")),
        }
    }

    fn believes(&self, token: &str) -> bool {
        if !MachineToken::is_one(token) {
            return (self.judge)(token);
        }
        let key = self.machine.lock().unwrap().clone();
        let token = MachineToken::read(token).unwrap();
        let is_by = |key| token.verify_by_key(&key, "nullius-agent:dev", Timestamp::now()).is_ok();
        token.machine().as_str() == "db-1" && key.is_some_and(is_by)
    }

    fn entry(&self, id: &str) -> Result<Entry, Status> {
        if self.deaf.load(Ordering::Relaxed) {
            return Err(Status::unavailable("the API server has not been heard for a while"));
        }
        let told = self.told.borrow().clone().unwrap();
        let found = told.entries.into_iter().find(|entry| entry.id == id);
        found.ok_or_else(|| Status::permission_denied("there is no such entry"))
    }
}

fn token<T>(request: &Request<T>) -> Option<String> {
    let shown = request.metadata().get("authorization")?.to_str().ok()?;
    shown.strip_prefix("Bearer ").map(str::to_owned)
}

type Told = Pin<Box<dyn Stream<Item = Result<Registrations, Status>> + Send>>;

#[tonic::async_trait]
impl Identity for Desk {
    type WatchStream = Told;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Told>, Status> {
        self.check(&request)?;
        let (desk, began) = (self.clone(), token(&request).unwrap());
        assert_eq!(request.into_inner().version, nullius_proto::VERSION);
        // It ends when the token does.
        let told = WatchStream::new(self.told.clone())
            .take_while(move |_| desk.believes(&began))
            .filter_map(|told| told.map(Ok));
        Ok(Response::new(Box::pin(told)))
    }

    async fn issue_x509(
        &self,
        request: Request<IssueX509Request>,
    ) -> Result<Response<IssueX509Response>, Status> {
        self.check(&request)?;
        let asked = request.into_inner();
        let entry = self.entry(&asked.entry)?;
        let csr = Csr::from_der(asked.certificate_request);
        let svid = self.authority.sign(&entry.spiffe_id, &csr, entry.x509_ttl_seconds);
        let chain = svid.chain.iter().map(|certificate| certificate.to_vec()).collect();
        Ok(Response::new(IssueX509Response { chain }))
    }

    async fn issue_jwt(
        &self,
        request: Request<IssueJwtRequest>,
    ) -> Result<Response<IssueJwtResponse>, Status> {
        self.check(&request)?;
        let asked = request.into_inner();
        let entry = self.entry(&asked.entry)?;
        let audience: BTreeSet<&str> = asked.audience.iter().map(String::as_str).collect();
        let audience: Vec<&str> = audience.into_iter().collect();
        let (id, now) = (entry.spiffe_id.parse().unwrap(), Timestamp::now());
        let life = Ttl::from_secs(entry.jwt_ttl_seconds);
        let token = self.authority.jwt.sign(&id, &audience, life, now).unwrap();
        let expires_at = life.after(now).as_second();
        Ok(Response::new(IssueJwtResponse { token: token.expose_secret().to_owned(), expires_at }))
    }
}

type ToldNews = Pin<Box<dyn Stream<Item = Result<MeshNews, Status>> + Send>>;

#[tonic::async_trait]
impl Mesh for Desk {
    type WatchStream = ToldNews;

    async fn watch(
        &self,
        request: Request<WatchMeshRequest>,
    ) -> Result<Response<ToldNews>, Status> {
        self.check(&request)?;
        let mut said = 0;
        let news = WatchStream::new(self.news.clone()).map(move |all| {
            let new: Vec<_> = all
                .into_iter()
                .enumerate()
                .skip(said)
                .map(|(at, news)| {
                    Ok(MeshNews { stream: "s1".to_owned(), sequence: at as u64 + 1, ..news })
                })
                .collect();
            said += new.len();
            tokio_stream::iter(new)
        });
        Ok(Response::new(Box::pin(futures::StreamExt::flatten(news))))
    }

    async fn report(&self, request: Request<MeshReport>) -> Result<Response<MeshReported>, Status> {
        self.check(&request)?;
        self.reports.send_replace(Some(request.into_inner()));
        Ok(Response::new(MeshReported {}))
    }
}

#[tonic::async_trait]
impl Machines for Desk {
    async fn join(
        &self,
        request: Request<JoinMachineRequest>,
    ) -> Result<Response<JoinMachineResponse>, Status> {
        let asked = request.into_inner();
        let key = MachinePublicKey::proven(&Csr::from_der(asked.certificate_request)).unwrap();
        if self.deaf.load(Ordering::Relaxed) {
            return Err(Status::unavailable("the API server has not been heard for a while"));
        }
        if (asked.machine.as_str(), asked.token.as_str()) != ("db-1", JOIN_TOKEN) {
            return Err(Status::unauthenticated("there is no such token"));
        }
        let mut machine = self.machine.lock().unwrap();
        match machine.get_or_insert_with(|| key.clone()) == &key {
            true => Ok(Response::new(JoinMachineResponse {})),
            false => Err(Status::permission_denied("the join token was used already")),
        }
    }
}
