//! Which node or machine calls. The token that a node shows is the API server's to judge, its pod and its node are looked up here; that of a
//! machine outside of the cluster is by its own key.
//!
//! What a token says of itself is judged first, though nothing of it is proven: whoever names no part of a node that is known is
//! nobody, and costs the API server nothing. What the API server said counts for a minute at most; pod and node are looked at
//! again on each call.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use nullius_kube::identity::{Reviewed, Reviewer};
use nullius_model::{ClusterName, Timestamp};
use nullius_pki::{MachineToken, ServiceAccountClaim, sha256};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout, timeout_at},
};
use tonic::{Status, metadata::MetadataMap};

use super::registry::{NotANode, ProvenNode, Registry};
use crate::places::Place;

mod machines;

use machines::ByWhat;
pub(crate) use machines::Door;

/// How long what the API server said of a token counts.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Tokens of one pod that are remembered: the kubelet replaces them while calls are under way.
const TOKENS_OF_ONE: usize = 4;
/// Pods of which something is remembered before what is over is thrown away.
const PODS: usize = 1_024;
/// Questions to the API server at the same time, for those who are known and for those who are not yet.
const QUESTIONS: usize = 16;
/// A question is answered within so long, and so long it waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Watches tell of a pod so long after it was scheduled, at the latest.
const NEWS: Duration = Duration::from_secs(2);
/// Strangers that wait for news of their pod.
const WAITING: usize = 64;

type Name = Box<str>;
type Digest = [u8; 32];
type Turn = Arc<tokio::sync::Mutex<()>>;

/// Finds out who calls.
pub(crate) struct Callers {
    audience: String,
    reviewer: Reviewer,
    registry: Arc<RwLock<Registry>>,
    /// By the UID of the pod: nobody's tokens take the room of another's.
    remembered: Mutex<HashMap<Name, VecDeque<Remembered>>>,
    /// One question about a pod at a time, for its connections that are known and for those that are not yet.
    turns: Mutex<HashMap<(Name, Standing), Turn>>,
    known: Semaphore,
    strangers: Semaphore,
    waiting: Semaphore,
    news: watch::Sender<()>,
    /// How machines come in; without it none does.
    door: Option<Door>,
}

/// Whether a connection has proven a node before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Standing {
    Known,
    Stranger,
}

struct Remembered {
    digest: Digest,
    token: Arc<Reviewed>,
    until: Instant,
}

/// A call of a node or machine.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) node: ProvenNode,
    /// When its token ends.
    pub(crate) ends: Timestamp,
    proof: Proof,
}

/// What a caller has proven itself by.
#[derive(Debug, Clone)]
enum Proof {
    /// The token of a node's pod.
    Pod(Arc<Reviewed>),
    /// A machine's own.
    Machine(ByWhat),
}

impl Caller {
    /// Whether it is a machine outside of the cluster.
    pub(crate) fn is_machine(&self) -> bool {
        matches!(self.proof, Proof::Machine(_))
    }
}

impl Callers {
    pub(crate) fn new(
        cluster: &ClusterName,
        reviewer: Reviewer,
        registry: Arc<RwLock<Registry>>,
    ) -> Self {
        Self {
            audience: audience(cluster),
            reviewer,
            registry,
            remembered: Mutex::default(),
            turns: Mutex::default(),
            known: Semaphore::new(QUESTIONS),
            strangers: Semaphore::new(QUESTIONS),
            waiting: Semaphore::new(WAITING),
            news: watch::Sender::new(()),
            door: None,
        }
    }

    /// The same, where machines come in too.
    pub(crate) fn with_machines(self, door: Door) -> Self {
        Self { door: Some(door), ..self }
    }

    /// Pods or nodes are others than before.
    pub(crate) fn hear(&self) {
        self.news.send_replace(());
    }

    /// Who calls, or why that is nobody.
    pub(crate) async fn prove(
        &self,
        metadata: &MetadataMap,
        place: &Place,
    ) -> Result<Caller, Status> {
        let token =
            bearer(metadata).ok_or_else(|| nobody("show a token: `authorization: Bearer`"))?;
        if MachineToken::is_one(token.expose_secret()) {
            return self.prove_machine(&token).await;
        }
        let claim = ServiceAccountClaim::read(token.expose_secret());
        let claim = claim.filter(|claim| Timestamp::now() < claim.ends);
        let claim =
            claim.ok_or_else(|| nobody("the token is none of a ServiceAccount, or has ended"))?;
        let ends = claim.ends;
        let claim = claimed(claim);
        self.may_be_true(&claim).await?;
        let standing = if place.is_known() { Standing::Known } else { Standing::Stranger };
        let pod = claim.pod_uid.unwrap_or_default().into_boxed_str();
        let token = self.review(&token, pod, standing).await?;
        let node = self.judge(&token).map_err(|why| nobody(&why.to_string()))?;
        Ok(Caller { node, ends, proof: Proof::Pod(token) })
    }

    /// Whether a caller of before still is the node that it was.
    pub(crate) fn still(&self, caller: &Caller) -> Result<(), Status> {
        let token = match &caller.proof {
            Proof::Pod(token) => token,
            Proof::Machine(by) => return self.still_machine(&caller.node, by),
        };
        match self.judge(token) {
            Ok(node) if node == caller.node => Ok(()),
            Ok(_) => Err(nobody(&NotANode::OtherNode.to_string())),
            Err(why) => Err(nobody(&why.to_string())),
        }
    }

