//! What nodes ask: what is registered for them, and SVIDs for that.
//!
//! An entry is issued for on the node alone on which it is registered; of a request the proven public key is used and nothing else.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicBool},
    time::Duration,
};

use futures::Stream;
use nullius_kube::identity::ObjectNews;
use nullius_model::{Timestamp, Ttl};
use nullius_pki::{Csr, workload::SvidRequest};
use nullius_proto::{
    VERSION,
    node_v1::{
        IssueJwtRequest, IssueJwtResponse, IssueX509Request, IssueX509Response, Registrations,
        WatchRequest, identity_server::Identity,
    },
};
use nullius_workload::{
    Registered as OnNode, Words,
    wire::{Told, write_registrations},
};
use secrecy::ExposeSecret as _;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    callers::{Caller, Callers},
    issued::Issued,
    meters::{Kind, Refusal, SvidMeters},
    pace::Pace,
    registry::{ProvenNode, Registered, Registry, Touched},
    standing::{Followed, Standing},
};
use crate::places::Place;

/// What comes within so long is told together.
const GATHER: Duration = Duration::from_millis(50);
/// Streams of one node: the part that runs and the one that replaces it, and what they left half open.
const STREAMS: usize = 8;
const AUDIENCES: usize = 16;
const AUDIENCE_BYTES: usize = 512;
/// Lines a minute of the log about those who are refused.
const WORDS: u32 = 30;

type Name = Box<str>;

/// What all connections share.
pub(crate) struct Issuing {
    pub(crate) registry: Arc<RwLock<Registry>>,
    pub(crate) callers: Callers,
    pub(crate) standing: Followed,
    pub(crate) news: NodeNews,
    pub(crate) meters: SvidMeters,
    /// Whether pods are known as they are.
    pub(crate) hears: Box<dyn Fn() -> bool + Send + Sync>,
    /// What was issued, until the hub knows of it.
    pub(crate) issued: Arc<Issued>,
    /// Whether what is declared of identities may stand otherwise than was said last.
    pub(super) restless: AtomicBool,
    pace: Pace,
    refusals: Words,
}

impl Issuing {
    pub(crate) fn new(
        registry: Arc<RwLock<Registry>>,
        callers: Callers,
        standing: Followed,
        meters: SvidMeters,
        hears: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            registry,
            callers,
            standing,
            news: NodeNews::default(),
            meters,
            hears: Box::new(hears),
            issued: Arc::default(),
            restless: AtomicBool::new(true),
            pace: Pace::default(),
            refusals: Words::new(WORDS),
        }
    }

    /// Whether it can serve.
    pub(crate) fn is_ready(&self) -> Result<(), &'static str> {
        let standing = self.standing.borrow();
        let standing = standing
            .as_ref()
            .ok_or("the hub has not certified the authority of this cluster's workloads yet, or its Secret is gone")?;
        if !standing.is_valid(Timestamp::now()) {
            return Err(
                "the authority of this cluster's workloads has ended; see why the hub certifies no other",
            );
        }
        if !self.registry.read().unwrap_or_else(PoisonError::into_inner).is_complete() {
            return Err(
                "pods, namespaces, nodes and WorkloadIdentity objects are still being read",
            );
        }
        if (self.hears)() { Ok(()) } else { Err("the API server has not been heard for a while") }
    }

    /// Whether what is known may be long gone: the API server has not been heard for a while.
    pub(crate) fn is_deaf(&self) -> bool {
        !(self.hears)()
    }

    fn ready(&self) -> Result<Arc<Standing>, Status> {
        self.is_ready().map_err(|why| {
            self.meters.refused.add_one(Refusal::Unready);
            Status::unavailable(why)
        })?;
        let standing = self.standing.borrow().clone();
        standing.ok_or_else(|| Status::unavailable("nothing can be issued now"))
    }

    /// How machines stand.
    pub(super) fn machines(&self) -> Vec<(ObjectNews, Result<(), String>)> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner).machines()
    }

    /// How what is declared of identities stands.
    pub(super) fn declared(&self) -> Vec<(ObjectNews, Result<usize, String>)> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner).declared()
    }

    /// What a node is told now.
    fn told(&self, node: &str, standing: &Standing) -> Registrations {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        let (mut entries, mut pods) = (BTreeMap::new(), BTreeMap::new());
        for (id, Registered { entry, pod, .. }) in registry.told(node) {
            entries.insert(id.clone(), Arc::clone(entry));
            pods.extend(pod.clone().map(|pod| (id.clone(), pod)));
        }
        drop(registry);
        let trust_domain = standing.authority.trust_domain().clone();
        let mut bundles = standing.beside.bundles.clone();
        bundles.insert(trust_domain.clone(), Arc::clone(&standing.bundle));
        let reissue_before = standing.reissue_before;
        let registered = OnNode { trust_domain, entries, bundles, reissue_before };
        write_registrations(&Told { registered, pods })
    }
}

