//! What occurred, merged: the second normal form of the loop (permissions are the first).

use serde::{Deserialize, Serialize};

use crate::{AuditId, PermissionId, Timestamp};

/// The plane in which a decision fell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plane {
    /// People and tools at Kubernetes API servers.
    Access,
    /// The hub's own objects.
    Hub,
    /// What may enter a cluster.
    Admission,
    /// What a cluster's own authorizers let anybody do.
    Rbac,
    /// Calls between workloads.
    Mesh,
}

impl Plane {
    /// The plane as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Hub => "hub",
            Self::Admission => "admission",
            Self::Rbac => "rbac",
            Self::Mesh => "mesh",
        }
    }
}

/// What makes two uses the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UseKey {
    /// The plane.
    pub plane: Plane,
    /// Who, as [`crate::Principal::label`].
    pub principal: String,
    /// Where: a cluster's name, or `hub`.
    pub cluster: String,
    /// The verb.
    pub action: String,
    /// `group/resource/subresource` and namespace, for example `apps/deployments@shop`; never an object's name.
    pub resource: String,
    /// Whether it was allowed.
    pub allowed: bool,
    /// The permission that allowed it, or the nearest that would have.
    pub permission: Option<PermissionId>,
}

impl UseKey {
    /// What stands for place, verb and resource where somebody did too many different things to keep each apart.
    pub const FOLDED: &str = "(other)";

    /// The same principal, permission and outcome, with all else unknown. No cluster has this name, so that whoever
    /// asks what was never used reads an `unknown` here and no `no`.
    #[must_use]
    pub fn folded(&self) -> Self {
        let folded = || Self::FOLDED.to_owned();
        Self { cluster: folded(), action: folded(), resource: folded(), ..self.clone() }
    }

    /// The same plane, cluster, permission and outcome, with all else unknown: where a cluster told of too many
    /// different uses to keep each apart.
    #[must_use]
    pub fn folded_in_cluster(&self) -> Self {
        let folded = || Self::FOLDED.to_owned();
        Self { principal: folded(), action: folded(), resource: folded(), ..self.clone() }
    }
}

/// A merged use: exact count, first and last, and one event that shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Use {
    /// What makes it this use.
    #[serde(flatten)]
    pub key: UseKey,
    /// First time in the period.
    pub first: Timestamp,
    /// Last time.
    pub last: Timestamp,
    /// How often; exact.
    pub count: u64,
    /// An audit event of this use.
    pub sample: AuditId,
}
