//! Proves the second factor of a session anew, for what asks for a fresh one.

use nullius_access::session::{Event, Phase, advance};
use nullius_model::{AuditKind, AuditOutcome, Identity};

use super::Stored;
use crate::{Hub, acts::people::SignInRefusal, record::Occasion};

impl Hub {
    /// Takes a code for a session; a wrong one is counted as an attempt to sign in.
    pub(crate) async fn step_up(
        &self,
        identity: &Identity,
        code: &str,
        occasion: &Occasion,
    ) -> Result<(), SignInRefusal> {
        let outcome = self.try_step_up(identity, code, occasion).await;
        if let Err((reason, _)) = &outcome {
            let (kind, denied) = (AuditKind::StepUp, AuditOutcome::Denied);
            let mut event = self.event_of_person(identity, occasion, kind, denied);
            event.facts.insert("reason".to_owned(), (*reason).to_owned());
            self.note(event).await;
        }
        outcome.map_err(|(_, refusal)| refusal)
    }

    async fn try_step_up(
        &self,
        identity: &Identity,
        code: &str,
        occasion: &Occasion,
    ) -> Result<(), (&'static str, SignInRefusal)> {
        let now = self.this_second();
        let user = &identity.user;
        let fault = |refusal: SignInRefusal| ("fault", refusal);
        self.count_attempt(user.as_str(), occasion.source, now)
            .await
            .map_err(|seconds| ("held-back", SignInRefusal::Wait(seconds)))?;
        let factors = self.factors(user).await.map_err(fault)?;
        let factors = factors.ok_or(("unknown-user", SignInRefusal::WrongCode))?;
        let code: String = code.split_whitespace().collect();
        let checked = nullius_authn::step_up(&factors.borrowed(), &code, now);
        let proven = checked.map_err(|error| (error.reason.as_str(), SignInRefusal::WrongCode))?;
        let claimed = self.claim_in_store(user, proven.totp_step).await;
        if !claimed.map_err(|error| fault(error.into()))? {
            return Err(("code-replayed", SignInRefusal::WrongCode));
        }
        self.count_success(user.as_str(), occasion.source, now).await;
        let ended = || ("session-ended", SignInRefusal::WrongCode);
        let session = self.sessions.find(&identity.session).ok_or_else(ended)?;
        let _turn = session.turn.lock().await;
        let settings = session.client().settings(&self.settings.lifetimes);
        let event = Event::StepUp { factors: proven.factors };
        let (after, _) = advance(session.state(), &event, now, &settings);
        if let Phase::Ended { .. } = after.phase {
            return Err(ended());
        }
        let persisted = self.persist(&session, Stored::SteppedUp(&after), occasion).await;
        if !persisted.map_err(|error| fault(error.into()))? {
            return Err(ended());
        }
        session.replace(after);
        Ok(())
    }
}
