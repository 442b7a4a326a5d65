//! Signing in while the audit cannot be written, to find out why: admins and operators, at a terminal, for some
//! minutes, to look and not to change. What they do is written into the audit's reserve on the disk, which has few
//! places; when those are taken, it is refused as everything else.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use nullius_access::{hub_roles, session::sign_in as begin_session};
use nullius_model::{
    AuditEvent, AuditKind, AuditOutcome, HubRole, Identity, Principal, Proof, SessionId, Ttl,
    UserName,
};
use nullius_pki::random_bits;
use nullius_store::{AuditUnavailable, Share, StoreError};

use super::{SignInRefusal, session::Opening};
use crate::{
    Client, Hub, LiveSession, SignInOutcome,
    limits::lock,
    logins::Proven,
    session_end::chain,
    sessions::session_settings,
    web::{Call, Problem},
};

/// How long such a session lives.
const LIFE: Ttl = Ttl::from_secs(15 * 60);
/// The fact that keeps a code from being used again, also after a restart.
const STEP: &str = "totp-step";

/// Codes that were used up while the store took nothing.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    steps: Mutex<BTreeMap<UserName, u64>>,
}

impl Repairs {
    /// Uses up a code: false where it, or a later one, was used before.
    pub(super) fn claim(&self, user: &UserName, step: u64) -> bool {
        let mut steps = lock(&self.steps);
        let newer = steps.get(user).is_none_or(|last| *last < step);
        if newer {
            steps.insert(user.clone(), step);
        }
        newer
    }

    /// The newest code that was used up so.
    pub(super) fn step_of(&self, user: &UserName) -> Option<u64> {
        lock(&self.steps).get(user).copied()
    }
}

impl Hub {
    /// Whether the audit is refused because the store does not take it.
    fn audit_fails(&self) -> bool {
        matches!(self.audit.check(), Err(AuditUnavailable::Failing { .. }))
    }

    /// Whether somebody may sign in to look at a hub whose audit cannot be written.
    pub(super) fn may_repair(&self, user: &UserName, proof: &Proof) -> bool {
        if !self.audit_fails() {
            return false;
        }
        let (snapshot, now) = (self.snapshot(), self.now());
        let identity = Identity {
            user: user.clone(),
            groups: snapshot.groups_of(user),
            session: SessionId::from_bits(0),
            proof: proof.clone(),
            signed_in_at: now,
            expires_at: LIFE.after(now),
        };
        repairs(&hub_roles(&snapshot, &identity, now))
    }

    /// Whether a session that could not be stored may be one for looking instead.
    pub(super) fn may_begin_repair(&self, opening: &Opening) -> bool {
        let Proven { user, proof } = &opening.proven;
        opening.client == Client::Terminal && self.may_repair(user, proof)
    }

    /// Opens a session for looking, in memory alone; its sign-in stands in the reserve first.
    pub(super) async fn begin_repair(
        &self,
        opening: Opening,
        call: &Call,
    ) -> Result<Arc<LiveSession>, SignInRefusal> {
        let Opening { proven, mark, .. } = opening;
        let now = self.this_second();
        let client = Client::Repair;
        let settings = session_settings(client, &self.settings.lifetimes);
        let (mut state, _) = begin_session(proven.proof.clone(), mark, now, &settings);
        state.expires_at = state.expires_at.min(LIFE.after(now));
        let id = SessionId::from_bits(random_bits());
        let mut event = self.event_of(call, AuditKind::SignIn, AuditOutcome::Done);
        event.principal = Principal::Person { user: proven.user.clone() };
        event.session = Some(id.clone());
        event.facts.insert("client".to_owned(), client.as_str().to_owned());
        event.facts.insert("expires".to_owned(), state.expires_at.to_string());
        if let Some(step) = self.repairs.step_of(&proven.user) {
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
    ) -> Result<(), Problem> {
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

    /// Refuses what a session that is for looking asks for beyond that.
    pub(crate) fn not_for_looking(&self, identity: &Identity) -> Result<(), Problem> {
        let session = self.sessions.find(&identity.session);
        if session.is_none_or(|session| session.client() != Client::Repair) {
            return Ok(());
        }
        let message =
            "this session was opened while the audit could not be written: it is for looking only";
        Err(Problem::refused(message)
            .next("when the hub is ready again, sign in anew: `nullius login`"))
    }

    /// Takes up the codes that stood in the reserve when the hub started.
    pub(crate) fn load_repairs(&self) {
        for event in self.audit.found_in_reserve() {
            let step = event.facts.get(STEP).and_then(|step| step.parse().ok());
            if let (Principal::Person { user }, Some(step)) = (&event.principal, step) {
                self.repairs.claim(user, step);
            }
        }
    }

    /// Stores the codes that were used up in memory, once the store takes them.
    pub(crate) async fn settle_repairs(&self) {
        let waiting: Vec<_> = {
            let steps = lock(&self.repairs.steps);
            steps.iter().map(|(user, step)| (user.clone(), *step)).collect()
        };
        for (user, step) in waiting {
            if let Err(error) = self.claim_in_store(&user, step).await {
                tracing::warn!(error = %chain(&error), "could not store a used code yet");
                return;
            }
            let mut steps = lock(&self.repairs.steps);
            if steps.get(&user) == Some(&step) {
                steps.remove(&user);
            }
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
