//! The service graph: who called whom in a cluster's mesh, how often, and what was decided of it.

use nullius_model::{
    ClusterName, Explanation, MeshShadow, MeshSide, MeshVerdict, PartyKind, PermissionId, Timestamp,
};
use serde::{Deserialize, Serialize};

/// Query of `GET /v1/clusters/{name}/mesh/graph`: each parameter narrows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshGraphQuery {
    /// Calls whose last time is not before; all that are kept without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Calls from or to this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Calls that were decided so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<MeshVerdict>,
}

/// `GET /v1/clusters/{name}/mesh/graph`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshGraph {
    pub cluster: ClusterName,
    /// From when on calls are counted: whole hours, and whole days where they are older than two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    pub nodes: Vec<MeshNode>,
    /// What was refused first.
    pub edges: Vec<MeshEdge>,
    /// Whether calls of the period may be missing here: what is not shown is then not known, and not none.
    pub unknown: bool,
    /// Whether there are more edges than one answer holds.
    #[serde(default)]
    pub more: bool,
    /// How the cluster's telling stands; absent where it never told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telling: Option<MeshTelling>,
}

/// One end of edges.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshNode {
    /// `Deployment/shop/orders`, a SPIFFE ID, `(outside)`, `(other)`, `(unknown)`.
    pub id: String,
    pub kind: PartyKind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner_kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The IDs that it proved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spiffe_ids: Vec<String>,
}

/// Calls of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshEdge {
    /// [`MeshNode::id`] of who called.
    pub source: String,
    /// [`MeshNode::id`] of who was called.
    pub destination: String,
    /// What the source proved; empty where it proved nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub destination_id: String,
    /// Whose proxy it is told by.
    pub seen_by: MeshSide,
    /// `NAMESPACE/NAME` of the Service that was called.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
    pub port: u16,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub wire: String,
    pub verdict: MeshVerdict,
    /// The closed word of the access log.
    pub reason: String,
    /// The rule that decided.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// The permission that allowed it, or the nearest that would have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<PermissionId>,
    /// What intentions that are only watched would deny.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<MeshShadow>,
    /// The same in words.
    pub explain: Explanation,
    pub connections: u64,
    pub requests: u64,
    pub bytes_to_destination: u64,
    pub bytes_to_source: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    /// The Audit-ID of one of them, where it is in the audit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sample: String,
}

/// How a cluster's telling of its mesh stands, and what of it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshTelling {
    /// When it told last.
    pub told_at: Timestamp,
    /// When something last happened for which calls are not all known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete_at: Option<Timestamp>,
    /// Connections and requests that found no room before they were told.
    pub lost_flows: u64,
    /// Denials that found no room before they were told.
    pub lost_denials: u64,
    /// Denials that were told too fast to stand in the audit one by one.
    pub unwritten_denials: u64,
    /// Words that were not believed.
    pub disbelieved: u64,
    /// Connections and requests that are only counted with others.
    pub folded: u64,
}