    fn judge(&self, token: &Reviewed) -> Result<ProvenNode, NotANode> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        registry.judge(token, &self.audience)
    }

    /// Whether somebody would be a node if what they say is true. The pod may be newer than what the watches have told.
    async fn may_be_true(&self, claim: &Reviewed) -> Result<(), Status> {
        if !self.registry.read().unwrap_or_else(PoisonError::into_inner).is_complete() {
            return Err(Status::unavailable("the agent is starting; ask again"));
        }
        let mut news = self.news.subscribe();
        match self.judge(claim) {
            Ok(_) => return Ok(()),
            Err(why) if !why.may_be_news() => return Err(nobody(&why.to_string())),
            Err(_) => {}
        }
        let busy = |_| Status::unavailable("too many wait for news of their pod; ask again");
        let _waits = self.waiting.try_acquire().map_err(busy)?;
        let until = Instant::now() + NEWS;
        loop {
            let is_over = !matches!(timeout_at(until, news.changed()).await, Ok(Ok(())));
            match self.judge(claim) {
                Ok(_) => return Ok(()),
                Err(why) if is_over => return Err(nobody(&why.to_string())),
                Err(_) => {}
            }
        }
    }

    /// What the API server says of a token that names a pod.
    async fn review(
        &self,
        token: &SecretString,
        pod: Name,
        standing: Standing,
    ) -> Result<Arc<Reviewed>, Status> {
        let digest = sha256(token.expose_secret().as_bytes());
        if let Some(known) = self.recall(&pod, &digest) {
            return Ok(known);
        }
        let busy = || Status::unavailable("too many nodes prove themselves at the same time");
        let turn = self.turn(&pod, standing);
        let _turn = timeout(PATIENCE, turn.lock()).await.map_err(|_| busy())?;
        // Whoever had the turn before may have asked about the same.
        if let Some(known) = self.recall(&pod, &digest) {
            return Ok(known);
        }
        let questions = match standing {
            Standing::Known => &self.known,
            Standing::Stranger => &self.strangers,
        };
        let question = timeout(PATIENCE, questions.acquire()).await;
        let _question = question.map_err(|_| busy())?.map_err(|_| busy())?;
        let said = timeout(PATIENCE, self.reviewer.review(token, &self.audience)).await;
        let said = said.map_err(|_| Status::unavailable("the API server does not answer"))?;
        let Some(token) = said.map_err(unavailable)? else {
            return Err(nobody("the API server does not know the token, or not for this audience"));
        };
        let token = Arc::new(token);
        if self.judge(&token).is_ok() {
            self.remember(pod, digest, &token);
        }
        Ok(token)
    }

    fn recall(&self, pod: &str, digest: &Digest) -> Option<Arc<Reviewed>> {
        let now = Instant::now();
        let remembered = lock(&self.remembered);
        let known = remembered.get(pod)?.iter().find(|known| known.digest == *digest)?;
        (now < known.until).then(|| Arc::clone(&known.token))
    }

    fn remember(&self, pod: Name, digest: Digest, token: &Arc<Reviewed>) {
        let now = Instant::now();
        let mut remembered = lock(&self.remembered);
        if remembered.len() >= PODS {
            remembered.retain(|_, tokens| tokens.iter().any(|known| now < known.until));
        }
        let tokens = remembered.entry(pod).or_default();
        tokens.retain(|known| now < known.until && known.digest != digest);
        if tokens.len() >= TOKENS_OF_ONE {
            tokens.pop_front();
        }
        let (token, until) = (Arc::clone(token), now + REMEMBERED);
        tokens.push_back(Remembered { digest, token, until });
    }

    fn turn(&self, pod: &str, standing: Standing) -> Turn {
        let mut turns = lock(&self.turns);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry((pod.into(), standing)).or_default())
    }
}

/// For whom the tokens of nodes are.
pub(crate) fn audience(cluster: &ClusterName) -> String {
    format!("nullius-agent:{cluster}")
}

fn claimed(claim: ServiceAccountClaim) -> Reviewed {
    let ServiceAccountClaim { audiences, subject, pod, node, .. } = claim;
    let (pod_name, pod_uid) = pod.map(|pod| (pod.name, pod.uid)).unzip();
    let (node_name, node_uid) = node.unzip();
    let node_uid = node_uid.flatten();
    Reviewed { username: subject, audiences, pod_name, pod_uid, node_name, node_uid }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bearer(metadata: &MetadataMap) -> Option<SecretString> {
    let mut all = metadata.get_all("authorization").iter();
    let (Some(one), None) = (all.next(), all.next()) else { return None };
    let token = one.to_str().ok()?.strip_prefix("Bearer ")?;
    (!token.is_empty()).then(|| SecretString::from(token.to_owned()))
}

fn nobody(why: &str) -> Status {
    Status::unauthenticated(why)
}

fn unavailable(error: nullius_kube::KubeError) -> Status {
    tracing::warn!(%error, "cannot ask the API server about a node");
    Status::unavailable("the API server cannot be asked about the node")
}
