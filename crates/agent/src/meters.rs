//! What an agent counts.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use nullius_telemetry::{Counter, Gauge, Label, Metrics};

/// Why a request from the tunnel was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Assertion,
    Ended,
    Lease,
    Credential,
}

impl Label for Refused {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] = &[Self::Assertion, Self::Ended, Self::Lease, Self::Credential];
    fn value(self) -> &'static str {
        match self {
            Self::Assertion => "assertion",
            Self::Ended => "ended",
            Self::Lease => "lease",
            Self::Credential => "credential",
        }
    }
}

/// The agent's counters and gauges.
#[derive(Clone)]
pub(crate) struct Meters {
    pub(crate) all: Metrics,
    standing: Arc<AtomicI64>,
    pub(crate) admitted: Counter,
    pub(crate) refused: Counter<Refused>,
    tunnels: Gauge,
    pub(crate) sessions: Gauge,
    pub(crate) tokens: Counter,
    pub(crate) alarms: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        let all = Metrics::new();
        Self {
            admitted: all
                .counter("nullius_agent_requests_admitted_total", "requests that got a credential"),
            refused: all
                .counter("nullius_agent_requests_refused_total", "requests that the agent refused"),
            tunnels: all.gauge("nullius_agent_tunnels", "tunnel connections that are served"),
            sessions: all
                .gauge("nullius_agent_sessions", "sessions whose objects stand in the cluster"),
            tokens: all.counter(
                "nullius_agent_tokens_minted_total",
                "tokens of sessions that were minted",
            ),
            alarms: all.counter("nullius_agent_alarms_total", "alarms that were raised"),
            all,
            standing: Arc::default(),
        }
    }

    /// One more tunnel stands, or one less.
    pub(crate) fn count_tunnel(&self, change: i64) {
        self.tunnels.add((), change);
        self.standing.fetch_add(change, Ordering::Relaxed);
    }

    /// Whether any tunnel stands.
    pub(crate) fn tunnels_up(&self) -> bool {
        self.standing.load(Ordering::Relaxed) > 0
    }
}
