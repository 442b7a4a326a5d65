//! How the authorities of a cluster's trust domain stand, and how somebody has them replaced.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::{Timestamp, TrustDomain};

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

/// How it stands with another trust domain in a cluster: what the hub tells its agent, and what that says it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Belief {
    /// The cluster keeps the bundle of now.
    Believed,
    /// It keeps another bundle.
    Other,
    /// It keeps none.
    NotTaken,
    /// It is told of none any more, and keeps one.
    NotForgotten,
    /// It is told of none: there are too many, or they are too long.
    LeftOut,
    /// There is none.
    NoBundle,
    /// Its agent does not say what it keeps, or never told.
    Unknown,
}

impl Belief {
    /// The belief as the stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Believed => "believed",
            Self::Other => "other",
            Self::NotTaken => "not-taken",
            Self::NotForgotten => "not-forgotten",
            Self::LeftOut => "left-out",
            Self::NoBundle => "no-bundle",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Belief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the hub tells a cluster for its workloads, beside the authority of their own trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustBeside {
    /// Where others find the keys of the trust domain's tokens: the `iss` of its JWT-SVIDs (OpenID Connect Discovery).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Bundles of other trust domains, SPIFFE's JSON.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bundles: BTreeMap<TrustDomain, String>,
    /// From when on a bundle counts no more, unless it is told anew: keys for tokens have no end of their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ends: BTreeMap<TrustDomain, Timestamp>,
    /// What a later version says here. It is kept as it came, so that what is known of it holds.
    #[serde(flatten)]
    pub more: BTreeMap<String, Json>,
}

impl TrustBeside {
    /// As it is kept and compared: the same text, whichever of its fields are known to who writes it.
    pub fn to_text(&self) -> String {
        let Ok(Json::Object(mut all)) = serde_json::to_value(self) else { return String::new() };
        // Agents that know nothing beside these two keep them in this order.
        let first = FIRST.map(|name| all.remove(name).map(|value| (name.to_owned(), value)));
        let rest: BTreeMap<String, Json> = all.into_iter().collect();
        let fields = first.into_iter().flatten().chain(rest);
        let fields: Vec<String> =
            fields.map(|(name, value)| format!("{}:{value}", Json::from(name))).collect();
        format!("{{{}}}", fields.join(","))
    }
}

const FIRST: [&str; 2] = ["issuer", "bundles"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_later_version_says_is_kept_as_it_came() {
        let later = json!({
            "zones": {"b": 1, "a": 2}, "issuer": "https://hub", "area": [true],
            "bundles": {"b.example": "{}", "a.example": "{\"keys\":[]}"},
            "ends": {"a.example": "2027-01-15T08:00:00Z"},
        });
        let told: TrustBeside = serde_json::from_value(later.clone()).unwrap();
        assert_eq!(told.bundles.len(), 2);
        let text = told.to_text();
        assert_eq!(serde_json::from_str::<Json>(&text).unwrap(), later);
        let again: TrustBeside = serde_json::from_str(&text).unwrap();
        assert_eq!((again.to_text(), &again), (text.clone(), &told));
        // A version that knows of `ends` no more than of `zones` writes the same.
        let mut older = told.clone();
        let ends = serde_json::to_value(std::mem::take(&mut older.ends)).unwrap();
        older.more.insert("ends".to_owned(), ends);
        assert_eq!(older.to_text(), text);
    }

    #[test]
    fn what_every_version_knows_stands_as_it_always_did() {
        let told = TrustBeside {
            issuer: Some("https://hub".to_owned()),
            bundles: [("a.example".parse().unwrap(), "{}".to_owned())].into(),
            ..TrustBeside::default()
        };
        assert_eq!(told.to_text(), r#"{"issuer":"https://hub","bundles":{"a.example":"{}"}}"#);
        assert_eq!(TrustBeside::default().to_text(), "{}");
    }
}
