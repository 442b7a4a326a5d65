//! Ends sessions: refused first, then streams cut and credentials flushed, then recorded.

use std::sync::Arc;

use nullius_access::{Caller, judge_standing};
use nullius_model::{AuditKind, AuditOutcome, Principal, Reason, SessionId};
use nullius_store::StoreError;

use crate::{
    Hub, LiveSession, SessionEndCause,
    lock::lock,
    record::{Occasion, chain},
};

impl Hub {
    /// Ends a session for a reason of the hub's own.
    ///
    /// That cannot fail: it is refused from here on. What the store does not take is kept and stored later.
    pub async fn end_session(self: &Arc<Self>, session: &SessionId, why: SessionEndCause) {
        self.finish(session, why, Principal::Hub, None).await;
    }

    /// Ends a session for somebody.
    pub(crate) async fn end_session_by(
        self: &Arc<Self>,
        session: &SessionId,
        why: SessionEndCause,
        by: Principal,
        occasion: &Occasion,
    ) {
        self.finish(session, why, by, Some(occasion)).await;
    }

    /// Refuses the session from here on; the rest goes on also when the caller goes away.
    async fn finish(
        self: &Arc<Self>,
        id: &SessionId,
        why: SessionEndCause,
        by: Principal,
        occasion: Option<&Occasion>,
    ) {
        let session = self.sessions.remove(id);
        self.memory.browser_sessions.forget(id);
        let (hub, id, occasion) = (Arc::clone(self), id.clone(), occasion.cloned());
        let rest = tokio::spawn(async move {
            // Streams are cut while the end is written: neither waits for the other.
            let record = hub.record_end(&id, session.as_deref(), why, by, occasion.as_ref());
            let ((), recorded) = tokio::join!(hub.clusters.flush(&hub, &id), record);
            if let Err(error) = recorded {
                tracing::error!(error = %chain(&error), session = %id, "store a session's end later");
                lock(&hub.memory.unrecorded_ends).insert(id, why);
            }
        });
        if let Err(error) = rest.await {
            tracing::error!(%error, "could not finish ending a session");
        }
    }

    async fn record_end(
        &self,
        id: &SessionId,
        session: Option<&LiveSession>,
        why: SessionEndCause,
        by: Principal,
        occasion: Option<&Occasion>,
    ) -> Result<(), StoreError> {
        let now = self.now();
        let mut event = match occasion {
            Some(occasion) => self.event_of(occasion, AuditKind::SessionEnd, AuditOutcome::Done),
            None => self.own_event(AuditKind::SessionEnd, AuditOutcome::Done),
        };
        event.principal = by;
        event.session = Some(id.clone());
        event.facts.insert("reason".to_owned(), why.as_str().to_owned());
        if let Some(session) = session {
            event.target = Some(format!("User/{}", session.user()));
        }
        if why == SessionEndCause::Reused {
            self.metrics.alarm();
            let mut alarm = event.clone();
            alarm.kind = AuditKind::Alarm;
            alarm.outcome = AuditOutcome::Denied;
            self.note(alarm).await;
        }
        // The end counts even when it cannot be told: a session must not come back with the next start.
        let mut tx = self.store.begin().await?;
        let ended = tx.sessions().end(id, why.stored(), now).await?;
        if ended.is_none() && session.is_none() {
            return tx.rollback().await;
        }
        tx.audit(&event)?;
        match tx.commit().await {
            Ok(_) => Ok(()),
            Err(StoreError::Audit(error)) => {
                tracing::warn!(%error, session = %id, "ended a session without an audit event");
                let mut tx = self.store.begin().await?;
                tx.sessions().end(id, why.stored(), now).await?;
                tx.commit().await.map(|_| ())
            }
            Err(error) => Err(error),
        }
    }

    /// Stores the ends that could not be stored when they came, so that no session is back after the next start.
    pub(crate) async fn retry_ends(&self) {
        let waiting: Vec<_> =
            lock(&self.memory.unrecorded_ends).iter().map(|(id, why)| (id.clone(), *why)).collect();
        for (id, why) in waiting {
            let stored = self.record_end(&id, None, why, Principal::Hub, None).await;
            if stored.is_err() {
                return;
            }
            lock(&self.memory.unrecorded_ends).remove(&id);
        }
    }

    /// Makes live sessions be as the newest objects say: those of people who are gone end, the others get new plans.
    pub(crate) async fn settle_sessions(self: &Arc<Self>) {
        let now = self.now();
        let snapshot = self.snapshot();
        let mut ended = Vec::new();
        for session in self.sessions.all() {
            let identity = session.identity(&snapshot);
            let stopped = judge_standing(&snapshot, &Caller::new(&identity), now);
            match stopped.map(|judgement| judgement.reason()) {
                Some(Reason::UserGone) => {
                    ended.push((session.id().clone(), SessionEndCause::UserGone));
                }
                Some(Reason::SessionEnded) => {
                    ended.push((session.id().clone(), SessionEndCause::Expired));
                }
                Some(_) | None => {}
            }
        }
        self.end_all(ended).await;
        self.clusters.replan(self).await;
    }

    /// Ends many sessions side by side: none waits for the cluster of another.
    pub(crate) async fn end_all(self: &Arc<Self>, ended: Vec<(SessionId, SessionEndCause)>) {
        // All are refused before the first is flushed.
        for (id, _) in &ended {
            self.sessions.condemn(id);
        }
        futures::future::join_all(ended.iter().map(|(id, why)| self.end_session(id, *why))).await;
    }
}
