//! The kinds of `nullius.dev`, and where objects of each belong.

use crate::Kind;

/// Where objects of a kind belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindHome {
    /// The hub.
    Hub(Kind),
    /// A cluster.
    Cluster,
    /// Files alone: what commands read and print.
    File,
    /// A plane that this version does not have.
    Later(&'static str),
}

/// Kinds that clusters keep.
const OF_CLUSTERS: [&str; 3] = ["NamespaceBaseline", "PolicyException", "Intention"];

/// Documents that commands read, then those that they print.
const OF_FILES: [&str; 32] = [
    "ClientContexts",
    "IntentionTest",
    "OfflineKey",
    "PolicyTest",
    "ProxyConfiguration",
    "RecordedState",
    "ScanWaivers",
    "AccessExplanation",
    "AccessList",
    "AuditEventList",
    "AuditVerdict",
    "CelResult",
    "EnrolmentLink",
    "ExceptionList",
    "Finding",
    "FindingList",
    "IntentionDecision",
    "IntentionTestReport",
    "JoinToken",
    "JwtSvidList",
    "List",
    "ManifestDifference",
    "PolicyDecision",
    "PolicyTestReport",
    "ScanReport",
    "Session",
    "SessionList",
    "SvidList",
    "SvidValidation",
    "UsageList",
    "Version",
    "WhoAmI",
];

/// Kinds of planes that this version does not have, refused by name wherever they are read.
const LATER: [(&str, &str); 10] = [
    ("IdentityProvider", "sign-in through an identity provider"),
    ("AccessRequest", "access requests and approvals"),
    ("AuditPolicy", "audit policies"),
    ("PolicyBundle", "policies for many clusters"),
    ("Application", "published applications"),
    ("Device", "enrolled devices"),
    ("WorkloadIdentity", "identities of workloads"),
    ("ImagePolicy", "images"),
    ("SecretBinding", "secrets"),
    ("RuntimeProfile", "the runtime sensor"),
];

impl KindHome {
    /// The home of a kind as it stands in `kind:`; `None` for a kind that does not exist.
    #[must_use]
    pub fn of(kind: &str) -> Option<Self> {
        if let Some(kind) = Kind::ALL.into_iter().find(|known| known.as_str() == kind) {
            return Some(Self::Hub(kind));
        }
        if OF_CLUSTERS.contains(&kind) {
            return Some(Self::Cluster);
        }
        if OF_FILES.contains(&kind) {
            return Some(Self::File);
        }
        LATER.iter().find(|(name, _)| *name == kind).map(|(_, plane)| Self::Later(plane))
    }

    /// The kinds that people write and this version has.
    pub fn written() -> impl Iterator<Item = &'static str> {
        OF_CLUSTERS
            .into_iter()
            .chain(Kind::ALL.map(Kind::as_str))
            .chain(OF_FILES[..7].iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_home() {
        let all = OF_CLUSTERS.into_iter().chain(OF_FILES).chain(LATER.map(|(name, _)| name));
        let mut all: Vec<&str> = all.chain(Kind::ALL.map(Kind::as_str)).collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(KindHome::of("Role"), Some(KindHome::Hub(Kind::Role)));
        assert_eq!(KindHome::of("ImagePolicy"), Some(KindHome::Later("images")));
        assert_eq!((KindHome::of("roles"), KindHome::of("ImagePolicies")), (None, None));
        assert!(KindHome::written().all(|kind| KindHome::of(kind).is_some()));
    }
}
