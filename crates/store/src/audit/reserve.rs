//! The reserve as writer and hub share it: events go in while the trail fails, and come out with its next commit.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use nullius_model::{AuditEvent, AuditKind, AuditOutcome, Principal, Timestamp};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    AuditState, AuditUnavailable, Encoded, Shared,
    spool::{Share, Spool},
};
use crate::{StoreError, Tx, error::During as _, row::Columns};

/// The reserve; clones share it. Where there is no file it has no places.
#[derive(Clone)]
pub(crate) struct Reserve {
    inner: Arc<Inner>,
}

struct Inner {
    spool: Arc<Mutex<Option<Spool>>>,
    /// What stood in it when the trail was started.
    found: Vec<AuditEvent>,
    /// Whether something stands in it, or was lost: without either nobody takes the lock.
    used: AtomicBool,
    /// Events that found no place anywhere.
    lost: AtomicU64,
}

/// Where an event was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// On the disk, in the reserve.
    InReserve,
    /// Nowhere: the trail takes events.
    Nowhere,
}

/// What comes out of the reserve in one commit; nothing goes in meanwhile.
pub(crate) struct TakenOut {
    reserve: Reserve,
    spool: Option<OwnedMutexGuard<Option<Spool>>>,
    lost: u64,
}

impl Reserve {
    /// Opens the reserve at a path. One that cannot be used is missed only when it is needed, and told of now.
    pub(crate) fn open(path: Option<&Path>) -> Self {
        let spool = path.and_then(|path| match Spool::open(path) {
            Ok(spool) => Some(spool),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "there is no reserve for a full disk");
                None
            }
        });
        let found = spool.as_ref().map(|spool| spool.events().to_vec()).unwrap_or_default();
        let used = AtomicBool::new(spool.as_ref().is_some_and(|spool| !spool.is_empty()));
        let spool = Arc::new(Mutex::new(spool));
        Self { inner: Arc::new(Inner { spool, found, used, lost: AtomicU64::new(0) }) }
    }

    /// What stood in it when it was opened.
    pub(crate) fn found(&self) -> &[AuditEvent] {
        &self.inner.found
    }

    /// Whether something waits to go into the trail.
    pub(crate) fn is_used(&self) -> bool {
        self.inner.used.load(Ordering::Acquire)
    }

    /// Counts an event that was not taken while the trail failed.
    pub(crate) fn lose(&self) {
        self.inner.lost.fetch_add(1, Ordering::AcqRel);
        self.inner.used.store(true, Ordering::Release);
    }

    /// Puts an event on the disk while the trail fails.
    pub(crate) async fn put(
        &self,
        event: &AuditEvent,
        share: Share,
        shared: &Shared,
    ) -> Result<Kept, AuditUnavailable> {
        let mut spool = Arc::clone(&self.inner.spool).lock_owned().await;
        let reason = match shared.state() {
            AuditState::Writing => return Ok(Kept::Nowhere),
            AuditState::Stopped => return Err(AuditUnavailable::Stopped),
            AuditState::Failing { reason, .. } => reason,
        };
        let event = event.clone();
        // The work goes on to its end also when the caller goes away.
        let put = tokio::task::spawn_blocking(move || match spool.as_mut() {
            Some(spool) => spool.append(&event, share).map_err(|error| error.to_string()),
            None => Err("there is no reserve".to_owned()),
        });
        let put = put.await.unwrap_or_else(|error| Err(error.to_string()));
        match put {
            Ok(()) => {
                self.inner.used.store(true, Ordering::Release);
                Ok(Kept::InReserve)
            }
            Err(why) => {
                self.lose();
                Err(AuditUnavailable::Failing { reason: format!("{reason}; {why}") })
            }
        }
    }

    /// Takes out what stands in it, to be written into the trail.
    pub(crate) async fn take_out(&self) -> TakenOut {
        if !self.is_used() {
            return TakenOut { reserve: self.clone(), spool: None, lost: 0 };
        }
        let spool = Arc::clone(&self.inner.spool).lock_owned().await;
        let lost = self.inner.lost.load(Ordering::Acquire);
        TakenOut { reserve: self.clone(), spool: Some(spool), lost }
    }
}

impl TakenOut {
    /// The events in order, and one that tells of what was lost. What a process before wrote into the trail, and did not
    /// come to clear, is left out.
    pub(crate) async fn events(
        &self,
        tx: &mut Tx,
        now: Timestamp,
    ) -> Result<Vec<Encoded>, StoreError> {
        let mut encoded = Vec::new();
        let spool = self.spool.as_ref().and_then(|spool| spool.as_ref());
        for event in spool.map(Spool::events).unwrap_or_default() {
            if !(self.reserve.found().contains(event) && stands(tx, event).await?) {
                encoded.push(Encoded::new(event)?);
            }
        }
        let damaged = spool.map_or(0, Spool::damaged);
        if self.lost > 0 || damaged > 0 {
            encoded.push(Encoded::new(&gap(self.lost, damaged, now)?)?);
        }
        Ok(encoded)
    }

    /// Empties the reserve, once what came out of it is durable in the trail.
    pub(crate) fn clear(&mut self) {
        let Some(guard) = &mut self.spool else { return };
        if let Some(spool) = guard.as_mut()
            && !spool.is_empty()
            && let Err(error) = spool.clear()
        {
            // It stays as it is, and what stands in the trail already is left out the next time.
            tracing::warn!(%error, "cannot empty the audit's reserve");
            return;
        }
        let inner = &self.reserve.inner;
        let before = inner.lost.fetch_sub(self.lost, Ordering::AcqRel);
        inner.used.store(before > self.lost, Ordering::Release);
        self.lost = 0;
    }
}

/// Whether an event stands in the trail.
async fn stands(tx: &mut Tx, event: &AuditEvent) -> Result<bool, StoreError> {
    let rows = sqlx::query("SELECT body FROM audit_entries WHERE audit_id = $1")
        .bind(event.audit_id.as_str())
        .fetch_all(&mut tx.side().conn)
        .await
        .during("look for an event in the audit")?;
    for row in &rows {
        if Columns::new(row, "audit entry").json::<AuditEvent>("body")? == *event {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tells of events that were lost.
fn gap(lost: u64, damaged: usize, now: Timestamp) -> Result<AuditEvent, StoreError> {
    let audit_id = uuid::Uuid::new_v4().to_string().parse();
    let audit_id = audit_id.map_err(|error: nullius_model::ParseNameError| {
        StoreError::corrupt("Audit-ID")(error.into())
    })?;
    let facts = [
        ("what", "events could not be written down".to_owned()),
        ("not-taken", lost.to_string()),
        ("damaged", damaged.to_string()),
    ];
    let (kind, outcome) = (AuditKind::Lifecycle, AuditOutcome::Failed);
    let mut event = AuditEvent::new(audit_id, now, kind, outcome, Principal::Hub);
    event.target = Some("Audit".to_owned());
    event.facts.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    Ok(event)
}
