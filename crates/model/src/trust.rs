//! How the authorities of a cluster's trust domain stand, and how somebody has them replaced.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::TrustDomain;

/// Where an authority is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthorityStage {
    /// Its key is there, and the hub has not certified it.
    Prepared,
    /// It stands in bundles, and does not sign yet.
    Certified,
    /// It signs.
    Active,
    /// It signed before, and what it signed is believed until that has ended.
    Retiring,
    /// The same, and every SVID of it is to be renewed at once.
    Tainted,
    /// It stands in bundles no more, though its time is not over.
    Revoked,
}

impl AuthorityStage {
    /// The stage as the stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Certified => "certified",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Tainted => "tainted",
            Self::Revoked => "revoked",
        }
    }
}

impl fmt::Display for AuthorityStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What becomes of the authority that signed, when somebody has it replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationMode {
    /// It is believed until everything that it signed is renewed: no call fails.
    Taint,
    /// It is believed no more from the moment on in which the next one signs: calls may fail for seconds.
    Revoke,
}

impl RotationMode {
    /// The mode as the stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Taint => "taint",
            Self::Revoke => "revoke",
        }
    }
}

impl fmt::Display for RotationMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a rotation is that somebody ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationProgress {
    /// The cluster has not taken the order.
    Ordered,
    /// It has, and another rotation has to end first.
    Taken,
    /// The next authority is there, and does not sign yet.
    Prepared,
    /// The next authority signs, and the one before is still believed.
    Activated,
    /// The one before is believed no more.
    Done,
    /// The cluster did not take the order in time, and does not any more.
    Lapsed,
    /// A later order took its place.
    Replaced,
}

impl RotationProgress {
    /// The progress as the stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Taken => "taken",
            Self::Prepared => "prepared",
            Self::Activated => "activated",
            Self::Done => "done",
            Self::Lapsed => "lapsed",
            Self::Replaced => "replaced",
        }
    }

    /// Whether there is more to come.
    pub fn is_under_way(self) -> bool {
        match self {
            Self::Ordered | Self::Taken | Self::Prepared | Self::Activated => true,
            Self::Done | Self::Lapsed | Self::Replaced => false,
        }
    }
}

impl fmt::Display for RotationProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the hub tells a cluster for its workloads, beside the authority of their own trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustBeside {
    /// Where others find the keys of the trust domain's tokens: the `iss` of its JWT-SVIDs (OpenID Connect Discovery).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Bundles of other trust domains, SPIFFE's JSON.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bundles: BTreeMap<TrustDomain, String>,
}

impl TrustBeside {
    /// As it is kept and compared.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
