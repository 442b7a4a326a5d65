//! Specs of the fleet objects: who exists, which clusters exist, and who may do what where.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    ClusterName, GroupName, Namespace, ParseSpiffeError, RoleName, SessionId, Timestamp,
    TrustDomain, Ttl, UserName,
};

/// A person who signs in at the hub. Passwords and factor secrets never stand in the object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserSpec {
    /// Name for people to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Groups that the person is in; each must exist as a `Group`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<GroupName>,
    /// A disabled person cannot sign in, and their sessions end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

/// What the hub knows of a person.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserStatus {
    /// Whether password and second factor are set up.
    pub enrolled: bool,
    /// Last successful sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sign_in: Option<Timestamp>,
}

/// A group of people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupSpec {
    /// What the group is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The ClusterRole that bounds every right which the hub can ever create in a cluster; chosen at join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ceiling(String);

impl Ceiling {
    /// The name of the ClusterRole.
    pub fn cluster_role(&self) -> &str {
        &self.0
    }
}

impl Default for Ceiling {
    fn default() -> Self {
        Self("admin".to_owned())
    }
}

impl TryFrom<String> for Ceiling {
    type Error = crate::ParseNameError;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        let part = |part: &str| part.parse::<crate::GrantName>().map(|_| ());
        match name.split(':').try_for_each(part) {
            Ok(()) => Ok(Self(name)),
            // ClusterRoles are named as grants are, with colons beside; what was given is a ClusterRole all the same.
            Err(error) => Err(crate::ParseNameError {
                what: "name of a ClusterRole",
                value: name.chars().take(80).flat_map(char::escape_debug).collect(),
                ..error
            }),
        }
    }
}

impl From<Ceiling> for String {
    fn from(ceiling: Ceiling) -> String {
        ceiling.0
    }
}

/// A cluster behind the hub.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterSpec {
    /// Written into the join manifest; the cluster, not the hub, enforces it.
    #[serde(default)]
    pub ceiling: Ceiling,
    /// Who speaks for the cluster's workloads; `NAME.nullius.internal` where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<TrustDomain>,
    /// How long an authority of the cluster's workloads lives; [`AUTHORITY_LIFE`] where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_life: Option<Ttl>,
}

/// How long an authority of a cluster's workloads lives where the cluster says nothing: a cluster without its hub goes on for half of it at least.
pub const AUTHORITY_LIFE: Ttl = Ttl::from_secs(7 * 86_400);
/// A successor is there at half of the life: whoever loses the hub just before that goes on for three days.
const _: () = assert!(AUTHORITY_LIFE.as_secs() / 2 >= 72 * 3_600);

/// What the trust domain of a cluster ends with that has no other.
const DEFAULT_DOMAIN: &str = ".nullius.internal";

impl ClusterSpec {
    /// The trust domain of the cluster of this name.
    pub fn trust_domain_of(&self, name: &str) -> Result<TrustDomain, ParseSpiffeError> {
        match &self.trust_domain {
            Some(domain) => Ok(domain.clone()),
            None => format!("{name}{DEFAULT_DOMAIN}").parse(),
        }
    }

    /// Whether this is the trust domain of the cluster of this name.
    pub fn has_trust_domain(&self, name: &str, domain: &TrustDomain) -> bool {
        match &self.trust_domain {
            Some(own) => own == domain,
            None => domain.as_str().strip_suffix(DEFAULT_DOMAIN) == Some(name),
        }
    }
}

/// What the hub knows of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterStatus {
    /// When the cluster joined, and never before a join token was redeemed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_at: Option<Timestamp>,
    /// Issuer of the cluster's ServiceAccount tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Live `agent proxy` and `agent control` connections.
    #[serde(default)]
    pub agents_connected: u32,
    /// Kubernetes version, as the agent read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// When an agent was last heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// What is true of it this moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ClusterCondition>,
}

impl ClusterStatus {
    /// The condition of a kind, where it is told.
    pub fn condition(&self, kind: &str) -> Option<&ClusterCondition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

/// One thing that is true of a cluster or not, in the form of Kubernetes' conditions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterCondition {
    /// `Reachable`: requests have a way. `Guarded`: the admission policies of the join manifest are in force.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it is true.
    pub status: ConditionStatus,
    /// One word for programs.
    pub reason: String,
    /// One sentence for people, with what to do.
    pub message: String,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    True,
    False,
    /// Nobody can say.
    Unknown,
}

/// One rule of a Kubernetes role (rbac.authorization.k8s.io/v1 PolicyRule).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyRule {
    /// Verbs, or `*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<String>,
    /// API groups, `""` for core, or `*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Resources, `pods`, `pods/log`, `*/scale`, or `*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Object names; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// URL paths, `/healthz`, `/logs/*`; only cluster-wide.
    #[serde(default, rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

/// A template of Kubernetes rights.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleSpec {
    /// What the role is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it allows; Kubernetes semantics exactly.
    pub rules: Vec<PolicyRule>,
}

/// What a subject is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SubjectKind {
    User,
    Group,
}

/// Who receives a grant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "name")]
pub enum GrantSubject {
    #[serde(rename = "User")]
    User(UserName),
    #[serde(rename = "Group")]
    Group(GroupName),
}

/// Which clusters a grant reaches: the union of both fields; with neither, none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterSelector {
    /// Clusters by name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub names: BTreeSet<ClusterName>,
    /// Clusters that carry all of these labels; an empty map selects none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// A built-in role on the hub's own objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HubRole {
    /// Changes everything but what would grant to themselves.
    Admin,
    /// Runs clusters, people and locks; grants only what they hold.
    Operator,
    /// Judges requests of others; may lock.
    Approver,
    /// Reads everything, the audit too.
    Auditor,
}

/// Who may do what where, for how long. Either `role` with `clusters`, or `hubRole`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantSpec {
    /// Who; at least one.
    pub subjects: BTreeSet<GrantSubject>,
    /// The Kubernetes rights, by name of a `Role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// Where the rights hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<ClusterSelector>,
    /// Namespaces that the rights are limited to; absent means cluster-wide, empty is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<BTreeSet<Namespace>>,
    /// A role on the hub's own objects instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub_role: Option<HubRole>,
    /// How long after sign-in the grant counts; absent means as long as the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Ttl>,
    /// When the grant ends for everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Why it exists; shown to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a lock covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "name")]
pub enum LockTarget {
    #[serde(rename = "User")]
    User(UserName),
    #[serde(rename = "Group")]
    Group(GroupName),
    #[serde(rename = "Session")]
    Session(SessionId),
    #[serde(rename = "Cluster")]
    Cluster(ClusterName),
}

/// Stops everything that its target does, live streams too, until it is removed or expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockSpec {
    /// What is locked.
    pub target: LockTarget,
    /// Told to those whom it stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}
