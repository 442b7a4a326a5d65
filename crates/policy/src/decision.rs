//! The outcome of every decision: a permit or a denial, the permission, why, and what goes with it.

use nullius_access::Obligation;
use nullius_model::{Explanation, KubeStatus, PermissionId, Reason};

use crate::{AdmissionPermit, HubPermit, KubePermit, ReviewPermit};

/// What was decided. `P` is the permit that an allowed request carries.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Decision<P> {
    /// Allowed with a permit, or denied.
    pub verdict: Verdict<P>,
    /// The permission that allowed it, or the nearest that would have.
    pub permission: Option<PermissionId>,
    /// Why.
    pub explanation: Explanation,
    /// What whoever enforces it must do as well.
    pub obligations: Vec<Obligation>,
}

/// Allowed with a permit, or denied.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<P> {
    /// It may be done, with this proof.
    Allow(P),
    /// It may not.
    Deny(Denial),
}

/// A decision on a request to a cluster.
pub type KubeDecision = Decision<KubePermit>;
/// A decision on an action at the hub.
pub type HubDecision = Decision<HubPermit>;
/// A decision on a question about oneself.
pub type ReviewDecision = Decision<ReviewPermit>;

/// A decision on what enters a cluster.
pub type AdmissionDecision = Decision<AdmissionPermit>;

/// A refusal, as an error with what a person needs to act on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{explanation}")]
pub struct Denial {
    pub(crate) explanation: Explanation,
    pub(crate) permission: Option<PermissionId>,
    pub(crate) step_up: StepUp,
}

/// Whether a fresh factor would lift a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepUp {
    /// It would.
    Helps,
    /// It would not.
    DoesNotHelp,
}

impl<P> Decision<P> {
    /// Whether it is allowed.
    pub fn is_allowed(&self) -> bool {
        matches!(self.verdict, Verdict::Allow(_))
    }

    /// The permit, or the denial as an error.
    pub fn into_result(self) -> Result<P, Denial> {
        match self.verdict {
            Verdict::Allow(permit) => Ok(permit),
            Verdict::Deny(denial) => Err(denial),
        }
    }
}

impl Denial {
    /// Why.
    pub fn explanation(&self) -> &Explanation {
        &self.explanation
    }

    /// The named reason.
    pub fn reason(&self) -> Reason {
        self.explanation.reason
    }

    /// The nearest permission that would have allowed it.
    pub fn permission(&self) -> Option<&PermissionId> {
        self.permission.as_ref()
    }

    /// Whether a fresh factor would lift it.
    pub fn step_up(&self) -> StepUp {
        self.step_up
    }

    /// The HTTP status code that tells it.
    pub fn http_status(&self) -> u16 {
        match self.explanation.reason {
            Reason::SessionEnded | Reason::UserGone => 401,
            Reason::UnknownCluster => 404,
            Reason::Unreadable
            | Reason::ForgedIdentity
            | Reason::UndeclaredPath
            | Reason::UndeclaredMethod
            | Reason::BadParameter
            | Reason::BadBody => 400,
            Reason::BodyTooLarge => 413,
            Reason::StaleState => 503,
            Reason::NoGrant
            | Reason::NoHubRole
            | Reason::Locked
            | Reason::ProtectedNamespace
            | Reason::FactorTooOld
            | Reason::SelfGrant
            | Reason::Escalation
            | Reason::ApiServerRefused
            | Reason::PolicyRefused
            | Reason::IntentionRefused
            | Reason::NoIntention
            | Reason::NoPermission
            | Reason::NotHttp
            | Reason::Unauthenticated
            | Reason::UnknownReference
            | Reason::ConditionFailed
            | Reason::MeshRefused => 403,
            // Reasons of an allowed request; a denial never carries one.
            Reason::GrantMatched
            | Reason::HubRoleMatched
            | Reason::SignedIn
            | Reason::PolicyPassed
            | Reason::IntentionMatched
            | Reason::Permissive => 403,
        }
    }

    /// The denial as Kubernetes clients show it.
    pub fn kube_status(&self) -> KubeStatus {
        KubeStatus::failure(self.http_status(), self.explanation.to_string())
    }
}
