//! Makes, changes and flushes what sessions have in clusters: refuse, cut, note, flush, tell.
//!
//! The store is told before an agent is, so that whatever may stand in a cluster is known after any crash; a flush
//! that finds no agent stays noted and is carried out when one attaches.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::StreamExt as _;
use nullius_access::Snapshot;
use nullius_model::{
    AnyObject, AuditEvent, AuditKind, AuditOutcome, ClusterName, Identity, Kind, Order, Principal,
    SessionId,
};
use nullius_store::{Provisioned, StoreError};
use tokio::sync::RwLock;

use super::{
    Clusters,
    commands::{Answer, CommandError},
    plans::{Making, Step},
    status::ceiling_refusal,
};
use crate::{Hub, lock::lock};

/// Orders to one cluster at the same time when many plans change.
const ORDERS_AT_ONCE: usize = 16;
/// Recorded objects that an order of a flush names: an order has a megabyte at most.
const OBJECTS_OF_ORDER: usize = 4_000;

/// Why a session has nothing in a cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProvisionError {
    #[error("your session has ended; sign in with `nullius login`")]
    Ended,
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("{0}")]
    Ceiling(String),
    #[error("the hub cannot write down what it does, so it does nothing; try again")]
    Store(#[from] StoreError),
}

impl ProvisionError {
    /// The HTTP status code that tells it.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Ended => 401,
            Self::Ceiling(_) | Self::Command(CommandError::Refused { .. }) => 403,
            Self::Command(CommandError::Slow(_)) => 504,
            Self::Command(
                CommandError::NoAgent(_) | CommandError::Gone(_) | CommandError::Failed { .. },
            )
            | Self::Store(_) => 503,
        }
    }
}

impl Clusters {
    /// Makes sure that a session's objects stand in a cluster; gives the generation that a credential must have.
    pub(crate) async fn ensure(
        &self,
        hub: &Hub,
        identity: &Identity,
        cluster: &ClusterName,
        snapshot: &Snapshot,
    ) -> Result<u64, ProvisionError> {
        let now = hub.now();
        let entry = self.plans.entry(&identity.session, cluster);
        let bindings = || nullius_access::plan(snapshot, identity, cluster, now);
        match entry.step(identity, snapshot.revision(), now, bindings).await {
            Step::Ready(generation) => Ok(generation),
            Step::Ended => Err(ProvisionError::Ended),
            Step::Make(_) if hub.sessions().find(&identity.session).is_none() => {
                // It ended after this request was let in, and its flush has passed already.
                self.plans.remove(&identity.session);
                Err(ProvisionError::Ended)
            }
            Step::Make(making) => {
                let is_new = making.plan.generation <= 1;
                if let Some(why) = self.above_ceiling(snapshot, cluster).filter(|_| is_new) {
                    return Err(ProvisionError::Ceiling(why));
                }
                self.make(hub, cluster, making).await
            }
        }
    }

    /// Why a cluster gets no sessions: what bounds them there is more than its object says.
    fn above_ceiling(&self, snapshot: &Snapshot, cluster: &ClusterName) -> Option<String> {
        let real = self.state_of(cluster)?.ceiling?;
        let name = cluster.as_str().parse().ok()?;
        let AnyObject::Cluster(object) = snapshot.object(Kind::Cluster, &name)? else {
            return None;
        };
        ceiling_refusal(cluster, &object.spec.ceiling, Some(&real))
    }

