//! What is counted of the API server's audit webhook.

use nullius_telemetry::{Counter, Gauge, Label, Metrics};

/// What became of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListOutcome {
    Taken,
    /// There was no room for it.
    TurnedAway,
    Unreadable,
}

impl Label for ListOutcome {
    const NAME: &'static str = "outcome";
    const ALL: &'static [Self] = &[Self::Taken, Self::TurnedAway, Self::Unreadable];
    fn value(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::TurnedAway => "turned-away",
            Self::Unreadable => "unreadable",
        }
    }
}

#[derive(Clone)]
pub(super) struct HearingMeters {
    pub(super) lists: Counter<ListOutcome>,
    pub(super) events: Counter,
    pub(super) repeated: Counter,
    pub(super) strangers: Counter,
    /// When the client certificate of API servers ends, in seconds of Unix time.
    pub(super) client_ends: Gauge,
}

impl HearingMeters {
    pub(super) fn new(all: &Metrics) -> Self {
        Self {
            lists: all.counter(
                "nullius_agent_audit_lists_total",
                "lists of the API server's audit webhook by what became of them",
            ),
            events: all.counter(
                "nullius_agent_audit_events_total",
                "answered requests that the API server told of",
            ),
            repeated: all.counter(
                "nullius_agent_audit_events_repeated_total",
                "answered requests that the API server told of again",
            ),
            strangers: all.counter(
                "nullius_agent_audit_strangers_total",
                "connections to the audit webhook without a good client certificate",
            ),
            client_ends: all.gauge(
                "nullius_agent_audit_client_certificate_ends_seconds",
                "when the client certificate that API servers were given last ends, in Unix time",
            ),
        }
    }
}
