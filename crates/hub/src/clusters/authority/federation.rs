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

/// Trust domains beside the own, and bytes of all of their bundles; an agent takes no more.
const DOMAINS: usize = 63;
const BYTES: usize = 200 * 1024;

/// A trust domain that the workloads of a cluster may believe beside their own.
#[derive(Debug)]
pub(crate) struct Friend {
    /// By what they verify it; none while none came.
    pub(crate) bundle: Option<TrustBundle>,
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
            from: format!("{}/{name}", Kind::Federation),
            told_at: known.as_ref().and_then(|it| it.fetched_at),
            failing: known.and_then(|it| it.failure.zip(it.failing_since)),
        };
        friends.insert(domain.clone(), friend);
    }
    Ok(friends)
}

/// Their bundles as an agent is told of them, as many as it takes.
pub(super) fn relayed(friends: BTreeMap<TrustDomain, Friend>) -> BTreeMap<TrustDomain, String> {
    let mut bytes = 0;
    let mut bundles = BTreeMap::new();
    for (domain, friend) in friends {
        let Some(bundle) = friend.bundle else { continue };
        let text = bundle.to_json().to_string();
        if bytes + text.len() > BYTES || bundles.len() >= DOMAINS {
            tracing::warn!(%domain, "relay no bundle of a trust domain: there are too many, or they are too long");
            continue;
        }
        bytes += text.len();
        bundles.insert(domain, text);
    }
    bundles
}
