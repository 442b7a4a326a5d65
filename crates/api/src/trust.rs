//! Authorities of clusters' workloads.

use nullius_model::{
    AuthorityStage, Belief, ClusterName, CommandId, RotationMode, RotationProgress, Timestamp,
    TrustDomain,
};
use serde::{Deserialize, Serialize};

/// Query of `GET /v1/trust`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustQuery {
    /// Of this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
}

/// `GET /v1/trust`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustList {
    pub items: Vec<ClusterTrust>,
    /// What certifies the authorities.
    pub root: TrustRoot,
}

/// The workload root of the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustRoot {
    /// Serial number, hexadecimal.
    pub serial: String,
    /// SHA-256 of its key, hexadecimal.
    pub key: String,
    pub from: Timestamp,
    pub until: Timestamp,
}

/// How the authorities of one cluster stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterTrust {
    pub cluster: ClusterName,
    pub trust_domain: TrustDomain,
    /// The number of the bundle; absent where the cluster never told of an authority, as the next two are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// When the last step began, by the cluster's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Timestamp>,
    /// When its agent told last, give or take a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<Timestamp>,
    /// What signs first.
    pub authorities: Vec<TrustAuthority>,
    /// Whom its workloads may believe too, and whom they do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub federated: Vec<FederatedTrust>,
    /// The rotation that somebody ordered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationInfo>,
}

/// Another trust domain, whose bundle the cluster is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FederatedTrust {
    pub trust_domain: TrustDomain,
    /// How it stands with it in the cluster.
    pub belief: Belief,
    /// Where the bundle comes from: `Cluster/NAME`, or `Federation/NAME` where it is of somebody else. Absent for who may not see that,
    /// and where it is told of no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Whether there is one.
    pub has_bundle: bool,
    /// The number of the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// When it was told, or fetched last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Timestamp>,
    /// Why no other can be fetched; for who may see the federation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
}

/// One authority. What the workload root says of it is absent until it was certified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustAuthority {
    pub stage: AuthorityStage,
    /// Serial number, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// SHA-256 of its key, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Serial number of the root that certified it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified_by: Option<String>,
    /// Id of the key that signs tokens beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt_key: Option<String>,
}

/// `POST /v1/clusters/{name}/rotation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateRequest {
    pub mode: RotationMode,
    /// Why, for the audit.
    pub reason: String,
}

/// `POST /v1/federations/{name}/accept-older`; answered with 204.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcceptOlderRequest {
    /// Why, for the audit.
    pub reason: String,
}

/// A rotation that somebody ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationInfo {
    pub id: CommandId,
    pub mode: RotationMode,
    pub reason: String,
    /// Who ordered it.
    pub by: String,
    pub ordered_at: Timestamp,
    /// The cluster must take the order by then.
    pub take_until: Timestamp,
    pub progress: RotationProgress,
    pub changed_at: Timestamp,
}
