//! Whom the workloads of a cluster may believe beside those of their own: other clusters that a `Federation` names together with it.
//!
//! What is relayed of them is what anybody may have ([`bundle_of`]): never what another cluster says of them.

use std::collections::{BTreeMap, BTreeSet};

use nullius_access::Snapshot;
use nullius_model::{AnyObject, ClusterName, Kind, Timestamp, TrustDomain};
use nullius_pki::workload::TrustBundle;
use nullius_store::{Reader, StoreError};

use super::bundle_of;

/// Trust domains beside the own, and bytes of all of their bundles; an agent takes no more.
const DOMAINS: usize = 63;
const BYTES: usize = 200 * 1024;

/// A trust domain that the workloads of a cluster may believe beside their own.
#[derive(Debug)]
pub(crate) struct Friend {
    /// By what they verify it.
    pub(crate) bundle: TrustBundle,
    /// Where the bundle comes from, `Cluster/NAME`.
    pub(crate) from: String,
    /// When it came.
    pub(crate) told_at: Timestamp,
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
        if federation.spec.clusters.contains(cluster) {
            named.extend(federation.spec.clusters.iter().filter(|it| *it != cluster));
        }
    }
    let mut friends = BTreeMap::new();
    for other in named {
        let Some(standing) = reader.trust().standing(other).await? else { continue };
        let Some(bundle) = bundle_of(snapshot, reader, &standing, now).await? else { continue };
        let friend = Friend { bundle, from: format!("Cluster/{other}"), told_at: standing.told_at };
        friends.insert(standing.trust_domain, friend);
    }
    Ok(friends)
}

/// Their bundles as an agent is told of them, as many as it takes.
pub(super) fn relayed(friends: BTreeMap<TrustDomain, Friend>) -> BTreeMap<TrustDomain, String> {
    let mut bytes = 0;
    let mut bundles = BTreeMap::new();
    for (domain, friend) in friends {
        let text = friend.bundle.to_json().to_string();
        if bytes + text.len() > BYTES || bundles.len() >= DOMAINS {
            tracing::warn!(%domain, "relay no bundle of a trust domain: there are too many, or they are too long");
            continue;
        }
        bytes += text.len();
        bundles.insert(domain, text);
    }
    bundles
}
