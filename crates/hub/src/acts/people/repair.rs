//! Signing in while the audit cannot be written, to find out why: admins and operators, at a terminal, for some
//! minutes, to look and not to change. What they do is written into the audit's reserve on the disk, which has few
//! places; when those are taken, it is refused as everything else.

use std::{collections::BTreeMap, sync::Arc};

use nullius_access::{
    hub_roles,
    session::{ClientMark, sign_in as begin_session},
};
use nullius_model::{
    AuditEvent, AuditKind, AuditOutcome, HubRole, Identity, Principal, Proof, SessionId, Ttl,
    UserName,
};
use nullius_pki::random_bits;
use nullius_store::{AuditUnavailable, Share, StoreError};

use super::{Proven, SignInRefusal};
use crate::{
    Client, Hub, LiveSession, SignInOutcome,
    decide::{Refusal, as_if_signed_in},
    record::{Occasion, chain},
};

/// How long such a session lives.
const LIFE: Ttl = Ttl::from_secs(15 * 60);
/// The fact that keeps a code from being used again, also after a restart.
const STEP: &str = "totp-step";

impl Hub {
    /// Whether the audit is refused because the store does not take it.
    fn audit_fails(&self) -> bool {
        matches!(self.audit.check(), Err(AuditUnavailable::Failing { .. }))
    }

    /// Whether somebody may sign in to look at a hub whose audit cannot be written.
    pub(crate) fn may_repair(&self, user: &UserName, proof: &Proof) -> bool {
        if !self.audit_fails() {
            return false;
        }
        let (snapshot, now) = (self.snapshot(), self.now());
        let identity = as_if_signed_in(&snapshot, user, proof.clone(), now, LIFE.after(now));
        repairs(&hub_roles(&snapshot, &identity, now))
    }

    /// Opens a session for looking, in memory alone; its sign-in stands in the reserve first.
    pub(crate) async fn begin_repair(
        &self,
        proven: Proven,
        mark: ClientMark,
        occasion: &Occasion,
    ) -> Result<Arc<LiveSession>, SignInRefusal> {
        let now = self.this_second();
        let client = Client::Repair;
        let settings = client.settings(&self.settings.lifetimes);
        let (mut state, _) = begin_session(proven.proof.clone(), mark, now, &settings);
        state.expires_at = state.expires_at.min(LIFE.after(now));
        let id = SessionId::from_bits(random_bits());
        let mut event = self.event_of(occasion, AuditKind::SignIn, AuditOutcome::Done);
        event.principal = Principal::Person { user: proven.user.clone() };
        event.session = Some(id.clone());
        event.facts.insert("client".to_owned(), client.as_str().to_owned());
        event.facts.insert("expires".to_owned(), state.expires_at.to_string());
        if let Some(step) = self.memory.repairs.step_of(&proven.user) {
            event.facts.insert(STEP.to_owned(), step.to_string());
        }
        let written = self.audit.write_in_reserve(&event, Share::SignIns).await;
        written.map_err(|error| SignInRefusal::Unrecorded(Box::new(error)))?;
        tracing::warn!(user = %proven.user, session = %id, "let somebody look while the audit cannot be written");
        self.metrics.sign_in(SignInOutcome::Opened);
        let session = self.sessions.insert(LiveSession::new(id, proven.user, client, state));
        self.time_changed.notify_one();
        Ok(session)
    }

    /// Writes that somebody reads the audit. While it cannot be written, admins and operators may read on as far as the
    /// reserve goes, and nobody else.
    pub(crate) async fn record_read(
        &self,
        event: &AuditEvent,
        identity: &Identity,
    ) -> Result<(), Refusal> {
        let Err(error) = self.audit.write(event).await else { return Ok(()) };
        let (snapshot, now) = (self.snapshot(), self.now());
        let refused = if self.audit_fails() && repairs(&hub_roles(&snapshot, identity, now)) {
            match self.audit.write_in_reserve(event, Share::Reads).await {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            }
        } else {
            error
        };
        self.metrics.audit_refusal();
        Err(StoreError::Audit(refused).into())
    }

    /// Takes up the codes that stood in the reserve when the hub started.
    pub(crate) fn load_repairs(&self) {
        for event in self.audit.found_in_reserve() {
            let step = event.facts.get(STEP).and_then(|step| step.parse().ok());
            if let (Principal::Person { user }, Some(step)) = (&event.principal, step) {
                self.memory.repairs.claim(user, step);
            }
        }
    }

    /// Stores the codes that were used up in memory, once the store takes them.
    pub(crate) async fn settle_repairs(&self) {
        for (user, step) in self.memory.repairs.all() {
            if let Err(error) = self.claim_in_store(&user, step).await {
                tracing::warn!(error = %chain(&error), "could not store a used code yet");
                return;
            }
            self.memory.repairs.settle(&user, step);
        }
    }
}

/// Whether hub roles are of those who mend the hub.
fn repairs<T>(roles: &BTreeMap<HubRole, T>) -> bool {
    roles.keys().any(|role| match role {
        HubRole::Admin | HubRole::Operator => true,
        HubRole::Approver | HubRole::Auditor => false,
    })
}
