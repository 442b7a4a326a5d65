//! Whether somebody may do something at the hub: decided by `policy` against the newest objects, counted as a use, and
//! written down where the answer is no.

use nullius_access::{Caller, HubAction, Snapshot, judge_standing};
use nullius_model::{
    AuditKind, AuditOutcome, Explanation, Identity, Kind, PermissionId, Plane, Proof, SessionId,
    Timestamp, UserName,
};
use nullius_policy::{HubDecision, HubPermit, decide_hub};
use nullius_store::StoreError;

use crate::{Client, Hub, UseRef, record::Occasion};

/// Why somebody who is signed in does not get what they ask for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// A decision said no.
    #[error("{}", .0.sentence)]
    Denied(Explanation),
    /// The session sees, and changes nothing.
    #[error("this session was opened while the audit could not be written: it is for looking only")]
    ForLooking,
    /// What must be recorded could not be.
    #[error("the audit cannot be written, so nothing is changed")]
    Unrecorded,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the hub could not do this because of a fault of its own")]
    Fault(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Refusal {
    pub(crate) fn fault(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Fault(Box::new(error))
    }
}

impl Hub {
    /// Decides on an action at the hub, counts the use, and records a denial.
    pub(crate) async fn allow(
        &self,
        identity: &Identity,
        action: &HubAction<'_>,
        occasion: &Occasion,
    ) -> Result<HubPermit, Refusal> {
        self.allow_in(&self.snapshot(), identity, action, occasion).await
    }

    /// The same as if the objects were those of a snapshot.
    pub(crate) async fn allow_in(
        &self,
        snapshot: &Snapshot,
        identity: &Identity,
        action: &HubAction<'_>,
        occasion: &Occasion,
    ) -> Result<HubPermit, Refusal> {
        if action.verb().is_change() {
            self.not_for_looking(identity)?;
        }
        let decided = self.decide(snapshot, identity, action, occasion);
        let HubDecision { explanation, permission, .. } = &decided;
        let (explanation, permission) = (explanation.clone(), permission.clone());
        match decided.into_result() {
            Ok(permit) => Ok(permit),
            Err(denial) => {
                let permission = permission.as_ref();
                self.note_denial(identity, action, occasion, &explanation, permission).await;
                Err(Refusal::Denied(denial.explanation().clone()))
            }
        }
    }

    fn decide(
        &self,
        snapshot: &Snapshot,
        identity: &Identity,
        action: &HubAction<'_>,
        occasion: &Occasion,
    ) -> HubDecision {
        let caller = Caller { identity, source: Some(occasion.source) };
        let now = self.now();
        let decided = decide_hub(snapshot, &caller, action, now);
        let principal = caller.principal().label();
        let resource = action.kind().map_or("hub", Kind::plural);
        let used = UseRef {
            plane: Plane::Hub,
            principal: &principal,
            cluster: "hub",
            action: action.verb().as_str(),
            resource,
            allowed: decided.is_allowed(),
            permission: decided.permission.as_ref(),
        };
        self.usage.record(used, now, &occasion.id);
        decided
    }

    async fn note_denial(
        &self,
        identity: &Identity,
        action: &HubAction<'_>,
        occasion: &Occasion,
        explanation: &Explanation,
        permission: Option<&PermissionId>,
    ) {
        let kind =
            if action.verb().is_change() { AuditKind::ObjectChange } else { AuditKind::Read };
        let mut event = self.event_of_person(identity, occasion, kind, AuditOutcome::Denied);
        event.permission = permission.cloned();
        event.explanation = Some(explanation.clone());
        event.target = target_of(action);
        event.facts.insert("verb".to_owned(), action.verb().to_string());
        self.note(event).await;
    }

    /// Refuses what must be recorded while nothing can be.
    pub(crate) fn audit_works(&self) -> Result<(), Refusal> {
        if self.audit.check().is_ok() {
            return Ok(());
        }
        self.metrics.audit_refusal();
        Err(Refusal::Unrecorded)
    }

    /// Refuses what a session that is for looking asks for beyond that.
    pub(crate) fn not_for_looking(&self, identity: &Identity) -> Result<(), Refusal> {
        let session = self.sessions.find(&identity.session);
        match session.is_some_and(|session| session.client() == Client::Repair) {
            true => Err(Refusal::ForLooking),
            false => Ok(()),
        }
    }

    /// Why a person may do nothing at all, session or not: gone, or locked.
    pub(crate) fn standing(&self, identity: &Identity, now: Timestamp) -> Result<(), Explanation> {
        match judge_standing(&self.snapshot(), &Caller::new(identity), now) {
            Some(judgement) => Err(judgement.explanation),
            None => Ok(()),
        }
    }
}

/// A person as if they had signed in this moment.
pub(crate) fn as_if_signed_in(
    snapshot: &Snapshot,
    user: &UserName,
    proof: Proof,
    now: Timestamp,
    expires_at: Timestamp,
) -> Identity {
    Identity {
        user: user.clone(),
        groups: snapshot.groups_of(user),
        session: SessionId::from_bits(0),
        proof,
        signed_in_at: now,
        expires_at,
    }
}

fn target_of(action: &HubAction<'_>) -> Option<String> {
    match (action.kind(), action.name()) {
        (Some(kind), Some(name)) => Some(format!("{kind}/{name}")),
        (Some(kind), None) => Some(kind.to_string()),
        (None, Some(name)) => match action {
            HubAction::IssueJoinToken { .. } | HubAction::RotateTrust { .. } => {
                Some(format!("Cluster/{name}"))
            }
            _ => Some(format!("User/{name}")),
        },
        (None, None) => None,
    }
}
