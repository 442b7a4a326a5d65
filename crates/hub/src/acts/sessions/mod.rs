//! Sessions of people: opened for somebody who is proven, renewed by their client, stepped up, looked at, ended.

mod credential;
mod end;
mod list;
mod open;
mod refresh;
mod step_up;
mod token;

pub(crate) use credential::CredentialRefusal;
pub(crate) use list::EndRefusal;
pub(crate) use refresh::RefreshRefusal;
pub(crate) use token::promised;

use nullius_access::session::SessionState;
use nullius_model::{AuditKind, AuditOutcome, Principal};
use nullius_store::{StoreError, TokenHash};

use crate::{Hub, LiveSession, record::Occasion};

/// What of a session is stored anew.
enum Stored<'a> {
    Rotated(&'a SessionState),
    SteppedUp(&'a SessionState),
}

impl Hub {
    /// Stores a changed session with the event that tells of it; false where somebody else was faster.
    async fn persist(
        &self,
        session: &LiveSession,
        change: Stored<'_>,
        occasion: &Occasion,
    ) -> Result<bool, StoreError> {
        let (id, now) = (session.id(), self.now());
        let kind = match change {
            Stored::Rotated(_) => AuditKind::Refresh,
            Stored::SteppedUp(_) => AuditKind::StepUp,
        };
        let mut event = self.event_of(occasion, kind, AuditOutcome::Done);
        event.principal = Principal::Person { user: session.user().clone() };
        event.session = Some(id.clone());
        let mut tx = self.store.begin().await?;
        if session.client().is_stored() {
            let written = match change {
                Stored::Rotated(after) => {
                    let hash = TokenHash::of(self.refresh_token(id, after.generation));
                    let (before, source) = (after.generation - 1, Some(occasion.source));
                    tx.sessions().rotate(id, before, &hash, source, now).await?
                }
                Stored::SteppedUp(after) => {
                    tx.sessions().step_up(id, &after.proof.factors, after.proof.factor_at).await?
                }
            };
            if written.is_none() {
                tx.rollback().await?;
                return Ok(false);
            }
        }
        tx.audit(&event)?;
        tx.commit().await?;
        Ok(true)
    }
}
