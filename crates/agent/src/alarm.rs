//! Alarms: what must not happen and did. Each kind is raised at most once a second, so that whoever causes them
//! cannot drown what matters; what is held back is counted.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nullius_proto::agent_v1 as wire;
use tokio::{sync::mpsc, time::Instant};

use crate::meters::Meters;

const BETWEEN: Duration = Duration::from_secs(1);
const QUEUE: usize = 64;
const DETAIL_CHARS: usize = 500;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum AlarmKind {
    RefusedAssertion,
    RefusedCommand,
    RefusedKeySet,
    ForeignObject,
    Unguarded,
}

impl AlarmKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RefusedAssertion => "refused-assertion",
            Self::RefusedCommand => "refused-command",
            Self::RefusedKeySet => "refused-key-set",
            Self::ForeignObject => "foreign-object",
            Self::Unguarded => "unguarded",
        }
    }
}

/// Raises alarms; whoever holds the other end sends them on.
pub(crate) struct Alarms {
    out: mpsc::Sender<wire::Alarm>,
    meters: Meters,
    recent: Mutex<HashMap<AlarmKind, Recent>>,
}

struct Recent {
    raised: Instant,
    held_back: u64,
}

impl Alarms {
    pub(crate) fn new(meters: Meters) -> (Self, mpsc::Receiver<wire::Alarm>) {
        let (out, raised) = mpsc::channel(QUEUE);
        (Self { out, meters, recent: Mutex::default() }, raised)
    }

    /// Raises an alarm, or holds it back when one of its kind was just raised.
    pub(crate) fn raise(&self, kind: AlarmKind, detail: &str) {
        self.meters.alarms.add_one(());
        tracing::warn!(alarm = kind.as_str(), detail, "raise alarm");
        let Some(held_back) = self.admit(kind) else { return };
        let mut detail: String = detail.chars().take(DETAIL_CHARS).collect();
        if held_back > 0 {
            detail.push_str(&format!(" ({held_back} more of this kind before)"));
        }
        let alarm = wire::Alarm { what: kind.as_str().to_owned(), detail };
        if self.out.try_send(alarm).is_err() {
            tracing::warn!("lose alarm, nobody took the last ones");
        }
    }

    fn admit(&self, kind: AlarmKind) -> Option<u64> {
        let now = Instant::now();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        match recent.get_mut(&kind) {
            Some(last) if now - last.raised < BETWEEN => {
                last.held_back += 1;
                None
            }
            Some(last) => {
                last.raised = now;
                Some(std::mem::take(&mut last.held_back))
            }
            None => {
                recent.insert(kind, Recent { raised: now, held_back: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_one_kind_neither_drowns_others_nor_goes_uncounted() {
        let (alarms, mut raised) = Alarms::new(Meters::new());
        for _ in 0..100 {
            alarms.raise(AlarmKind::RefusedAssertion, "replayed");
        }
        alarms.raise(AlarmKind::ForeignObject, "someone's");
        tokio::time::advance(Duration::from_secs(2)).await;
        alarms.raise(AlarmKind::RefusedAssertion, "replayed");
        assert_eq!(raised.recv().await.unwrap().detail, "replayed");
        assert_eq!(raised.recv().await.unwrap().what, "foreign-object");
        let last = raised.recv().await.unwrap();
        assert!(last.detail.contains("99 more"), "{}", last.detail);
        assert!(raised.try_recv().is_err());
    }
}
