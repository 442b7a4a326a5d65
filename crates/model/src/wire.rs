//! What the hub signs and an agent checks: request assertions, key sets and commands.
//!
//! Each is the payload of a compact JWS (RFC 7515, EdDSA). Unknown fields are refused, so that neither side
//! acts on half of what it was told.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    ClusterName, CommandId, Namespace, PermissionId, PolicyRule, RoleName, RotationMode, SessionId,
    Timestamp, TrustBeside, UserName,
};

/// One permitted request: who, where, what, on which connection. JWS `typ` is `nullius-request+jwt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestAssertion {
    /// The cluster that it is for.
    pub aud: ClusterName,
    /// Issued, seconds since the epoch.
    pub iat: i64,
    /// Ends, seconds since the epoch; at most 60 s after `iat`.
    pub exp: i64,
    /// Nonce: 128 random bits in hexadecimal; an agent accepts each once.
    pub jti: String,
    /// The person.
    pub sub: UserName,
    /// The session.
    pub sid: SessionId,
    /// The permission that allowed it; absent for what everyone signed in may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perm: Option<PermissionId>,
    /// The plan generation that the session's credential must have reached.
    pub plan: u64,
    /// The HTTP method of the request at the API server.
    pub method: String,
    /// SHA-256 of path and query as forwarded, hexadecimal.
    pub path: String,
    /// The upgrade protocol in lower case, where the request asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<String>,
    /// TLS exporter of the tunnel connection (RFC 8446 section 7.5), hexadecimal.
    pub conn: String,
}

/// The keys that may sign assertions and commands. JWS `typ` is `nullius-keyset+jwt`, signed by the offline key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySet {
    /// Grows with each change; an agent refuses an older one.
    pub revision: u64,
    /// The keys by `kid`.
    pub keys: BTreeMap<String, SigningKey>,
}

/// A public Ed25519 key with its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningKey {
    /// The 32 bytes of the key, base64url without padding.
    pub public: String,
    /// Not trusted before.
    pub not_before: Timestamp,
    /// Not trusted after.
    pub not_after: Timestamp,
}

/// Rights of one session in one cluster: rules of a role, cluster-wide or in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Binding {
    /// The namespace; absent means cluster-wide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// The role's name, for people who look into the cluster.
    pub role: RoleName,
    /// Its rules.
    pub rules: Vec<PolicyRule>,
}

/// All rights of one session in one cluster: the upper bound that Kubernetes itself enforces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionPlan {
    /// The session.
    pub session: SessionId,
    /// The person, for people who look into the cluster.
    pub user: UserName,
    /// Grows with each change of the bindings.
    pub generation: u64,
    /// When the session ends at the latest.
    pub expires_at: Timestamp,
    /// What it may do.
    pub bindings: BTreeSet<Binding>,
}

/// An order of the hub to `agent control`, or to `agent identity`. JWS `typ` is `nullius-command+jwt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Command {
    /// The cluster that it is for.
    pub cluster: ClusterName,
    /// Answered with the same id.
    pub id: CommandId,
    /// Grows with each command of the hub for this cluster; an agent refuses an older one.
    pub revision: u64,
    /// When it was given; older than 60 s is refused.
    pub issued_at: Timestamp,
    /// What to do.
    pub order: Order,
}

/// What the hub can ask of its agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Order {
    /// Make the session's objects be as planned.
    Ensure(SessionPlan),
    /// Refuse the session and remove its objects; those that the hub has on record are named with their UIDs, and the
    /// answer must name each of them.
    Flush {
        session: SessionId,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        objects: BTreeMap<String, String>,
    },
    /// The sessions that live; every other session's objects are leftovers and go.
    Live { sessions: BTreeSet<SessionId> },
    /// Of `agent identity`: replace the authority of the cluster's workloads at once. It has the same id whenever it is given again.
    Rotate { mode: RotationMode },
    /// Of `agent identity`: what it tells workloads beside the own authority, and nothing else.
    Federate(TrustBeside),
}
