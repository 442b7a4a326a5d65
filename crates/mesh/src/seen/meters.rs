//! What is counted of calls, in series whose number is known beforehand.

use nullius_model::Reason;
use nullius_telemetry::{Counter, Label, Metrics};

use crate::access_log::{Direction, Outcome, Why};

/// Counters of the mesh.
pub(super) struct MeshMeters {
    decisions: Counter<Verdict>,
    requests: Counter<Verdict>,
    bytes: Counter<Way>,
}

impl MeshMeters {
    pub(super) fn new(all: &Metrics) -> Self {
        Self {
            decisions: all.counter(
                "nullius_mesh_decisions_total",
                "connections and requests by what became of them",
            ),
            requests: all.counter(
                "nullius_mesh_requests_total",
                "requests that were read, by what became of them",
            ),
            bytes: all.counter("nullius_mesh_bytes_total", "bytes of what was allowed"),
        }
    }

    pub(super) fn decided(
        &self,
        direction: Direction,
        outcome: Outcome,
        why: Why,
        is_request: bool,
    ) {
        let verdict = Verdict { direction, outcome, reason: Word::of(why) };
        self.decisions.add_one(verdict);
        if is_request {
            self.requests.add_one(verdict);
        }
    }

    pub(super) fn moved(&self, direction: Direction, to_destination: u64, to_source: u64) {
        for (to, bytes) in [(To::Destination, to_destination), (To::Source, to_source)] {
            if bytes > 0 {
                self.bytes.add(Way { direction, to }, bytes);
            }
        }
    }
}

const DIRECTIONS: [Direction; 2] = [Direction::Inbound, Direction::Outbound];
const OUTCOMES: [Outcome; 3] = [Outcome::Allowed, Outcome::Denied, Outcome::Failed];

/// What decided, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Why(Why),
    /// A reason of which the mesh knows nothing.
    Other,
}

/// Reasons by which intentions decide.
const DECIDED: [Reason; 16] = [
    Reason::IntentionMatched,
    Reason::Permissive,
    Reason::NoIntention,
    Reason::IntentionRefused,
    Reason::NoPermission,
    Reason::Unauthenticated,
    Reason::UnknownReference,
    Reason::ConditionFailed,
    Reason::Unreadable,
    Reason::NotHttp,
    Reason::UndeclaredPath,
    Reason::UndeclaredMethod,
    Reason::BadParameter,
    Reason::BadBody,
    Reason::BodyTooLarge,
    Reason::StaleState,
];

impl Word {
    fn of(why: Why) -> Self {
        match why {
            Why::Decided(reason) if !DECIDED.contains(&reason) => Self::Other,
            why => Self::Why(why),
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Why(Why::Decided(reason)) => {
                DECIDED.iter().position(|it| *it == reason).unwrap_or_default()
            }
            Self::Why(why) => DECIDED.len() + why.place(),
            Self::Other => WORDS - 1,
        }
    }
}

const WORDS: usize = DECIDED.len() + Why::OWN.len() + 1;

/// What became of something, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    direction: Direction,
    outcome: Outcome,
    reason: Word,
}

const VERDICTS: [Verdict; DIRECTIONS.len() * OUTCOMES.len() * WORDS] = {
    let first =
        Verdict { direction: Direction::Inbound, outcome: Outcome::Allowed, reason: Word::Other };
    let mut all = [first; DIRECTIONS.len() * OUTCOMES.len() * WORDS];
    let mut place = 0;
    while place < all.len() {
        let word = place % WORDS;
        all[place] = Verdict {
            direction: DIRECTIONS[place / WORDS / OUTCOMES.len()],
            outcome: OUTCOMES[place / WORDS % OUTCOMES.len()],
            reason: if word < DECIDED.len() {
                Word::Why(Why::Decided(DECIDED[word]))
            } else if word < WORDS - 1 {
                Word::Why(Why::OWN[word - DECIDED.len()])
            } else {
                Word::Other
            },
        };
        place += 1;
    }
    all
};

impl Label for Verdict {
    const NAME: &'static str = "verdict";
    const ALL: &'static [Self] = &VERDICTS;
    const SHOWS_ZEROS: bool = false;

    fn value(self) -> &'static str {
        self.outcome.as_str()
    }

    fn more(self) -> Vec<(&'static str, &'static str)> {
        let reason = match self.reason {
            Word::Why(why) => why.as_str(),
            Word::Other => "other",
        };
        vec![("direction", self.direction.as_str()), ("reason", reason)]
    }

    fn place(self) -> Option<usize> {
        let direction = usize::from(self.direction == Direction::Outbound);
        let outcome = OUTCOMES.iter().position(|it| *it == self.outcome)?;
        Some((direction * OUTCOMES.len() + outcome) * WORDS + self.reason.place())
    }
}

/// Where bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Destination,
    Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    direction: Direction,
    to: To,
}

impl Label for Way {
    const NAME: &'static str = "direction";
    const ALL: &'static [Self] = &[
        Self { direction: Direction::Inbound, to: To::Destination },
        Self { direction: Direction::Inbound, to: To::Source },
        Self { direction: Direction::Outbound, to: To::Destination },
        Self { direction: Direction::Outbound, to: To::Source },
    ];

    fn value(self) -> &'static str {
        self.direction.as_str()
    }

    fn more(self) -> Vec<(&'static str, &'static str)> {
        vec![(
            "to",
            match self.to {
                To::Destination => "destination",
                To::Source => "source",
            },
        )]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_series_has_its_own_place_and_only_what_occurred_is_shown() {
        for (place, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(verdict.place(), Some(place), "{verdict:?}");
        }
        let metrics = Metrics::new();
        let meters = MeshMeters::new(&metrics);
        let denied = Why::Decided(Reason::NoIntention);
        meters.decided(Direction::Inbound, Outcome::Denied, denied, true);
        meters.decided(Direction::Outbound, Outcome::Failed, Why::Unreachable, false);
        meters.decided(Direction::Inbound, Outcome::Denied, Why::Decided(Reason::SignedIn), false);
        meters.moved(Direction::Inbound, 7, 0);
        let text = metrics.render();
        let shown: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            shown,
            [
                "nullius_mesh_bytes_total{direction=\"inbound\",to=\"destination\"} 7",
                "nullius_mesh_bytes_total{direction=\"inbound\",to=\"source\"} 0",
                "nullius_mesh_bytes_total{direction=\"outbound\",to=\"destination\"} 0",
                "nullius_mesh_bytes_total{direction=\"outbound\",to=\"source\"} 0",
                "nullius_mesh_decisions_total{verdict=\"denied\",direction=\"inbound\",reason=\"no-intention\"} 1",
                "nullius_mesh_decisions_total{verdict=\"denied\",direction=\"inbound\",reason=\"other\"} 1",
                "nullius_mesh_decisions_total{verdict=\"failed\",direction=\"outbound\",reason=\"unreachable\"} 1",
                "nullius_mesh_requests_total{verdict=\"denied\",direction=\"inbound\",reason=\"no-intention\"} 1",
            ]
        );
    }
}
