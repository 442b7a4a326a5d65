//! What a node counts.

use nullius_telemetry::{Counter, Gauge, Histogram, Label, Metrics};

/// What is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    X509,
    Jwt,
}

impl Label for Kind {
    const NAME: &'static str = "kind";
    const ALL: &'static [Self] = &[Self::X509, Self::Jwt];
    fn value(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::Jwt => "jwt",
        }
    }
}

/// Why nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsigned {
    Refused,
    Unavailable,
}

impl Label for Unsigned {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] = &[Self::Refused, Self::Unavailable];
    fn value(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What came of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Volume {
    Published,
    Unpublished,
    Refused,
    Failed,
}

impl Label for Volume {
    const NAME: &'static str = "outcome";
    const ALL: &'static [Self] = &[Self::Published, Self::Unpublished, Self::Refused, Self::Failed];
    fn value(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Unpublished => "unpublished",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The node's counters and gauges.
#[derive(Clone)]
pub(crate) struct Meters {
    pub(crate) all: Metrics,
    pub(crate) entries: Gauge,
    pub(crate) held: Gauge,
    pub(crate) connected: Gauge,
    pub(crate) issued: Counter<Kind>,
    pub(crate) unsigned: Counter<Unsigned>,
    pub(crate) asked: Histogram<Kind>,
    pub(crate) volumes: Counter<Volume>,
    pub(crate) mesh_heard: Gauge,
}

impl Meters {
    pub(crate) fn new() -> Self {
        let all = Metrics::new();
        Self {
            entries: all.gauge("nullius_node_entries", "entries that are registered"),
            held: all.gauge("nullius_node_svids", "X.509-SVIDs that are held"),
            connected: all.gauge(
                "nullius_node_registrations_connected",
                "whether the agent tells what is registered",
            ),
            issued: all.counter("nullius_node_svids_issued_total", "SVIDs that were signed"),
            unsigned: all.counter("nullius_node_issue_failures_total", "requests that got no SVID"),
            asked: all.histogram("nullius_node_issue_seconds", "how long the agent took to sign"),
            volumes: all.counter("nullius_node_csi_volumes_total", "what came of volumes"),
            mesh_heard: all.gauge(
                "nullius_node_mesh_heard_timestamp_seconds",
                "when the agent said something of the mesh last",
            ),
            all,
        }
    }
}
