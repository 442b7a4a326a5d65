//! What is registered on this node: who may have which identity, and the bundles beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use nullius_model::{SpiffeId, Timestamp, TrustDomain, Ttl};
use nullius_pki::workload::TrustBundle;
use rustls_pki_types::DnsName;

use crate::{attest::Facts, cgroup::Place, selector::Selector};

/// An identity, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The identity.
    pub spiffe_id: SpiffeId,
    /// What must hold of a process, all of it; without any the entry is nobody's.
    pub selectors: BTreeSet<Selector>,
    /// How long an X.509-SVID is to live.
    pub ttl: Ttl,
    /// How long a JWT-SVID is to live.
    pub jwt_ttl: Ttl,
    /// DNS names of the certificate.
    pub dns_names: Vec<DnsName<'static>>,
    /// What the identity is for, where a workload has several.
    pub hint: Option<Box<str>>,
    /// Whom JWT-SVIDs may be for; anybody where this is empty.
    pub audiences: BTreeSet<String>,
    /// Trust domains whose bundles the workload is given.
    pub federates_with: BTreeSet<TrustDomain>,
}

/// Everything that is registered, as one.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The trust domain of this node.
    pub trust_domain: TrustDomain,
    /// Entries by their ids. A workload's first is its default.
    pub entries: BTreeMap<Box<str>, Arc<Entry>>,
    /// The bundle of the own trust domain, and those of others.
    pub bundles: BTreeMap<TrustDomain, Arc<TrustBundle>>,
    /// SVIDs that were issued before this instant are renewed at once.
    pub reissue_before: Option<Timestamp>,
}

impl Entry {
    /// Whether a process with these facts is meant.
    ///
    /// Users, groups and files are those of a host: what runs in a container can have them by its image, so that an entry of them alone
    /// is for processes of the host alone.
    pub fn selects(&self, facts: &Facts) -> bool {
        let holds = |selector: &Selector| selector.holds(facts);
        !self.selectors.is_empty() && self.may_mean(facts) && self.selectors.iter().all(holds)
    }

    fn may_mean(&self, facts: &Facts) -> bool {
        match facts.place {
            Place::Host => true,
            Place::Pod { .. } => self.selectors.iter().any(Selector::is_of_kubernetes),
            Place::OtherContainer => false,
        }
    }

    /// Whether a certificate for the other is one for this too.
    pub(crate) fn is_certified_as(&self, other: &Self) -> bool {
        self.spiffe_id == other.spiffe_id
            && self.ttl == other.ttl
            && self.dns_names == other.dns_names
    }

    /// Whether a JWT-SVID may be for these.
    pub(crate) fn may_speak_to(&self, audience: &[String]) -> bool {
        self.audiences.is_empty() || audience.iter().all(|name| self.audiences.contains(name))
    }
}

impl Registered {
    /// The bundle of the own trust domain.
    pub(crate) fn own_bundle(&self) -> Option<&Arc<TrustBundle>> {
        self.bundles.get(&self.trust_domain)
    }

    /// Whether the digest of an executable decides about a process: an entry asks for it, and all else of it holds.
    pub(crate) fn asks_digest(&self, facts: &Facts) -> bool {
        self.entries.values().any(|entry| {
            let is_digest = |selector: &&Selector| matches!(selector, Selector::Sha256(_));
            entry.selectors.iter().any(|selector| is_digest(&selector))
                && entry.may_mean(facts)
                && entry.selectors.iter().filter(|it| !is_digest(it)).all(|it| it.holds(facts))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    const POD: &str = "0a1b2c3d-0000-4111-8222-333344445555";

    fn entry(selectors: &[&str]) -> Entry {
        Entry {
            spiffe_id: "spiffe://d/a".parse().unwrap(),
            selectors: selectors.iter().map(|text| text.parse().unwrap()).collect(),
            ttl: Ttl::from_secs(3600),
            jwt_ttl: Ttl::from_secs(300),
            dns_names: Vec::new(),
            hint: None,
            audiences: BTreeSet::new(),
            federates_with: BTreeSet::new(),
        }
    }

    fn facts(place: Place) -> Facts {
        Facts { uid: 1000, gid: 100, place, executable: None }
    }

    fn in_pod() -> Facts {
        let container = "0a".repeat(32).parse().unwrap();
        facts(Place::Pod { pod: POD.parse().unwrap(), container })
    }

    #[test]
    fn all_selectors_must_hold_and_none_is_nobody() {
        let host = facts(Place::Host);
        assert!(entry(&["unix:uid:1000"]).selects(&host));
        assert!(entry(&["unix:uid:1000", "unix:gid:100"]).selects(&host));
        assert!(!entry(&["unix:uid:1000", "unix:gid:0"]).selects(&host));
        assert!(!entry(&["unix:uid:1000", "unix:path:/usr/bin/a"]).selects(&host));
        assert!(!entry(&[]).selects(&host));
        assert!(!entry(&[]).selects(&in_pod()));
        assert!(!entry(&[&format!("k8s:pod-uid:{POD}")]).selects(&host));
    }

    #[test]
    fn a_container_is_not_the_host_whatever_its_user_is() {
        let pod = format!("k8s:pod-uid:{POD}");
        let container = format!("k8s:container-id:{}", "0a".repeat(32));
        assert!(!entry(&["unix:uid:1000"]).selects(&in_pod()));
        assert!(entry(&[&pod]).selects(&in_pod()));
        assert!(entry(&[&pod, "unix:uid:1000", &container]).selects(&in_pod()));
        assert!(!entry(&[&pod, "unix:uid:0"]).selects(&in_pod()));
        assert!(!entry(&["unix:uid:1000"]).selects(&facts(Place::OtherContainer)));
    }
}
