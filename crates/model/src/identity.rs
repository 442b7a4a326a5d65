//! Who acts, and how that was proven.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{ClusterName, GroupName, InstanceId, SessionId, SpiffeId, Timestamp, UserName};

/// Somebody or something that can act.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Principal {
    /// A person who signs in at the hub.
    Person { user: UserName },
    /// An agent of a cluster.
    Agent { cluster: ClusterName, instance: InstanceId },
    /// A name that a cluster's API server has proven: a ServiceAccount, a node, a client certificate.
    Kubernetes { cluster: ClusterName, username: String },
    /// A workload that has proven its SPIFFE ID in a cluster's mesh; `cluster` is the one whose trust domain the ID is of, or the one that tells
    /// where the hub knows none.
    Workload { cluster: ClusterName, id: SpiffeId },
    /// The hub itself (clean-up, expiry, first start).
    Hub,
    /// Nobody that could be proven; `claimed` is what was said, cut and escaped.
    Unproven { claimed: String },
}

impl Principal {
    /// The principal as one word for tables and keys: `person:ada`, `agent:dev`, `kubernetes:dev/system:node:n1`,
    /// `workload:dev/spiffe://dev.example/ns/shop/sa/web`, `hub`, `unproven:…`.
    pub fn label(&self) -> String {
        match self {
            Self::Person { user } => format!("person:{user}"),
            Self::Agent { cluster, .. } => format!("agent:{cluster}"),
            Self::Kubernetes { cluster, username } => format!("kubernetes:{cluster}/{username}"),
            Self::Workload { cluster, id } => format!("workload:{cluster}/{id}"),
            Self::Hub => "hub".to_owned(),
            Self::Unproven { claimed } => format!("unproven:{claimed}"),
        }
    }
}

/// A factor that a person proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Factor {
    /// A password checked against its argon2id hash.
    Password,
    /// A time-based one-time code (RFC 6238).
    Totp,
    /// A single-use enrolment link.
    EnrolmentLink,
}

impl Factor {
    /// The factor as the stable kebab-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Totp => "totp",
            Self::EnrolmentLink => "enrolment-link",
        }
    }
}

/// What proves an identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// The factors, in order of their names.
    pub factors: BTreeSet<Factor>,
    /// When the newest factor was proven.
    pub factor_at: Timestamp,
}

/// A person with proof, session and end: what every decision about a person starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The person.
    pub user: UserName,
    /// The groups at this moment.
    pub groups: BTreeSet<GroupName>,
    /// The session.
    pub session: SessionId,
    /// The proof.
    pub proof: Proof,
    /// When the person signed in.
    pub signed_in_at: Timestamp,
    /// When the identity ends.
    pub expires_at: Timestamp,
}
