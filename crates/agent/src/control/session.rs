//! One session in the cluster, as this process knows it.
//!
//! What it is now (`phase`) can be read at any time; what changes its objects holds `work`, one after the other.

use std::collections::BTreeMap;

use nullius_kube::{MintedToken, ObjectRef, StandingSession};
use nullius_model::{SessionId, SessionPlan, Timestamp};
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing is known to stand.
    Absent,
    /// The plan of this generation stands.
    Ready { generation: u64 },
    /// It is refused from now on; its objects go.
    Ended,
}

impl Phase {
    /// The phase after a plan was carried out; an end is final.
    pub(crate) fn after_plan(self, generation: u64) -> Self {
        match self {
            Self::Ended => Self::Ended,
            Self::Absent => Self::Ready { generation },
            Self::Ready { generation: known } => Self::Ready { generation: generation.max(known) },
        }
    }

    /// What a request that needs `generation` has to do.
    pub(crate) fn for_request(self, needed: u64) -> Step {
        match self {
            Self::Ended => Step::Refuse,
            Self::Ready { generation } if generation >= needed => Step::Go,
            Self::Ready { .. } | Self::Absent => Step::Wait,
        }
    }
}

/// What a request has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Go,
    Wait,
    Refuse,
}

/// A session.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) work: Mutex<Work>,
}

/// What its objects are.
pub(crate) struct Work {
    pub(crate) standing: StandingSession,
    /// The newest plan, for namespaces that come later.
    pub(crate) plan: Option<SessionPlan>,
    pub(crate) token: Option<MintedToken>,
    /// When an awaited namespace is looked for again at the earliest.
    pub(crate) look_again: Instant,
    /// The hub's order to flush it, empty where there was none: what is done later is told under it.
    pub(crate) flush_command: String,
    /// What the hub has on record of it and wants to hear gone.
    pub(crate) recorded: BTreeMap<ObjectRef, String>,
    /// When it ended.
    pub(crate) ended_at: Option<Instant>,
}

impl Session {
    pub(crate) fn new(standing: StandingSession) -> Self {
        let phase = if standing.is_complete() {
            Phase::Ready { generation: standing.generation }
        } else {
            Phase::Absent
        };
        Self {
            id: standing.session.clone(),
            phase: watch::Sender::new(phase),
            work: Mutex::new(Work {
                standing,
                plan: None,
                token: None,
                look_again: Instant::now(),
                flush_command: String::new(),
                recorded: BTreeMap::new(),
                ended_at: None,
            }),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Refuses it from now on; says whether that is news.
    pub(crate) fn end(&self) -> bool {
        self.phase.send_if_modified(|phase| {
            let news = *phase != Phase::Ended;
            *phase = Phase::Ended;
            news
        })
    }
}

impl Work {
    /// Whether the session's time is over, with some slack for the hub to say so first.
    pub(crate) fn is_overdue(&self, now: Timestamp, slack: jiff::SignedDuration) -> bool {
        self.standing.expires_at.is_some_and(|end| now.duration_since(end) > slack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_final() {
        assert_eq!(Phase::Ended.after_plan(9), Phase::Ended);
        assert_eq!(Phase::Ended.for_request(0), Step::Refuse);
    }

    #[test]
    fn a_request_waits_for_the_plan_that_it_needs() {
        assert_eq!(Phase::Absent.for_request(0), Step::Wait);
        assert_eq!(Phase::Ready { generation: 2 }.for_request(3), Step::Wait);
        assert_eq!(Phase::Ready { generation: 3 }.for_request(3), Step::Go);
        assert_eq!(Phase::Ready { generation: 4 }.for_request(3), Step::Go);
    }

    #[test]
    fn a_plan_never_takes_a_newer_one_back() {
        assert_eq!(Phase::Ready { generation: 5 }.after_plan(4), Phase::Ready { generation: 5 });
        assert_eq!(Phase::Absent.after_plan(1), Phase::Ready { generation: 1 });
    }
}
