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
    ];
    fn value(self) -> &'static str {
        self.0.as_str()
    }
}

/// The webhook's counters and gauges.
#[derive(Clone)]
pub(crate) struct AdmissionMeters {
    pub(crate) reviews: Counter<Outcome>,
    pub(crate) seconds: Histogram<EntryLabel>,
    pub(crate) policies: Gauge,
    pub(crate) broken: Gauge,
    pub(crate) troubles: Gauge,
}

impl AdmissionMeters {
    pub(crate) fn new(all: &Metrics) -> Self {
        Self {
            reviews: all
                .counter("nullius_admission_reviews_total", "reviews by what became of them"),
            seconds: all.histogram("nullius_admission_review_seconds", "time to answer a review"),
            policies: all
                .gauge("nullius_admission_policies", "policies in force as they were written"),
            broken: all.gauge(
                "nullius_admission_policies_broken",
                "policies that cannot be used, in whose place requests are refused",
            ),
            troubles: all.gauge(
                "nullius_admission_troubles",
                "files, policies and bindings that are not in force as they were written",
            ),
        }
    }
}