    async fn make(
        &self,
        hub: &Hub,
        cluster: &ClusterName,
        mut making: Making<'_>,
    ) -> Result<u64, ProvisionError> {
        let session = making.plan.session.clone();
        let generation = making.plan.generation;
        // An agent that is just told which sessions live must not end one that is being made meanwhile.
        let turn = self.turn(cluster);
        let _settled = turn.read().await;
        let mut tx = hub.store().begin().await?;
        let noted =
            tx.clusters().request_provision(&session, cluster, generation, hub.now()).await?;
        if noted.is_none() {
            return Err(ProvisionError::Ended);
        }
        tx.commit().await?;
        making.begun();
        let order = Order::Ensure(making.plan.clone());
        let answer = self.commands.order(cluster, order, hub.keys().signer(), hub.now()).await;
        let mut event = session_event(hub, AuditKind::Provision, &session, cluster);
        event.principal = Principal::Person { user: making.plan.user.clone() };
        event.facts.insert("generation".to_owned(), generation.to_string());
        match answer {
            Ok(Answer::Ready(objects)) => {
                let mut tx = hub.store().begin().await?;
                tx.clusters()
                    .provision_ready(&session, cluster, generation, &objects, hub.now())
                    .await?;
                event.facts.extend(objects);
                tx.audit(&event)?;
                tx.commit().await?;
                Ok(making.done())
            }
            Ok(Answer::Flushed(_) | Answer::Failed { .. }) => {
                Err(CommandError::Gone(cluster.clone()).into())
            }
            Err(error) => {
                event.outcome = AuditOutcome::Failed;
                event.facts.insert("error".to_owned(), error.to_string());
                hub.note(event).await;
                Err(error.into())
            }
        }
    }

    /// Ends what a session has everywhere: its streams at once, then its objects. The session itself is refused
    /// before this is called.
    pub(crate) async fn flush(&self, hub: &Hub, session: &SessionId) {
        self.tunnels.cut(session);
        let entries = self.plans.remove(session);
        for entry in entries.values() {
            entry.end().await;
        }
        // A request that was let in just before may have opened a stream meanwhile.
        self.tunnels.cut(session);
        let standing = match begin_flush(hub, session).await {
            Ok(standing) => standing,
            Err(error) => {
                // A credential must not outlive its session because a disk is full.
                tracing::error!(%error, session = %session, "flush without a note; note it when that is possible");
                lock(&hub.memory.unnoted_flushes).insert(session.clone());
                records_of(hub, session).await.unwrap_or_else(|error| {
                    tracing::error!(%error, session = %session, "cannot read what a session has");
                    Vec::new()
                })
            }
        };
        self.flush_all(hub, &standing).await;
    }

    /// Notes the flushes that could not be noted when they came, and orders them again: where an agent was away then,
    /// nobody else would.
    pub(crate) async fn retry_flushes(&self, hub: &Hub) {
        let waiting = lock(&hub.memory.unnoted_flushes).clone();
        for session in waiting {
            let Ok(standing) = begin_flush(hub, &session).await else { return };
            lock(&hub.memory.unnoted_flushes).remove(&session);
            self.flush_all(hub, &standing).await;
        }
    }

    async fn flush_all(&self, hub: &Hub, standing: &[Provisioned]) {
        futures::future::join_all(standing.iter().map(|record| self.flush_in(hub, record))).await;
    }

    /// Flushes one session from one cluster; what fails stays noted and is tried again when an agent attaches.
    async fn flush_in(&self, hub: &Hub, record: &Provisioned) {
        let Provisioned { session, cluster, .. } = record;
        let objects = record.uids.iter().take(OBJECTS_OF_ORDER);
        let objects = objects.map(|(object, uid)| (object.clone(), uid.clone())).collect();
        let order = Order::Flush { session: session.clone(), objects };
        let answer = self.commands.order(cluster, order, hub.keys().signer(), hub.now()).await;
        match answer {
            Ok(Answer::Flushed(objects)) => self.flushed(hub, session, cluster, objects).await,
            Ok(Answer::Ready(_) | Answer::Failed { .. }) => {}
            Err(error) => {
                tracing::warn!(cluster = %cluster, session = %session, %error, "flush later");
                let mut event = session_event(hub, AuditKind::Flush, session, cluster);
                event.outcome = AuditOutcome::Failed;
                event.facts.insert("error".to_owned(), error.to_string());
                hub.note(event).await;
            }
        }
    }

