//! The spec of a `NamespaceBaseline`: what namespaces get from the moment they are there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;

/// Namespaces that no baseline is for: nodes, cluster and agent must always come up again.
pub const BASELINE_NEVER: [&str; 5] =
    ["kube-node-lease", "kube-public", "kube-system", "nullius-sessions", "nullius-system"];
/// What the names of all objects begin with that baselines make.
pub const BASELINE_NAME: &str = "nullius-baseline";
/// The label of all objects that baselines make.
pub const BASELINE_LABEL: &str = "nullius.dev/baseline";
/// The label that says what a namespace is part of.
pub const ENVIRONMENT_LABEL: &str = "nullius.dev/environment";
/// The annotation that says which baselines an object or a namespace comes from.
pub const BASELINE_FROM: &str = "nullius.dev/baselines";
/// The annotation of a namespace that says which of its labels are of baselines.
pub const BASELINE_LABELS: &str = "nullius.dev/baseline-labels";

/// What the namespaces that it chooses get, and keep.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespaceBaselineSpec {
    /// A label selector as Kubernetes has it; an empty one selects all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Json>,
    /// Names of namespaces, in which a `*` stands for any text; with a selector, both must fit.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub names: BTreeSet<String>,
    /// Names of namespaces that it is not for, whatever else it says.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub exclude: BTreeSet<String>,
    /// Labels of the namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What the namespace is part of: the label `nullius.dev/environment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// How Pod Security measures its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security: Option<BaselinePodSecurity>,
    /// Which traffic nothing allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<BaselineNetworkPolicy>,
    /// How much it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_quota: Option<BaselineQuota>,
    /// How much one object may use, and what it gets that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_range: Option<BaselineLimitRange>,
    /// Who holds which role there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub role_bindings: Vec<BaselineRoleBinding>,
}

/// Levels of the Pod Security Standards, as the labels of a namespace say them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaselinePodSecurity {
    /// What breaks this level is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce: Option<String>,
    /// What breaks this level is noted in the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<String>,
    /// Whoever makes what breaks this level is warned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn: Option<String>,
    /// The version of all three, `v1.36` or `latest`; none leaves it to the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// A direction of traffic, as Kubernetes writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TrafficDirection {
    /// To its pods.
    Ingress,
    /// From its pods.
    Egress,
}

impl TrafficDirection {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::Egress => "Egress",
        }
    }
}

/// What is denied to all pods of a namespace unless another NetworkPolicy allows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaselineNetworkPolicy {
    /// The directions.
    pub deny: BTreeSet<TrafficDirection>,
    /// Whether pods may ask the cluster's DNS though egress is denied.
    #[serde(default)]
    pub allow_dns: bool,
}

/// What all objects of a namespace may use together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaselineQuota {
    /// By resource, as in a ResourceQuota.
    pub hard: BTreeMap<String, Amount>,
}

/// What one object of a namespace may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaselineLimitRange {
    /// One for each type.
    pub limits: Vec<BaselineLimit>,
}

/// What of a LimitRange is for one type of object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaselineLimit {
    /// `Container`, `Pod` or `PersistentVolumeClaim`.
    #[serde(rename = "type")]
    pub of: String,
    /// The most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub max: BTreeMap<String, Amount>,
    /// The least.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub min: BTreeMap<String, Amount>,
    /// The limit of containers that do not say one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub default: BTreeMap<String, Amount>,
    /// The request of containers that do not say one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub default_request: BTreeMap<String, Amount>,
    /// How many times its request a limit may be.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub max_limit_request_ratio: BTreeMap<String, Amount>,
}

/// Who holds a role in each chosen namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaselineRoleBinding {
    /// The role.
    pub role_ref: BaselineRoleRef,
    /// Groups that hold it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// Users that hold it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub users: BTreeSet<String>,
}

/// A role that a baseline binds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaselineRoleRef {
    /// Where the role stands.
    #[serde(default)]
    pub kind: RoleKind,
    /// Its name.
    pub name: String,
}

/// Where a role stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RoleKind {
    /// In the cluster.
    #[default]
    ClusterRole,
    /// In the namespace.
    Role,
}

impl RoleKind {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterRole => "ClusterRole",
            Self::Role => "Role",
        }
    }
}

/// An amount as Kubernetes writes it, `500m` or `2Gi`; a number stands for its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Amount(pub String);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "an amount is a text or a number, such as `500m` or 2")]
        enum Written {
            Text(String),
            Number(serde_json::Number),
        }
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::Number(number) => number.to_string(),
        }))
    }
}
