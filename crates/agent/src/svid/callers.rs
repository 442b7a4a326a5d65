//! Which node calls: the token that it shows is the API server's to judge, its pod and its node are looked up here.
//!
//! What the API server said of a token counts for a minute at most; pod and node are looked at again on each call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use nullius_kube::{
    NODE_NAMESPACE,
    identity::{Fleet, Reviewed, Reviewer},
};
use nullius_model::{ClusterName, Timestamp};
use nullius_pki::{service_account_token_end, sha256};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{sync::Semaphore, time::Instant};
use tonic::{Status, metadata::MetadataMap};

use super::registry::{NotANode, ProvenNode, Registry, judge};

/// How long what the API server said of a token counts.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Tokens that are remembered.
const TOKENS: usize = 4_096;
/// Questions to the API server at the same time.
const QUESTIONS: usize = 16;
/// A question is answered within so long.
const PATIENCE: Duration = Duration::from_secs(5);

type Digest = [u8; 32];

/// Finds out who calls.
pub(crate) struct Callers {
    audience: String,
    reviewer: Reviewer,
    fleet: Fleet,
    registry: Arc<RwLock<Registry>>,
    known: Mutex<HashMap<Digest, Known>>,
    questions: Semaphore,
}

#[derive(Clone)]
struct Known {
    token: Arc<Reviewed>,
    until: Instant,
}

/// A call of a node.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) node: ProvenNode,
    /// When its token ends.
    pub(crate) ends: Timestamp,
    token: Arc<Reviewed>,
}

impl Callers {
    pub(crate) fn new(
        cluster: &ClusterName,
        reviewer: Reviewer,
        fleet: Fleet,
        registry: Arc<RwLock<Registry>>,
    ) -> Self {
        Self {
            audience: audience(cluster),
            reviewer,
            fleet,
            registry,
            known: Mutex::default(),
            questions: Semaphore::new(QUESTIONS),
        }
    }

    /// Who calls, or why that is nobody.
    pub(crate) async fn prove(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let token =
            bearer(metadata).ok_or_else(|| nobody("show a token: `authorization: Bearer`"))?;
        // What is over, or no token, is not worth a question.
        let ends = service_account_token_end(token.expose_secret());
        let ends = ends.filter(|ends| Timestamp::now() < *ends);
        let ends =
            ends.ok_or_else(|| nobody("the token is none of a ServiceAccount, or has ended"))?;
        let token = self.review(&token).await?;
        let node = match self.judge(&token) {
            Ok(node) => node,
            Err(why) if why.may_be_news() => self.look_again(&token).await?,
            Err(why) => return Err(nobody(&why.to_string())),
        };
        Ok(Caller { node, ends, token })
    }

    /// Whether a caller of before still is the node that it was.
    pub(crate) fn still(&self, caller: &Caller) -> Result<(), Status> {
        match self.judge(&caller.token) {
            Ok(node) if node == caller.node => Ok(()),
            Ok(_) => Err(nobody(&NotANode::OtherNode.to_string())),
            Err(why) => Err(nobody(&why.to_string())),
        }
    }

    fn judge(&self, token: &Reviewed) -> Result<ProvenNode, NotANode> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        registry.judge(token, &self.audience)
    }

    /// The pod or the node may be newer than what the watches have told.
    async fn look_again(&self, token: &Reviewed) -> Result<ProvenNode, Status> {
        let _turn = self.turn().await?;
        let name = token.pod_name.as_deref().unwrap_or_default();
        let pod = self.fleet.pod(NODE_NAMESPACE, name).await.map_err(unavailable)?;
        let node = pod.as_ref().and_then(|pod| pod.node.clone());
        let node = match node {
            Some(node) => self.fleet.node(&node).await.map_err(unavailable)?,
            None => None,
        };
        let uid = node.as_ref().map(|node| node.uid.as_ref());
        judge(token, &self.audience, pod.as_ref(), uid).map_err(|why| nobody(&why.to_string()))
    }

    /// What the API server says of a token.
    async fn review(&self, token: &SecretString) -> Result<Arc<Reviewed>, Status> {
        let digest = sha256(token.expose_secret().as_bytes());
        let now = Instant::now();
        let known = self.known().get(&digest).filter(|known| now < known.until).cloned();
        if let Some(known) = known {
            return Ok(known.token);
        }
        let _turn = self.turn().await?;
        let asked = self.reviewer.review(token, &self.audience);
        let said = tokio::time::timeout(PATIENCE, asked).await;
        let said = said.map_err(|_| Status::unavailable("the API server does not answer"))?;
        let Some(token) = said.map_err(unavailable)? else {
            return Err(nobody("the API server does not know the token, or not for this audience"));
        };
        let token = Arc::new(token);
        let mut known = self.known();
        if known.len() >= TOKENS {
            known.retain(|_, known| now < known.until);
        }
        if known.len() < TOKENS {
            known.insert(digest, Known { token: Arc::clone(&token), until: now + REMEMBERED });
        }
        Ok(token)
    }

    async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Status> {
        let turn = tokio::time::timeout(PATIENCE, self.questions.acquire()).await;
        let busy = || Status::unavailable("too many nodes prove themselves at the same time");
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For whom the tokens of nodes are.
pub(crate) fn audience(cluster: &ClusterName) -> String {
    format!("nullius-agent:{cluster}")
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