    /// An agent has acknowledged the flush of a session that was ordered from it.
    pub(super) async fn flushed(
        &self,
        hub: &Hub,
        session: &SessionId,
        cluster: &ClusterName,
        objects: BTreeMap<String, String>,
    ) {
        let mut event = session_event(hub, AuditKind::Flush, session, cluster);
        event.facts.extend(objects);
        let written = async {
            let mut tx = hub.store().begin().await?;
            // A session that is not to be flushed has no such record.
            if tx.clusters().flushed(session, cluster).await?.is_some() {
                tx.audit(&event)?;
            }
            tx.commit().await
        };
        if let Err(error) = written.await {
            tracing::error!(%error, cluster = %cluster, "cannot note a flush");
        }
    }

    /// Acts on a changed snapshot or the passing of time: cuts what is no longer allowed, changes what stands.
    pub(crate) async fn replan(&self, hub: &Hub) {
        let snapshot = hub.snapshot();
        for condemned in self.live.condemned(hub.sessions(), &snapshot, hub.now()) {
            self.tunnels.cut_where(move |owner| {
                owner.session == condemned.session
                    && owner.cluster == condemned.cluster
                    && owner.permission == condemned.permission
            });
        }
        let mut by_cluster: BTreeMap<ClusterName, Vec<SessionId>> = BTreeMap::new();
        for session in self.plans.sessions() {
            for cluster in self.plans.clusters_of(&session) {
                if snapshot.knows_cluster(&cluster) {
                    by_cluster.entry(cluster).or_default().push(session.clone());
                }
            }
        }
        // Side by side: an agent that does not answer holds up nobody else's cluster.
        let replans = by_cluster
            .iter()
            .map(|(cluster, sessions)| self.replan_in(hub, cluster, sessions, &snapshot));
        futures::future::join_all(replans).await;
    }

    async fn replan_in(
        &self,
        hub: &Hub,
        cluster: &ClusterName,
        sessions: &[SessionId],
        snapshot: &Snapshot,
    ) {
        let silent = AtomicBool::new(false);
        let each = futures::stream::iter(sessions);
        each.for_each_concurrent(ORDERS_AT_ONCE, async |session| {
            let Some(live) = hub.sessions().find(session) else { return };
            if silent.load(Ordering::Relaxed) {
                // The next request or the agent's next connection makes it right.
                return;
            }
            self.plans.entry(session, cluster).doubt().await;
            let identity = live.identity(snapshot);
            if let Err(error) = self.ensure(hub, &identity, cluster, snapshot).await {
                tracing::debug!(%cluster, %session, %error, "replan later");
                if matches!(error, ProvisionError::Command(CommandError::Slow(_))) {
                    silent.store(true, Ordering::Relaxed);
                }
            }
        })
        .await;
    }

    /// When the next permit of a live stream ends.
    pub(crate) fn next_end(&self) -> Option<nullius_model::Timestamp> {
        self.live.next_end()
    }

    /// A cluster goes: its streams are cut, nothing of ours stays in it as far as an agent can see to that, and its
    /// agents are let go. What cannot be flushed for lack of an agent is said in the audit.
    pub(crate) async fn flush_cluster(&self, hub: &Hub, cluster: &ClusterName) {
        self.tunnels.cut_cluster(cluster);
        self.plans.remove_cluster(cluster);
        let nothing = Order::Live { sessions: BTreeSet::new() };
        let answer = self.commands.order(cluster, nothing, hub.keys().signer(), hub.now()).await;
        let written = async {
            let mut tx = hub.store().begin().await?;
            let records = tx.clusters().forget_provisioned(cluster).await?;
            tx.clusters().delete_trust(cluster).await?;
            tx.trust().forget(cluster).await?;
            tx.findings().forget(cluster).await?;
            tx.mesh().forget(cluster).await?;
            let mut event = cluster_event(hub, AuditKind::Flush, cluster);
            event.facts.insert("sessions".to_owned(), records.to_string());
            if let Err(error) = &answer {
                event.outcome = AuditOutcome::Failed;
                event.facts.insert("error".to_owned(), error.to_string());
            }
            tx.audit(&event)?;
            tx.commit().await
        };
        if let Err(error) = written.await {
            tracing::error!(%error, cluster = %cluster, "cannot note that a cluster goes");
        }
        self.commands.drop_cluster(cluster);
        self.tunnels.disconnect(cluster);
        self.connections.cut(cluster);
    }

