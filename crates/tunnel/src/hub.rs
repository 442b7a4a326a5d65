//! The hub's side: agents attach their connections here, and what runs on them can be cut.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nullius_model::{ClusterName, InfraId, InstanceId, PermissionId, SessionId, UserName};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::{
    link::{AttachError, Link},
    live::{Live, Mark, Owner},
    registry::Registry,
    wire::{Class, Io},
};

/// How often it is looked for streams whose right has run out.
const SWEEP: Duration = Duration::from_secs(1);

/// What of the tunnels can be chosen.
#[derive(Debug, Clone)]
pub struct TunnelOptions {
    /// What clients see before a cluster's name: redirects within a cluster are written under it.
    pub public_root: String,
    /// How long a request that is not open-ended may wait for the head of its answer.
    pub answer_timeout: Duration,
    /// How many streams of one session may run at the same time, in all clusters.
    pub session_streams: usize,
}

impl Default for TunnelOptions {
    fn default() -> Self {
        Self {
            public_root: "/clusters".to_owned(),
            answer_timeout: Duration::from_secs(90),
            session_streams: 1_000,
        }
    }
}

/// All tunnels of one hub replica. Clones share them.
#[derive(Clone)]
pub struct Tunnels(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) options: TunnelOptions,
    pub(crate) registry: Registry,
    pub(crate) live: Arc<Live>,
    /// Closed once the hub drains; what runs holds a token of it.
    pub(crate) tasks: TaskTracker,
    sweeping: AtomicBool,
}

/// A connection that was taken in.
pub struct Attached {
    link: Arc<Link>,
    ended: tokio::sync::oneshot::Receiver<String>,
}

/// One connection of an agent, for people who look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentView {
    /// The agent instance.
    pub instance: InstanceId,
    /// Its epoch.
    pub epoch: u64,
    /// Its version.
    pub agent_version: String,
    /// What the connection is for.
    pub class: Class,
    /// Streams that run on it.
    pub streams: usize,
    /// Whether it takes new requests.
    pub state: AgentState,
}

/// Whether a connection takes new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentState {
    /// It does.
    Serving,
    /// It finishes what runs.
    Draining,
}

impl Tunnels {
    /// No tunnels yet.
    pub fn new(options: TunnelOptions) -> Self {
        Self(Arc::new(Inner {
            options,
            registry: Registry::default(),
            live: Live::new(),
            tasks: TaskTracker::new(),
            sweeping: AtomicBool::new(false),
        }))
    }

    /// Takes in a connection that an agent dialled and proved itself on; `exporter` is the connection's own.
    pub async fn attach(
        &self,
        io: impl Io,
        id: &InfraId,
        class: Class,
        exporter: [u8; 32],
    ) -> Result<Attached, AttachError> {
        let InfraId::AgentProxy { cluster, instance } = id else {
            return Err(AttachError::NotAProxy(id.to_string()));
        };
        if self.0.tasks.is_closed() {
            return Err(AttachError::Draining);
        }
        let (link, driver) =
            Link::establish(Box::new(io), cluster.clone(), instance.clone(), class, exporter)
                .await?;
        self.0.registry.add(&link)?;
        if self.0.tasks.is_closed() {
            link.close();
        }
        self.sweep();
        let (told, ended) = tokio::sync::oneshot::channel();
        let inner = Arc::clone(&self.0);
        let driven = Arc::clone(&link);
        tokio::spawn(async move {
            let why = Arc::clone(&driven).drive(driver).await;
            inner.registry.remove(&driven);
            // Nobody may wait for it.
            let _ = told.send(why);
        });
        Ok(Attached { link, ended })
    }

    /// The connections of a cluster's agents.
    pub fn agents(&self, cluster: &ClusterName) -> Vec<AgentView> {
        let links = self.0.registry.links(cluster);
        links
            .iter()
            .map(|link| AgentView {
                instance: link.instance.clone(),
                epoch: link.epoch,
                agent_version: link.agent_version.clone(),
                class: link.class,
                streams: link.active(),
                state: if link.is_draining() { AgentState::Draining } else { AgentState::Serving },
            })
            .collect()
    }

    /// This moment: take it before deciding about a request.
    pub fn mark(&self) -> Mark {
        self.0.live.mark()
    }

    /// Ends all streams of a session at once; says how many ran.
    pub fn cut(&self, session: &SessionId) -> usize {
        self.0.live.cut_session(session)
    }

    /// Ends all streams to a cluster at once.
    pub fn cut_cluster(&self, cluster: &ClusterName) -> usize {
        let cluster = cluster.clone();
        self.0.live.cut(move |owner| owner.cluster == cluster)
    }

    /// Ends all streams of a person at once.
    pub fn cut_all_of(&self, user: &UserName) -> usize {
        let user = user.clone();
        self.0.live.cut(move |owner| owner.user.as_ref() == Some(&user))
    }

    /// Ends all streams that a permission allowed at once.
    pub fn cut_permission(&self, permission: &PermissionId) -> usize {
        let permission = permission.clone();
        self.0.live.cut(move |owner| owner.permission.as_ref() == Some(&permission))
    }

    /// Ends all streams that `condemned` names at once; it also judges what was decided before now and opens later.
    pub fn cut_where(&self, condemned: impl Fn(&Owner) -> bool + Send + Sync + 'static) -> usize {
        self.0.live.cut(condemned)
    }

    /// How many streams of a session run.
    pub fn live(&self, session: &SessionId) -> usize {
        self.0.live.count(session)
    }

    /// How many bytes a session leaves unread here in all its streams; above [`crate::MAX_UNREAD`] it loses streams.
    pub fn unread(&self, session: &SessionId) -> usize {
        self.0.live.unread(session)
    }

    /// Closes all connections of a cluster's agents, with all that runs on them.
    pub fn disconnect(&self, cluster: &ClusterName) {
        for link in self.0.registry.links(cluster).iter() {
            link.close();
        }
    }

    /// Tells all agents to attach elsewhere, takes no new requests and waits for those that run.
    pub async fn drain(&self) {
        self.0.tasks.close();
        let links = self.0.registry.all();
        futures::future::join_all(links.iter().map(|link| link.announce_drain())).await;
        self.0.tasks.wait().await;
        self.close();
    }

    /// Closes all connections, with all that runs on them.
    pub fn close(&self) {
        self.0.tasks.close();
        for link in self.0.registry.all() {
            link.close();
        }
    }

    /// Ends streams in time whose right runs out, from the first connection on.
    fn sweep(&self) {
        if self.0.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(inner) = inner.upgrade() else { return };
                inner.live.expire(Instant::now());
            }
        });
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }
}

impl Attached {
    /// The epoch that the agent came with.
    pub fn epoch(&self) -> u64 {
        self.link.epoch
    }

    /// The agent's version.
    pub fn agent_version(&self) -> &str {
        &self.link.agent_version
    }

    /// Resolves with the reason when the connection has ended and was taken out.
    pub async fn ended(&mut self) -> String {
        (&mut self.ended).await.unwrap_or_default()
    }

    /// Ends the connection with all that runs on it.
    pub fn close(&self) {
        self.link.close();
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached").field("epoch", &self.link.epoch).finish_non_exhaustive()
    }
}