/// Who waits for news of which node.
#[derive(Default)]
pub(crate) struct NodeNews(Mutex<HashMap<Name, watch::Sender<()>>>);

impl NodeNews {
    /// Tells those who wait.
    pub(crate) fn tell(&self, touched: Touched) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for node in touched {
            if let Some(node) = all.get(&node) {
                node.send_replace(());
            }
        }
    }

    /// Waits for news of a node from now on; nothing where too many do.
    fn follow(&self, node: &str) -> Option<watch::Receiver<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, node| node.receiver_count() > 0);
        let node = all.entry(node.into()).or_insert_with(|| watch::Sender::new(()));
        (node.receiver_count() < STREAMS).then(|| node.subscribe())
    }
}

/// The service for one connection.
#[derive(Clone)]
pub(crate) struct IdentityService {
    pub(crate) issuing: Arc<Issuing>,
    pub(crate) place: Arc<Place>,
}

impl IdentityService {
    /// Who calls; a connection on which somebody else tries is not heard any more.
    pub(crate) async fn prove(
        &self,
        metadata: &MetadataMap,
        version: u32,
    ) -> Result<Caller, Status> {
        if version != VERSION {
            return Err(Status::failed_precondition(format!(
                "the node speaks version {version} and the agent {VERSION}; update the older of them"
            )));
        }
        let issuing = &self.issuing;
        let proven = issuing.callers.prove(metadata, &self.place).await;
        self.note(proven.as_ref().map(|caller| &caller.node));
        proven
    }

    /// Gives somebody proven their place, and lets nobody try again on this connection who is not.
    pub(super) fn note(&self, proven: Result<&ProvenNode, &Status>) {
        let issuing = &self.issuing;
        match proven {
            Ok(node) => self.place.make_known_as(&node.name),
            Err(status) => {
                if let Some(left_out) = issuing.refusals.take() {
                    let why = status.message();
                    tracing::warn!(
                        why,
                        left_out,
                        "refuse a call of somebody who is no node and no machine"
                    );
                }
                issuing.meters.refused.add_one(Refusal::Caller);
                if status.code() == tonic::Code::Unauthenticated {
                    self.place.leave.cancel();
                }
            }
        }
    }

    /// The same, for what only nodes do: a machine has no pods, and no part in leading their calls.
    pub(crate) async fn prove_node(
        &self,
        metadata: &MetadataMap,
        version: u32,
    ) -> Result<Caller, Status> {
        let caller = self.prove(metadata, version).await?;
        if caller.is_machine() {
            self.issuing.meters.refused.add_one(Refusal::Request);
            return Err(Status::permission_denied("a machine has no part in the mesh of pods"));
        }
        Ok(caller)
    }

