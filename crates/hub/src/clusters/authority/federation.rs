//! Whom the workloads of a cluster may believe beside those of their own: other clusters that a `Federation` names together with it, and
//! trust domains of somebody else.
//!
//! What is relayed of clusters is what anybody may have ([`bundle_of`]): never what another cluster says of them. A trust domain of a
//! cluster of ours is never somebody else's.

use std::collections::{BTreeMap, BTreeSet};

use nullius_access::Snapshot;
use nullius_model::{AnyObject, ClusterName, Kind, Timestamp, TrustDomain};
use nullius_pki::workload::TrustBundle;
use nullius_store::{Reader, StoreError};

use super::bundle_of;
use crate::clusters::foreign::{held, source_of};

/// Trust domains beside the own, and bytes of all of their bundles, as they travel: texts in JSON; an agent takes no more.
const DOMAINS: usize = 63;
const BYTES: usize = 200 * 1024;

/// A trust domain that the workloads of a cluster may believe beside their own.
#[derive(Debug)]
pub(crate) struct Friend {
    /// By what they verify it; none while none came.
    pub(crate) bundle: Option<TrustBundle>,
    /// Whether it is a cluster of this hub.
    is_cluster: bool,
    /// Where the bundle comes from: `Cluster/NAME`, or `Federation/NAME`.
    pub(crate) from: String,
    /// When it came; none where it stands in the object, or none did.
    pub(crate) told_at: Option<Timestamp>,
    /// Why no other comes, and since when.
    pub(crate) failing: Option<(String, Timestamp)>,
}

/// Those of a cluster, by trust domain.
pub(crate) async fn friends(
    snapshot: &Snapshot,
    cluster: &ClusterName,
    reader: &mut Reader,
    now: Timestamp,
) -> Result<BTreeMap<TrustDomain, Friend>, StoreError> {
    let mut named = BTreeSet::new();
    for object in snapshot.objects(Kind::Federation) {
        let AnyObject::Federation(federation) = object else { continue };
        if federation.spec.clusters.contains(cluster) && federation.spec.federates_with.is_none() {
            named.extend(federation.spec.clusters.iter().filter(|it| *it != cluster));
        }
    }
    let mut friends = BTreeMap::new();
    for other in named {
        let Some(standing) = reader.trust().standing(other).await? else { continue };
        let Some(bundle) = bundle_of(snapshot, reader, &standing, now).await? else { continue };
        let friend = Friend {
            bundle: Some(bundle),
            is_cluster: true,
            from: format!("Cluster/{other}"),
            told_at: Some(standing.told_at),
            failing: None,
        };
        friends.insert(standing.trust_domain, friend);
    }
    for object in snapshot.objects(Kind::Federation) {
        let AnyObject::Federation(federation) = object else { continue };
        let Some(trust) = &federation.spec.federates_with else { continue };
        let domain = &trust.trust_domain;
        if !federation.spec.clusters.contains(cluster)
            || snapshot.cluster_of_domain(domain).is_some()
            || friends.contains_key(domain)
        {
            continue;
        }
        let (name, uid) = (&federation.metadata.name, &federation.metadata.uid);
        let known = reader.trust().foreign(name.as_str()).await?;
        let known =
            known.filter(|it| Some(&it.uid) == uid.as_ref() && it.source == source_of(trust));
        let friend = Friend {
            bundle: held(trust, known.as_ref()),
            is_cluster: false,
            from: format!("{}/{name}", Kind::Federation),
            told_at: known.as_ref().and_then(|it| it.fetched_at),
            failing: known.and_then(|it| it.failure.zip(it.failing_since)),
        };
        friends.insert(domain.clone(), friend);
    }
    Ok(friends)
}

/// Their bundles as an agent is told of them, as many as it takes: those of clusters before those of somebody else, who says how long
/// they are.
pub(super) fn relayed(friends: BTreeMap<TrustDomain, Friend>) -> BTreeMap<TrustDomain, String> {
    let (clusters, others): (Vec<_>, Vec<_>) =
        friends.into_iter().partition(|(_, friend)| friend.is_cluster);
    let mut bytes = 0;
    let mut bundles = BTreeMap::new();
    for (domain, friend) in clusters.into_iter().chain(others) {
        let Some(bundle) = friend.bundle else { continue };
        let text = bundle.to_json().to_string();
        // Each quotation mark of it is two characters there.
        let length = serde_json::Value::from(text.as_str()).to_string().len();
        if bytes + length > BYTES || bundles.len() >= DOMAINS {
            tracing::warn!(%domain, "relay no bundle of a trust domain: there are too many, or they are too long");
            continue;
        }
        bytes += length;
        bundles.insert(domain, text);
    }
    bundles
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use nullius_model::TrustBeside;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_relayed_is_as_long_as_it_travels_and_clusters_come_first() {
        let friend = |domain: &str, is_cluster: bool, kid: &str| {
            let domain: TrustDomain = domain.parse().unwrap();
            let key = json!({
                "kty": "EC", "crv": "P-256", "use": "jwt-svid", "kid": kid,
                "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
            });
            let text = json!({ "keys": [key] }).to_string();
            let bundle = TrustBundle::read(domain.clone(), text.as_bytes()).unwrap();
            let from = "here".to_owned();
            let bundle = Some(bundle);
            (domain, Friend { bundle, is_cluster, from, told_at: None, failing: None })
        };
        let hostile = "\"".repeat(30_000);
        let friends = [
            friend("a.example", false, &hostile),
            friend("b.example", false, &hostile),
            friend("own.example", true, "k"),
        ];
        let bundles = relayed(friends.into());
        assert!(bundles.contains_key(&"own.example".parse().unwrap()));
        assert_eq!(bundles.len(), 2, "of two that are too long together one finds room");
        let travels = TrustBeside { bundles, ..TrustBeside::default() }.to_text();
        // As much as an agent takes.
        assert!(travels.len() < 256 * 1024, "{}", travels.len());
    }
}