    /// Brings a newly attached agent to what holds: pending flushes, sessions that live, and nothing else.
    pub(super) async fn reconcile(&self, hub: &Hub, cluster: &ClusterName, standing: &[SessionId]) {
        let turn = self.turn(cluster);
        let settling = turn.write().await;
        let records = match records_in(hub, cluster).await {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(%error, cluster = %cluster, "cannot read what stands in a cluster");
                return;
            }
        };
        let (live, ended): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| hub.sessions().find(&record.session).is_some());
        for record in ended {
            // Noted as flushing first: the session may have ended while the hub was down.
            match begin_flush(hub, &record.session).await {
                Ok(_) => self.flush_in(hub, &record).await,
                Err(error) => tracing::error!(%error, "cannot note a flush"),
            }
        }
        let sessions: BTreeSet<SessionId> =
            live.iter().map(|record| record.session.clone()).collect();
        let order = Order::Live { sessions: sessions.clone() };
        let answer = self.commands.order(cluster, order, hub.keys().signer(), hub.now()).await;
        if let Err(error) = answer {
            tracing::warn!(cluster = %cluster, %error, "cannot tell which sessions live");
            return;
        }
        drop(settling);
        let snapshot = hub.snapshot();
        for session in &sessions {
            let Some(session) = hub.sessions().find(session) else { continue };
            if !standing.contains(session.id()) {
                self.plans.entry(session.id(), cluster).forget().await;
            }
            let identity = session.identity(&snapshot);
            if let Err(error) = self.ensure(hub, &identity, cluster, &snapshot).await {
                tracing::debug!(cluster = %cluster, session = %session.id(), %error, "plan later");
            }
        }
    }
}

impl Clusters {
    /// Whose turn it is in a cluster: sessions are made side by side, but never while an agent learns which live.
    fn turn(&self, cluster: &ClusterName) -> Arc<RwLock<()>> {
        Arc::clone(lock(&self.turns).entry(cluster.clone()).or_default())
    }
}

async fn begin_flush(hub: &Hub, session: &SessionId) -> Result<Vec<Provisioned>, StoreError> {
    let mut tx = hub.store().begin().await?;
    let standing = tx.clusters().begin_flush(session, hub.now()).await?;
    tx.commit().await?;
    Ok(standing)
}

async fn records_of(hub: &Hub, session: &SessionId) -> Result<Vec<Provisioned>, StoreError> {
    let mut reader = hub.store().read().await?;
    reader.clusters().provisioned_of(session).await
}

async fn records_in(hub: &Hub, cluster: &ClusterName) -> Result<Vec<Provisioned>, StoreError> {
    let mut reader = hub.store().read().await?;
    reader.clusters().provisioned_in(cluster).await
}

fn cluster_event(hub: &Hub, kind: AuditKind, cluster: &ClusterName) -> AuditEvent {
    AuditEvent {
        cluster: Some(cluster.clone()),
        target: Some(format!("Cluster/{cluster}")),
        ..hub.own_event(kind, AuditOutcome::Done)
    }
}

fn session_event(
    hub: &Hub,
    kind: AuditKind,
    session: &SessionId,
    cluster: &ClusterName,
) -> AuditEvent {
    let mut event = cluster_event(hub, kind, cluster);
    event.session = Some(session.clone());
    event.target = None;
    event
}