    /// What is to be signed for: the authority, and the entry that is registered on the caller's node.
    fn entry(
        &self,
        caller: &Caller,
        id: &str,
        kind: Kind,
    ) -> Result<(Arc<Standing>, Registered), Status> {
        let (issuing, node) = (&self.issuing, &caller.node.name);
        let registry = issuing.registry.read().unwrap_or_else(PoisonError::into_inner);
        let registered = registry.find(node, id).cloned();
        drop(registry);
        let now = Instant::now();
        let may = match &registered {
            Some(_) => issuing.pace.take(node, id, kind, now),
            None => issuing.pace.take_of_node(node, kind, now),
        };
        if !may {
            issuing.meters.refused.add_one(Refusal::Pace);
            return Err(Status::resource_exhausted("it is asked for too often; ask again later"));
        }
        let standing = issuing.ready()?;
        let Some(registered) = registered else {
            if let Some(left_out) = issuing.refusals.take() {
                let entry: String = id.chars().take(80).flat_map(char::escape_debug).collect();
                tracing::warn!(%node, %entry, left_out, "refuse an SVID for what is not registered on the node");
            }
            issuing.meters.refused.add_one(Refusal::Entry);
            return Err(Status::permission_denied("the entry is not registered on this node"));
        };
        Ok((standing, registered))
    }

    fn refuse(&self, node: &str, why: &str) -> Status {
        if let Some(left_out) = self.issuing.refusals.take() {
            tracing::warn!(%node, %why, left_out, "refuse a request for an SVID");
        }
        self.issuing.meters.refused.add_one(Refusal::Request);
        Status::invalid_argument(why.to_owned())
    }
}

type Stated = Pin<Box<dyn Stream<Item = Result<Registrations, Status>> + Send>>;

#[tonic::async_trait]
impl Identity for IdentityService {
    type WatchStream = Stated;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Stated>, Status> {
        let caller = self.prove(request.metadata(), request.get_ref().version).await?;
        let news = self.issuing.news.follow(&caller.node.name);
        let news = news.ok_or_else(|| {
            self.issuing.meters.refused.add_one(Refusal::Pace);
            Status::resource_exhausted("too many streams of this node stand")
        })?;
        let (to_node, stated) = mpsc::channel(1);
        let leave = self.place.leave.clone();
        let watching =
            Watching { issuing: Arc::clone(&self.issuing), caller, news, to_node, leave };
        tokio::spawn(watching.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(stated))))
    }

    async fn issue_x509(
        &self,
        request: Request<IssueX509Request>,
    ) -> Result<Response<IssueX509Response>, Status> {
        let caller = self.prove(request.metadata(), request.get_ref().version).await?;
        let IssueX509Request { entry: entry_id, certificate_request, .. } = request.into_inner();
        let (standing, registered) = self.entry(&caller, &entry_id, Kind::X509)?;
        let entry = &registered.entry;
        let csr = Csr::from_der(certificate_request);
        let asked = SvidRequest {
            id: &entry.spiffe_id,
            dns_names: &entry.dns_names,
            csr: &csr,
            life: entry.ttl,
        };
        let svid = standing.authority.issue(&asked, Timestamp::now());
        let svid =
            svid.map_err(|error| self.refuse(&caller.node.name, &crate::error::chain(&error)))?;
        self.issuing.meters.issued.add_one(Kind::X509);
        self.issuing.issued.note(&entry_id, &registered, &caller.node.name, &svid);
        let chain = svid.chain.iter().map(|certificate| certificate.to_vec()).collect();
        Ok(Response::new(IssueX509Response { chain }))
    }

    async fn issue_jwt(
        &self,
        request: Request<IssueJwtRequest>,
    ) -> Result<Response<IssueJwtResponse>, Status> {
        let caller = self.prove(request.metadata(), request.get_ref().version).await?;
        let IssueJwtRequest { entry, audience, .. } = request.into_inner();
        let (standing, registered) = self.entry(&caller, &entry, Kind::Jwt)?;
        let entry = &registered.entry;
        let is_legal = |name: &String| !name.is_empty() && name.len() <= AUDIENCE_BYTES;
        let audience_is_legal = (1..=AUDIENCES).contains(&audience.len())
            && audience.iter().all(is_legal)
            && (entry.audiences.is_empty()
                || audience.iter().all(|name| entry.audiences.contains(name)));
        if !audience_is_legal {
            return Err(self.refuse(
                &caller.node.name,
                "a token is for 1 to 16 audiences of at most 512 bytes, and those of its entry alone",
            ));
        }
        let now = Timestamp::now();
        // No token outlives the authority that stands behind it.
        let left = standing.authority.not_after().as_second() - now.as_second();
        let life = entry.jwt_ttl.min(Ttl::from_secs(u32::try_from(left).unwrap_or_default()));
        let audience: Vec<&str> = audience.iter().map(String::as_str).collect();
        let issuer = standing.beside.issuer.as_deref();
        let token = standing.jwt.sign_as(issuer, &entry.spiffe_id, &audience, life, now);
        let token =
            token.map_err(|error| self.refuse(&caller.node.name, &crate::error::chain(&error)))?;
        self.issuing.meters.issued.add_one(Kind::Jwt);
        Ok(Response::new(IssueJwtResponse {
            token: token.expose_secret().to_owned(),
            expires_at: life.after(now).as_second(),
        }))
    }
}

