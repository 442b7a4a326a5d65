//! An opinion on a request with its reasons, not yet a permit.

use nullius_model::{Explanation, PermissionId, Reason, Timestamp};

/// Whether something may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ruling {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// What whoever enforces a decision must do beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Obligation {
    /// Write the audit event before the effect is seen.
    Record,
    /// Ask the person for a fresh factor.
    StepUp,
    /// End what was allowed at this instant, or ask again.
    Expire(Timestamp),
}

/// An opinion with the permission it rests on, its explanation and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Judgement {
    /// Whether it may be done.
    pub ruling: Ruling,
    /// The permission that allows it, or the nearest that would have.
    pub permission: Option<PermissionId>,
    /// Why.
    pub explanation: Explanation,
    /// What goes with it.
    pub obligations: Vec<Obligation>,
}

impl Judgement {
    pub(crate) fn allow(permission: Option<PermissionId>, explanation: Explanation) -> Self {
        Self {
            ruling: Ruling::Allow,
            permission,
            explanation,
            obligations: vec![Obligation::Record],
        }
    }

    pub(crate) fn until(mut self, end: Timestamp) -> Self {
        self.obligations.push(Obligation::Expire(end));
        self
    }

    pub(crate) fn deny(explanation: Explanation) -> Self {
        Self {
            ruling: Ruling::Deny,
            permission: None,
            explanation,
            obligations: vec![Obligation::Record],
        }
    }

    pub(crate) fn nearest(mut self, permission: Option<PermissionId>) -> Self {
        self.permission = permission;
        self
    }

    pub(crate) fn with_step_up(mut self) -> Self {
        self.obligations.push(Obligation::StepUp);
        self
    }

    /// Whether it may be done.
    pub fn is_allowed(&self) -> bool {
        self.ruling == Ruling::Allow
    }

    /// The named reason.
    pub fn reason(&self) -> Reason {
        self.explanation.reason
    }
}
