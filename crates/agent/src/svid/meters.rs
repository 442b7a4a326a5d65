//! What `agent identity` counts.

use nullius_telemetry::{Counter, Gauge, Label, Metrics};

/// What was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// Why a node was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has not proven to be a node.
    Caller,
    /// The entry is not registered on it.
    Entry,
    /// What it sent cannot be used.
    Request,
    /// It asks too often.
    Pace,
    /// Nothing can be issued now.
    Unready,
}

impl Label for Refusal {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] =
        &[Self::Caller, Self::Entry, Self::Request, Self::Pace, Self::Unready];
    fn value(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Entry => "entry",
            Self::Request => "request",
            Self::Pace => "pace",
            Self::Unready => "unready",
        }
    }
}

#[derive(Clone)]
pub(crate) struct SvidMeters {
    pub(crate) issued: Counter<Kind>,
    pub(crate) refused: Counter<Refusal>,
    pub(crate) streams: Gauge,
    pub(crate) mesh_streams: Gauge,
    pub(crate) entries: Gauge,
    pub(crate) authority_ends: Gauge,
}

impl SvidMeters {
    pub(crate) fn new(all: &Metrics) -> Self {
        Self {
            issued: all.counter("nullius_identity_svids_issued_total", "SVIDs that were issued"),
            refused: all
                .counter("nullius_identity_refused_total", "calls of nodes that were refused"),
            streams: all.gauge(
                "nullius_identity_node_streams",
                "nodes' parts that are told what is registered",
            ),
            mesh_streams: all.gauge(
                "nullius_identity_mesh_streams",
                "nodes' parts that are told what the mesh needs",
            ),
            entries: all.gauge("nullius_identity_entries", "pods that have an identity"),
            authority_ends: all.gauge(
                "nullius_identity_authority_end_seconds",
                "when the authority that signs ends, in seconds of Unix time",
            ),
        }
    }
}
