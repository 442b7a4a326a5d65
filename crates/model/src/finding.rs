//! What is not as it should be and is known: one type for posture, admission and runtime.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ClusterName, FindingId, Timestamp};

/// Something in a cluster that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Stays the same for as long as the same check says the same thing of the same object.
    pub id: FindingId,
    /// Who found it.
    pub source: FindingSource,
    /// Where.
    pub cluster: ClusterName,
    /// The object; for pods that something controls, what controls them in the end.
    pub object: FoundObject,
    /// Whether it is the object itself or the pods that it makes.
    #[serde(default)]
    pub part: FoundPart,
    /// The policy, `ValidatingAdmissionPolicy/no-latest` or `PodSecurity/restricted`.
    pub policy: String,
    /// What applies the policy there, where something does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub binding: String,
    /// The check of the policy, `runAsNonRoot` or `validation 2`.
    pub check: String,
    /// How bad it is.
    pub severity: Severity,
    /// What the cluster makes of such an object when it comes.
    pub enforcement: Enforcement,
    /// What is wrong, in the policy's own words.
    pub message: String,
    /// What was looked at: fields, requests, processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// How to mend it; empty where nobody says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
    /// How it stands.
    pub state: FindingState,
    /// Who accepted it, why and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiver: Option<FindingWaiver>,
    /// When it was seen first, since it was last resolved.
    pub first_seen: Timestamp,
    /// When it was seen last.
    pub last_seen: Timestamp,
    /// When it was resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
}

/// The object of a finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundObject {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Empty for an object of the cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID; empty where it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl FoundObject {
    /// The API group, empty for core.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// `Deployment shop/web`.
    pub fn label(&self) -> String {
        match self.namespace.as_str() {
            "" => format!("{} {}", self.kind, self.name),
            namespace => format!("{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// Who accepted a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingWaiver {
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Until when, as the exception says it.
    pub expires: String,
}

/// Makes an enum of words whose JSON is the word.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $($(#[$each:meta])* $variant:ident => $word:literal),* $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$each])* #[serde(rename = $word)] $variant),* }

        impl $name {
            /// Every one, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// What a word stands for.
            pub fn of_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|each| each.as_str() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Who found something.
    FindingSource,
    /// What stands in a cluster, judged by its admission policies.
    Admission => "admission",
    /// Rights and paths that should not be.
    Posture => "posture",
    /// What processes did.
    Runtime => "runtime",
}

words! {
    /// What of an object is not as it should be.
    #[derive(Default)]
    FoundPart,
    /// The object itself.
    #[default]
    Object => "object",
    /// The pods that it makes.
    Pods => "pods",
}

words! {
    /// How bad a finding is.
    Severity,
    /// It is no good practice.
    Low => "low",
    /// It is not hardened: a check of the restricted level.
    Medium => "medium",
    /// It opens a known way to the node: a check of the baseline level.
    High => "high",
}

words! {
    /// What a cluster makes of an object with a finding.
    Enforcement,
    /// The object is refused.
    Deny => "deny",
    /// Who sends it is warned.
    Warn => "warn",
    /// The audit is told.
    Audit => "audit",
    /// Nothing: nobody asked the cluster to look.
    Inform => "inform",
}

words! {
    /// How a finding stands.
    FindingState,
    /// It is so.
    Open => "open",
    /// It is so, and somebody answers for it until a day.
    Waived => "waived",
    /// It was so: the object was mended or is gone, or the policy no longer says it.
    Resolved => "resolved",
}