/// One stream: a node is told what is registered for it, all of it, whenever it changed.
struct Watching {
    issuing: Arc<Issuing>,
    caller: Caller,
    news: watch::Receiver<()>,
    to_node: mpsc::Sender<Result<Registrations, Status>>,
    /// The connection has to go.
    leave: CancellationToken,
}

impl Watching {
    async fn run(mut self) {
        self.issuing.meters.streams.add((), 1);
        let (leave, ends) = (self.leave.clone(), self.caller.ends);
        let (issuing, to_node) = (Arc::clone(&self.issuing), self.to_node.clone());
        let ended = lasting(&leave, ends, &to_node, self.tell()).await;
        // The last word waits for nobody.
        let _ = to_node.try_send(Err(ended));
        issuing.meters.streams.add((), -1);
    }

    async fn tell(&mut self) -> Status {
        let mut standing = self.issuing.standing.clone();
        let mut last: Option<Registrations> = None;
        loop {
            self.news.borrow_and_update();
            let current = standing.borrow_and_update().clone();
            if let Err(status) = self.issuing.callers.still(&self.caller)
                && last.is_some()
            {
                return status;
            }
            let is_complete = || {
                self.issuing.registry.read().unwrap_or_else(PoisonError::into_inner).is_complete()
            };
            // Until everything was read it would seem as if pods had gone.
            if let Some(current) = current.filter(|_| is_complete()) {
                let told = self.issuing.told(&self.caller.node.name, &current);
                if last.as_ref() != Some(&told) {
                    if self.to_node.send(Ok(told.clone())).await.is_err() {
                        return Status::cancelled("the node has gone");
                    }
                    last = Some(told);
                }
            } else if last.is_none() {
                return Status::unavailable("the agent is starting; ask again");
            }
            tokio::select! {
                changed = self.news.changed() => if changed.is_err() { return nobody_any_more() },
                changed = standing.changed() => if changed.is_err() { return nobody_any_more() },
            }
            tokio::time::sleep(GATHER).await;
        }
    }
}

/// Tells a node for as long as it is there, its token lasts, and its connection has its place.
pub(super) async fn lasting<T>(
    leave: &CancellationToken,
    ends: Timestamp,
    to_node: &mpsc::Sender<T>,
    tell: impl Future<Output = Status>,
) -> Status {
    let ends = Instant::now() + ends.duration_since(Timestamp::now()).unsigned_abs();
    tokio::select! {
        status = tell => status,
        () = leave.cancelled() => Status::unavailable("this replica stops, makes room, or hears no API server; come again"),
        () = tokio::time::sleep_until(ends) => nobody_any_more(),
        () = to_node.closed() => Status::cancelled("the node has gone"),
    }
}

fn nobody_any_more() -> Status {
    Status::unauthenticated("the token has ended; come again with a new one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_few_streams_and_hears_of_itself_alone() {
        let news = NodeNews::default();
        let mut all: Vec<_> = (0..STREAMS).filter_map(|_| news.follow("a")).collect();
        assert!(news.follow("a").is_none());
        let mut other = news.follow("b").into_iter().collect::<Vec<_>>();
        news.tell(Touched::from(["a".into(), "c".into()]));
        let hears = |one: &watch::Receiver<()>| matches!(one.has_changed(), Ok(true));
        assert!(all.iter().all(hears));
        assert!(!other.iter().any(hears));
        all.clear();
        other.clear();
        assert!(news.follow("a").is_some());
    }
}
