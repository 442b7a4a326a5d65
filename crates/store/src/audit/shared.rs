//! What writer, transactions, readers and followers of the trail know in common.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use nullius_model::Clock;
use tokio::sync::{Notify, watch};

use super::{AuditState, AuditUnavailable, Position, StoredEntry};

/// How many of the newest entries stay in memory, so that followers need not read them back.
const RECENT: usize = 2_048;

pub(crate) struct Shared {
    clock: Arc<dyn Clock>,
    state: watch::Sender<AuditState>,
    head: watch::Sender<Position>,
    checkpoint: watch::Sender<u64>,
    recent: Mutex<VecDeque<Arc<StoredEntry>>>,
    notes: Mutex<Notes>,
    /// Rung when a transaction could not commit its events, so that the writer finds out when the store is well again.
    pub(crate) probe: Notify,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    pub(crate) file: Option<Position>,
    pub(crate) file_error: Option<String>,
    pub(crate) anchor_error: Option<String>,
    pub(crate) checkpoint_error: Option<String>,
}

impl Shared {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: watch::Sender::new(AuditState::Stopped),
            head: watch::Sender::new(Position(0)),
            checkpoint: watch::Sender::new(0),
            recent: Mutex::new(VecDeque::new()),
            notes: Mutex::new(Notes::default()),
            probe: Notify::new(),
        }
    }

    pub(crate) fn start(&self, head: Position, checkpoint: u64) {
        self.head.send_replace(head);
        self.checkpoint.send_replace(checkpoint);
        self.state.send_replace(AuditState::Writing);
    }

    pub(crate) fn stop(&self) {
        self.state.send_replace(AuditState::Stopped);
    }

    /// Notes a failed commit; the first one's time stays.
    pub(crate) fn fail(&self, reason: String) {
        self.state.send_if_modified(|state| match state {
            AuditState::Stopped => false,
            AuditState::Writing => {
                tracing::error!(reason, "cannot write the audit; what must be audited is refused");
                *state = AuditState::Failing { reason: reason.clone(), since: self.clock.now() };
                true
            }
            AuditState::Failing { reason: known, .. } => {
                let changed = *known != reason;
                known.clone_from(&reason);
                changed
            }
        });
    }

    pub(crate) fn recover(&self) {
        self.state.send_if_modified(|state| {
            let failing = matches!(state, AuditState::Failing { .. });
            if failing {
                tracing::info!("write the audit again");
                *state = AuditState::Writing;
            }
            failing
        });
    }

    pub(crate) fn state(&self) -> AuditState {
        self.state.borrow().clone()
    }

    pub(crate) fn watch_state(&self) -> watch::Receiver<AuditState> {
        self.state.subscribe()
    }

    pub(crate) fn admit(&self) -> Result<(), AuditUnavailable> {
        match &*self.state.borrow() {
            AuditState::Writing => Ok(()),
            AuditState::Stopped => Err(AuditUnavailable::Stopped),
            AuditState::Failing { reason, .. } => {
                Err(AuditUnavailable::Failing { reason: reason.clone() })
            }
        }
    }

    /// Tells followers of durable entries; called in the order of the trail, while the writer's turn is held.
    pub(crate) fn publish(&self, entries: Vec<Arc<StoredEntry>>, last: Position) {
        {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            let follows = |(newest, first): (&Arc<StoredEntry>, &Arc<StoredEntry>)| {
                newest.position.0.saturating_add(1) == first.position.0
            };
            if !recent.back().zip(entries.first()).is_none_or(follows) {
                recent.clear();
            }
            recent.extend(entries);
            let surplus = recent.len().saturating_sub(RECENT);
            recent.drain(..surplus);
        }
        self.head.send_replace(last);
    }

    /// Tells followers of entries that became durable without [`Self::publish`]: their caller went away meanwhile.
    pub(crate) fn catch_up(&self, last: Position, checkpoint: u64) {
        self.head.send_if_modified(|head| std::mem::replace(head, last) != last);
        self.checkpoint.send_if_modified(|seq| std::mem::replace(seq, checkpoint) != checkpoint);
    }

    pub(crate) fn publish_checkpoint(&self, seq: u64) {
        self.checkpoint.send_replace(seq);
    }

    pub(crate) fn head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    pub(crate) fn checkpoint(&self) -> watch::Receiver<u64> {
        self.checkpoint.subscribe()
    }

    /// The entries after a position, if memory still has all of them.
    pub(crate) fn recent_after(
        &self,
        position: Position,
        limit: usize,
    ) -> Option<Vec<Arc<StoredEntry>>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let first = recent.front()?.position;
        let skip = usize::try_from(position.0.checked_add(1)?.checked_sub(first.0)?).ok()?;
        (skip < recent.len()).then(|| recent.iter().skip(skip).take(limit).cloned().collect())
    }

    pub(crate) fn note(&self, change: impl FnOnce(&mut Notes)) {
        change(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn notes(&self) -> Notes {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
