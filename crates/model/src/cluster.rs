//! Specs of the objects whose home is a cluster.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::Timestamp;

/// The label of a namespace whose label of Pod Security was lowered to `baseline` for the sake of exceptions: what its owner wants is
/// `restricted`, and the webhook enforces it.
pub const KEPT_LEVEL_LABEL: &str = "nullius.dev/pod-security-enforce";

/// Accepts what policies find wrong with some objects: somebody answers for it, with a reason, until an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyExceptionSpec {
    /// Who answers for it: a team, a person.
    pub owner: String,
    /// Why it must be.
    pub reason: String,
    /// When it ends; at most 90 days after it was made.
    #[serde(deserialize_with = "crate::clock::written")]
    pub expires: Timestamp,
    /// What is accepted; at least one.
    pub rules: Vec<ExceptedRule>,
    /// Of which objects, and of what in them.
    pub scope: ExceptionScope,
}

/// A policy of which something is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExceptedRule {
    /// The name of a `ValidatingAdmissionPolicy`, or `PodSecurity`.
    pub policy: String,
    /// Of a policy the `message` or the `expression` of validations, of `PodSecurity` the ids of checks; none stands for
    /// all. A check is named by what it says and not by its place, so that an edit of the policy never moves an exception
    /// to another check.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub checks: BTreeSet<String>,
}

/// The objects that an exception is for, and what in them. In names a `*` stands for any text.
///
/// Without `containers`, `images` and `values` it covers an object whole. With them it covers what is broken by these parts
/// alone: what would pass if they were not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExceptionScope {
    /// Namespaces; none stands for objects that are in no namespace.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub namespaces: BTreeSet<String>,
    /// Kinds, `DaemonSet`; none stands for all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub kinds: BTreeSet<String>,
    /// Names of objects; none stands for all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub names: BTreeSet<String>,
    /// Names of containers of any of the three lists.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub containers: BTreeSet<String>,
    /// Images of containers.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub images: BTreeSet<String>,
    /// Values of fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ExceptedValues>,
}

/// Values of a field that are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExceptedValues {
    /// The field, counted from the pod in kinds that make pods, else from the object; `[*]` is every item of a list:
    /// `spec.containers[*].securityContext.capabilities.add`.
    pub path: String,
    /// The values; of a list its items. An object stands for all that have its fields.
    pub values: Vec<Json>,
}
