//! What the webhook counts.

use nullius_admission::webhook::Entry;
use nullius_telemetry::{Counter, Gauge, Histogram, Label, Metrics};

/// What became of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Allowed,
    Denied,
    /// Policies could not decide: a fact, the time or the room was missing, or it could not be read.
    Withheld,
    /// Whoever asked is nobody who may.
    Stranger,
}

impl Label for Outcome {
    const NAME: &'static str = "outcome";
    const ALL: &'static [Self] = &[Self::Allowed, Self::Denied, Self::Withheld, Self::Stranger];
    fn value(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Withheld => "withheld",
            Self::Stranger => "stranger",
        }
    }
}

/// The label of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryLabel(pub(crate) Entry);

impl Label for EntryLabel {
    const NAME: &'static str = "entry";
    const ALL: &'static [Self] = &[
        Self(Entry::ValidateFail),
        Self(Entry::ValidateIgnore),
        Self(Entry::MutateFail),
        Self(Entry::MutateIgnore),
        Self(Entry::PodSecurity),
        Self(Entry::InjectFail),
        Self(Entry::InjectIgnore),
    ];
    fn value(self) -> &'static str {
        self.0.as_str()
    }
}

/// Who holds a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Somebody who has named the path, or shown a certificate.
    Known,
    /// Nobody knows yet.
    Stranger,
}

impl Label for Holder {
    const NAME: &'static str = "holder";
    const ALL: &'static [Self] = &[Self::Known, Self::Stranger];
    fn value(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Stranger => "stranger",
        }
    }
}

/// Why a stranger's connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// More came from where it came from than there is room for.
    Crowded,
    /// It named no path in time.
    Late,
}

impl Label for Cut {
    const NAME: &'static str = "why";
    const ALL: &'static [Self] = &[Self::Crowded, Self::Late];
    fn value(self) -> &'static str {
        match self {
            Self::Crowded => "crowded",
            Self::Late => "late",
        }
    }
}

/// The webhook's counters and gauges.
#[derive(Clone)]
pub(crate) struct AdmissionMeters {
    pub(crate) reviews: Counter<Outcome>,
    pub(crate) seconds: Histogram<EntryLabel>,
    pub(crate) connections: Gauge<Holder>,
    pub(crate) cut: Counter<Cut>,
    pub(crate) policies: Gauge,
    pub(crate) broken: Gauge,
    pub(crate) troubles: Gauge,
    pub(crate) deaf: Gauge,
}

impl AdmissionMeters {
    pub(crate) fn new(all: &Metrics) -> Self {
        Self {
            reviews: all
                .counter("nullius_admission_reviews_total", "reviews by what became of them"),
            seconds: all.histogram("nullius_admission_review_seconds", "time to answer a review"),
            connections: all
                .gauge("nullius_admission_connections", "connections by who holds them"),
            cut: all.counter(
                "nullius_admission_connections_cut_total",
                "connections of strangers that were ended",
            ),
            policies: all
                .gauge("nullius_admission_policies", "policies in force as they were written"),
            broken: all.gauge(
                "nullius_admission_policies_broken",
                "policies that cannot be used, in whose place requests are refused",
            ),
            deaf: all.gauge(
                "nullius_admission_deaf",
                "1 while policies may have changed without this replica having heard of it",
            ),
            troubles: all.gauge(
                "nullius_admission_troubles",
                "files, policies and bindings that are not in force as they were written",
            ),
        }
    }
}
