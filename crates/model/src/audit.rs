//! The audit event: one type for every plane, written by the function that acts.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{AuditId, ClusterName, Explanation, PermissionId, Principal, SessionId, Timestamp};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditKind {
    /// Somebody signed in, or failed to.
    SignIn,
    /// A session's factor was proven anew.
    StepUp,
    /// A session was refreshed, or a refresh token was refused.
    Refresh,
    /// A session ended: logout, expiry, revocation, lock.
    SessionEnd,
    /// A person enrolled password and factor.
    Enrol,
    /// A request to a cluster's API server.
    KubeRequest,
    /// A hub object was created, changed or deleted, or somebody tried.
    ObjectChange,
    /// Somebody read the audit or objects of others.
    Read,
    /// A cluster joined, or a join token was refused.
    Join,
    /// An agent enrolled, or was refused.
    AgentEnrol,
    /// An agent connected or went away.
    AgentConnection,
    /// Credentials of a session were made in a cluster.
    Provision,
    /// Credentials of a session were flushed from a cluster.
    Flush,
    /// The hub started, stopped, or changed its own keys.
    Lifecycle,
    /// What may enter a cluster was decided there.
    Admission,
    /// What a cluster's API server said by itself: that it refused a request, or what its policies wanted the audit to know.
    ApiServer,
    /// A cluster's authority for its workloads was certified, or was not.
    Certify,
    /// A call between workloads was denied, or allowed by an intention of which every call is to be audited.
    Mesh,
    /// Somebody had the authority of a cluster's workloads replaced, and what came of it.
    Rotate,
    /// Something that must not happen: a replayed assertion, a forged header, a refresh token used twice.
    Alarm,
}

impl AuditKind {
    /// The kind as the stable kebab-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "sign-in",
            Self::StepUp => "step-up",
            Self::Refresh => "refresh",
            Self::SessionEnd => "session-end",
            Self::Enrol => "enrol",
            Self::KubeRequest => "kube-request",
            Self::ObjectChange => "object-change",
            Self::Read => "read",
            Self::Join => "join",
            Self::AgentEnrol => "agent-enrol",
            Self::AgentConnection => "agent-connection",
            Self::Provision => "provision",
            Self::Flush => "flush",
            Self::Lifecycle => "lifecycle",
            Self::Admission => "admission",
            Self::ApiServer => "api-server",
            Self::Certify => "certify",
            Self::Mesh => "mesh",
            Self::Rotate => "rotate",
            Self::Alarm => "alarm",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditOutcome {
    /// It was permitted and begun; a later event tells its end.
    Begun,
    /// It was permitted and done.
    Done,
    /// It was refused.
    Denied,
    /// It was permitted and failed.
    Failed,
}

impl AuditOutcome {
    /// The outcome as the stable kebab-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Done => "done",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// A request to an API server, as audit.k8s.io/v1 describes one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeCall {
    /// The verb as Kubernetes names it.
    pub verb: String,
    /// Path and query as forwarded, credentials redacted.
    pub request_uri: String,
    /// Whether the path names a resource.
    pub is_resource: bool,
    /// API group, empty for core.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// API version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Resource.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Subresource.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// Namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Object name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The client's `User-Agent`, cut to 256 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// Status code that the client got; 0 while it runs.
    #[serde(default)]
    pub code: u16,
    /// When the request arrived.
    pub received: Timestamp,
}

/// One entry of the audit trail. Sequence number and hash chain are added by the `audit` crate when it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// Joins everything about one request, also with the API server's own log.
    pub audit_id: AuditId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: AuditKind,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// Who.
    pub principal: Principal,
    /// The session, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The cluster, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// Where from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// What it acted on, `Grant/dev-shop`; for Kubernetes requests see `kube`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The permission that allowed it, or the nearest that would have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<PermissionId>,
    /// Why it was allowed or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
    /// The Kubernetes request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube: Option<KubeCall>,
    /// Further facts: grant, factor, counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

impl AuditEvent {
    /// What every event says; the rest is what it may say besides, to be filled in.
    pub fn new(
        audit_id: AuditId,
        at: Timestamp,
        kind: AuditKind,
        outcome: AuditOutcome,
        principal: Principal,
    ) -> Self {
        Self {
            audit_id,
            at,
            kind,
            outcome,
            principal,
            session: None,
            cluster: None,
            source: None,
            target: None,
            permission: None,
            explanation: None,
            kube: None,
            facts: BTreeMap::new(),
        }
    }
}
