//! Who has which workload identity.

use nullius_model::{ClusterName, Explanation, Namespace, SpiffeId, Timestamp};
use serde::{Deserialize, Serialize};

/// Query of `GET /v1/clusters/{name}/identities`: each parameter narrows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdentityQuery {
    /// Of pods of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Of pods of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Of pods on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Of this ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<SpiffeId>,
    /// Those behind `next` of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// `GET /v1/clusters/{name}/identities`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityList {
    pub cluster: ClusterName,
    /// By namespace, pod and entry.
    pub items: Vec<IssuedIdentity>,
    /// Where to go on, where there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// When the cluster told last; absent where it did not since the hub began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Timestamp>,
    /// Why the cluster is locked, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<Explanation>,
}

/// An X.509-SVID that is valid: the last that was issued for an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuedIdentity {
    pub spiffe_id: SpiffeId,
    pub namespace: Namespace,
    pub pod: String,
    pub service_account: String,
    /// The node that asked for it.
    pub node: String,
    /// The `WorkloadIdentity` of the namespace by which the pod has it; absent where it is the one that every pod has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What holds of the processes that are given it.
    pub selectors: Vec<String>,
    /// The entry at the agent: the UID of the pod, and what tells it from others of the pod.
    pub entry: String,
    /// Serial number of the certificate, hexadecimal.
    pub serial: String,
    pub issued_at: Timestamp,
    pub not_after: Timestamp,
    /// When the first was issued that this replica of the agent knows of.
    pub since: Timestamp,
}
