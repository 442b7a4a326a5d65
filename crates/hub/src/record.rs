//! What the hub writes into its audit: every event begins here, with who did it, on which occasion and from where.

use std::net::IpAddr;

use nullius_model::{AuditEvent, AuditId, AuditKind, AuditOutcome, Identity, Principal};
use nullius_policy::HubPermit;

use crate::Hub;

/// One call of somebody: the id under which the audit knows it, and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Occasion {
    pub(crate) id: AuditId,
    pub(crate) source: IpAddr,
}

impl Occasion {
    pub(crate) fn new(source: IpAddr) -> Self {
        Self { id: new_audit_id(), source }
    }
}

/// A new Audit-ID: a random UUID, as the API server makes them.
#[expect(clippy::expect_used, reason = "a UUID is made of the letters that an Audit-ID allows")]
pub(crate) fn new_audit_id() -> AuditId {
    uuid::Builder::from_random_bytes(nullius_pki::random_bytes())
        .into_uuid()
        .hyphenated()
        .to_string()
        .parse()
        .expect("a UUID is an Audit-ID")
}

impl Hub {
    /// An event of the hub itself, to be completed.
    pub(crate) fn own_event(&self, kind: AuditKind, outcome: AuditOutcome) -> AuditEvent {
        AuditEvent::new(new_audit_id(), self.now(), kind, outcome, Principal::Hub)
    }

    /// An event of an occasion, to be completed.
    pub(crate) fn event_of(
        &self,
        occasion: &Occasion,
        kind: AuditKind,
        outcome: AuditOutcome,
    ) -> AuditEvent {
        let (id, source) = (occasion.id.clone(), Some(occasion.source));
        AuditEvent { source, ..AuditEvent::new(id, self.now(), kind, outcome, Principal::Hub) }
    }

    /// An event of somebody who was not proven, with the name they gave.
    pub(crate) fn event_of_stranger(
        &self,
        claimed: &str,
        occasion: &Occasion,
        kind: AuditKind,
        reason: impl Into<String>,
    ) -> AuditEvent {
        let mut event = self.event_of(occasion, kind, AuditOutcome::Denied);
        event.principal = unproven(claimed);
        event.facts.insert("reason".to_owned(), reason.into());
        event
    }

    /// An event of a person with a session.
    pub(crate) fn event_of_person(
        &self,
        identity: &Identity,
        occasion: &Occasion,
        kind: AuditKind,
        outcome: AuditOutcome,
    ) -> AuditEvent {
        AuditEvent {
            principal: Principal::Person { user: identity.user.clone() },
            session: Some(identity.session.clone()),
            ..self.event_of(occasion, kind, outcome)
        }
    }

    /// An event of what a person was permitted to do.
    pub(crate) fn event_under(
        &self,
        permit: &HubPermit,
        identity: &Identity,
        occasion: &Occasion,
        kind: AuditKind,
        outcome: AuditOutcome,
    ) -> AuditEvent {
        AuditEvent {
            principal: permit.by().clone(),
            permission: permit.permission().cloned(),
            ..self.event_of_person(identity, occasion, kind, outcome)
        }
    }

    /// Writes an event of something that has happened already and cannot be undone for lack of an audit. What was
    /// refused to strangers is written within a budget, and beyond it counted: they must not fill the disk.
    pub(crate) async fn note(&self, mut event: AuditEvent) {
        let by_stranger = matches!(event.principal, Principal::Unproven { .. });
        if by_stranger && event.outcome == AuditOutcome::Denied {
            let Some(left_out) = self.strangers.take(&event.kind, event.at) else { return };
            if left_out > 0 {
                event.facts.insert("left-out-before".to_owned(), left_out.to_string());
            }
        }
        if let Err(error) = self.audit().write(&event).await {
            tracing::error!(%error, "cannot write an audit event");
        }
    }
}

/// Somebody who was not proven, with the name they gave, cut and escaped.
fn unproven(claimed: &str) -> Principal {
    Principal::Unproven {
        claimed: claimed.chars().take(128).flat_map(char::escape_debug).collect(),
    }
}

/// An error with its causes in one line, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
