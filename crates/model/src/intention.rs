//! The spec of an `Intention`: who may call a workload, and with what requests.
//!
//! This is the form in files and on the wire, values as they are written; `nullius-intention` reads it strictly.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::Timestamp;

/// Who may call a destination.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntentionSpec {
    /// Which workloads it is for.
    pub destination: IntentionDestination,
    /// Who calls, and whether they may; the most exact one that fits decides, wherever it stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<IntentionSource>,
    /// Whether it decides, or is only watched.
    #[serde(default, skip_serializing_if = "IntentionMode::is_enforce")]
    pub mode: IntentionMode,
    /// For how long what no rule decides is let pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissive: Option<Permissive>,
    /// What is recorded beside denials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<IntentionAudit>,
    /// Whose tokens count in the whole cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<IntentionIssuer>,
    /// How many requests may be sent; each limit counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<IntentionLimit>,
    /// Which requests there are at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<IntentionApi>,
}

/// The schema of an API: what it does not declare is refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntentionApi {
    /// A document of OpenAPI 3.1.
    pub schema: Json,
    /// Whether it decides, or is only watched.
    #[serde(default, skip_serializing_if = "IntentionMode::is_enforce")]
    pub mode: IntentionMode,
    /// Bytes of a body that is looked into; longer ones are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<i64>,
}

/// How many requests may be sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntentionLimit {
    /// In a second, over time.
    pub requests_per_second: i64,
    /// At once; without it as many as in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<i64>,
    /// Who is counted: `source` (each caller) or `subject` (each subject of a token).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<String>,
}

/// An issuer of tokens, with its keys in one of two ways.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntentionIssuer {
    /// Who it is: the claim `iss` of its tokens.
    pub issuer: String,
    /// The `https` address at which it publishes its keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// Authorities in PEM that stand behind that address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The keys themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
}

/// Workloads that are called.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntentionDestination {
    /// The service account of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Labels that the pods have, all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Their namespace, where it is not the intention's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// All pods of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<bool>,
    /// Ports of the pods; none stands for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<i64>,
}

/// Who calls, and whether they may.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntentionSource {
    /// A workload by its ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<String>,
    /// A workload by its service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// The namespace of the service account, or all workloads of a namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The trust domain of service account or namespace, or all workloads of a trust domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// All workloads of the cluster's own trust domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<bool>,
    /// Addresses, whoever has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<String>,
    /// Whether they may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<IntentionAction>,
    /// Which requests they may send, in place of an action; the first that fits decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<IntentionPermission>,
}

/// Requests that are allowed or denied: all that it says must fit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntentionPermission {
    /// Whether they may.
    pub action: IntentionAction,
    /// Methods, one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Paths, one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<IntentionPath>,
    /// Hosts, one of them; `*.example.org` stands for all below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Headers, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<IntentionHeader>,
    /// What a verified token says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<IntentionJwt>,
    /// A condition in CEL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// A path, in one of three ways.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntentionPath {
    /// All of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// It and all below, by whole segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// All of it as a regular expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}

/// Values of a header, in one of six ways.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntentionHeader {
    /// The header.
    pub name: String,
    /// All of a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// How a value begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// How a value ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// What a value has in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// All of a value as a regular expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// Whether it is there at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// Whether values must not be so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invert: Option<bool>,
}

/// A token that was verified, beside the caller's own identity.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntentionJwt {
    /// Who issued it.
    pub issuer: String,
    /// For whom, one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// What it says, all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<IntentionClaim>,
}

/// A claim of a token.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntentionClaim {
    /// Where it stands, from the outermost name.
    pub path: Vec<String>,
    /// Values, one of them; of a list one of its items.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Json>,
    /// In place of values: words of a text, one of them; of a list of texts one of them in one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
}

/// Whether something may be done.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum IntentionAction {
    /// It may.
    Allow,
    /// It may not.
    #[default]
    Deny,
}

impl IntentionAction {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// Whether an intention decides.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum IntentionMode {
    /// It decides.
    #[default]
    Enforce,
    /// What it would decide is told beside.
    Shadow,
}

impl IntentionMode {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
        }
    }

    fn is_enforce(&self) -> bool {
        *self == Self::Enforce
    }
}

/// What is recorded beside denials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IntentionAudit {
    /// Each call that is allowed.
    All,
}

/// What no rule decides is let pass until an end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Permissive {
    /// When that ends.
    pub until: Timestamp,
    /// For these ports; none stands for those of the destination.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<i64>,
}
