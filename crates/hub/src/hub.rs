//! What every part of the hub process shares.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use nullius_access::Snapshot;
use nullius_model::{AuditKind, Clock, Timestamp};
use nullius_store::{AuditWriter, Store};
use nullius_tls::LiveCertificate;
use tokio::sync::{Mutex, Notify};

use crate::{
    clusters::Clusters,
    keys::Keys,
    limits::{Budgets, HashRoom, SourceLimit},
    memory::{Memory, sessions::LiveSessions, usage::UsageRecorder},
    metrics::HubMetrics,
    settings::HubSettings,
};

/// The hub: one per process, shared by everything in it.
pub struct Hub {
    pub(crate) settings: HubSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Store,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) sessions: LiveSessions,
    pub(crate) keys: Keys,
    pub(crate) sealer: nullius_pki::Sealer,
    pub(crate) certificate: Arc<LiveCertificate>,
    pub(crate) audit: AuditWriter,
    pub(crate) usage: UsageRecorder,
    pub(crate) clusters: Clusters,
    pub(crate) metrics: HubMetrics,
    pub(crate) memory: Memory,
    pub(crate) sources: SourceLimit,
    /// Of those who read bundles: a crowd behind one address keeps nobody there from signing in.
    pub(crate) readers: SourceLimit,
    /// What is written down of strangers, by kind.
    pub(crate) strangers: Budgets<AuditKind>,
    pub(crate) hash_room: HashRoom,
    pub(crate) origin: String,
    pub(crate) address: String,
    /// Held while objects change, so that each change is judged against the newest state.
    pub(crate) changing: Mutex<()>,
    /// How often somebody said that an older bundle of another trust domain may be taken.
    pub(crate) foreign_anew: AtomicU64,
    /// Wakes the task that acts on the clock.
    pub(crate) time_changed: Notify,
    pub(crate) draining: AtomicBool,
}

impl Hub {
    /// The present instant.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The present second: for what people are told, and what they compare.
    pub(crate) fn this_second(&self) -> Timestamp {
        let now = self.now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    /// What the hub was started with.
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// The objects that decisions rest on, at their newest revision.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The repositories.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The live sessions.
    pub fn sessions(&self) -> &LiveSessions {
        &self.sessions
    }

    /// The hub's keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The audit trail.
    pub fn audit(&self) -> &AuditWriter {
        &self.audit
    }

    /// Where uses of permissions are counted.
    pub fn usage(&self) -> &UsageRecorder {
        &self.usage
    }

    /// Tunnels, agents and what sessions have in clusters.
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// Counters and gauges.
    pub fn metrics(&self) -> &HubMetrics {
        &self.metrics
    }

    /// `https://host:port` under which people reach the hub.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// `host:port` that agents dial.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the hub is going away and takes no new work.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Counts one call without a proven identity; the error says after how many seconds to come back.
    pub(crate) fn take_source(&self, source: IpAddr) -> Result<(), u32> {
        self.sources.take(source, self.now())
    }

    /// Counts one reading of a bundle, of which nobody proves who they are.
    pub(crate) fn take_reader(&self, source: IpAddr) -> Result<(), u32> {
        self.readers.take(source, self.now())
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("origin", &self.origin).finish_non_exhaustive()
    }
}
