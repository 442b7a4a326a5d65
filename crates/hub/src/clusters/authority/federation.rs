//! Whom the workloads of a cluster may believe beside those of their own: other clusters that a `Federation` names together with it, and
//! trust domains of somebody else.
//!
//! What is relayed of clusters is what anybody may have ([`bundle_of`]): never what another cluster says of them. A trust domain of a
//! cluster of ours is never somebody else's.

use std::collections::{BTreeMap, BTreeSet};

use nullius_access::Snapshot;
use nullius_model::{AnyObject, ClusterName, Kind, Timestamp, TrustDomain};
use nullius_pki::{token_hash, workload::TrustBundle};
use nullius_store::{Reader, StoreError};

use super::bundle_of;
use crate::clusters::foreign::held;

/// Trust domains beside the own, and bytes of all of their bundles, as they travel: texts in JSON; an agent takes no more.
const DOMAINS: usize = 63;
const BYTES: usize = 200 * 1024;
/// Characters of a bundle's digest, as agents tell it.
const DIGEST: usize = 32;
/// Days at least for which a cluster that does not hear the hub believes somebody else: as long as an authority of a cluster of ours lasts where
/// nobody says otherwise.
const LASTS: i64 = 7;
const DAY: i64 = 86_400;

/// A trust domain that the workloads of a cluster may believe beside their own.
#[derive(Debug)]
pub(crate) struct Friend {
    /// By what they verify it; none while none came.
    pub(crate) bundle: Option<TrustBundle>,
    /// Whether it is a cluster of this hub.
    is_cluster: bool,
    /// Where the bundle comes from: `Cluster/NAME`, or `Federation/NAME`.
    pub(crate) from: String,
    /// From when on it counts no more in a cluster that was not told of it again.
    ends: Timestamp,
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
        let Some(published) = bundle_of(snapshot, reader, &standing, now).await? else { continue };
        let friend = Friend {
            bundle: Some(published.bundle),
            is_cluster: true,
            ends: published.ends,
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
        let known = known.filter(|it| Some(&it.uid) == uid.as_ref() && it.trust_domain == *domain);
        let friend = Friend {
            bundle: held(trust, known.as_ref(), now),
            is_cluster: false,
            ends: lasts(now),
            from: format!("{}/{name}", Kind::Federation),
            told_at: known.as_ref().and_then(|it| it.fetched_at),
            failing: known.and_then(|it| it.failure.zip(it.failing_since)),
        };
        friends.insert(domain.clone(), friend);
    }
    Ok(friends)
}

/// Until when a bundle of somebody else counts that is told now: it has no end of its own. The same all day, so that nothing is told anew
/// each moment.
fn lasts(now: Timestamp) -> Timestamp {
    let day = now.as_second() / DAY + LASTS + 1;
    Timestamp::from_second(day * DAY).unwrap_or(now)
}

/// What an agent is told of others.
#[derive(Debug, Default)]
pub(crate) struct Relayed {
    pub(crate) bundles: BTreeMap<TrustDomain, String>,
    pub(crate) ends: BTreeMap<TrustDomain, Timestamp>,
    /// Those whose bundles find no room.
    pub(crate) left_out: BTreeSet<TrustDomain>,
}

/// Their bundles as an agent is told of them, as many as it takes: those of clusters before those of somebody else, who says how long
/// they are.
pub(crate) fn relayed(friends: &BTreeMap<TrustDomain, Friend>) -> Relayed {
    let (clusters, others): (Vec<_>, Vec<_>) =
        friends.iter().partition(|(_, friend)| friend.is_cluster);
    let mut bytes = 0;
    let mut told = Relayed::default();
    for (domain, friend) in clusters.into_iter().chain(others) {
        let Some(bundle) = &friend.bundle else { continue };
        let text = bundle.to_json().to_string();
        // Each quotation mark of it is two characters there.
        let length = serde_json::Value::from(text.as_str()).to_string().len();
        if bytes + length > BYTES || told.bundles.len() >= DOMAINS {
            told.left_out.insert(domain.clone());
            continue;
        }
        bytes += length;
        told.bundles.insert(domain.clone(), text);
        told.ends.insert(domain.clone(), friend.ends);
    }
    told
}

/// By what an agent says that it keeps a bundle.
pub(crate) fn digest_of(text: &str) -> String {
    let mut digest = token_hash(text);
    digest.truncate(DIGEST);
    digest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use nullius_model::TrustBeside;
    use serde_json::json;

    use super::*;

    #[test]
    fn somebody_else_is_believed_a_week_without_the_hub_and_told_of_once_a_day() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let midnight = 20_000 * DAY;
        let ends = lasts(at(midnight));
        assert_eq!(ends, at(midnight + 8 * DAY));
        assert_eq!(lasts(at(midnight + DAY - 1)), ends);
        assert_eq!(lasts(at(midnight + DAY)), at(midnight + 9 * DAY));
    }

    #[test]
    fn what_is_relayed_is_as_long_as_it_travels_and_clusters_come_first() {
        let friend = |domain: &str, is_cluster: bool, keys: usize, kid: &str| {
            let domain: TrustDomain = domain.parse().unwrap();
            let key = |number| {
                json!({
                    "kty": "EC", "crv": "P-256", "use": "jwt-svid", "kid": format!("{number}{kid}"),
                    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
                })
            };
            let keys: Vec<_> = (0..keys).map(key).collect();
            let text = json!({ "keys": keys }).to_string();
            assert!(text.len() < 64 * 1024, "as long as one may be that is fetched");
            let bundle = TrustBundle::read(domain.clone(), text.as_bytes()).unwrap();
            let from = "here".to_owned();
            let bundle = Some(bundle);
            let ends = Timestamp::from_second(1_800_000_000).unwrap();
            (domain, Friend { bundle, is_cluster, ends, from, told_at: None, failing: None })
        };
        let hostile = "\"".repeat(240);
        let friends = [
            friend("a.example", false, 95, &hostile),
            friend("b.example", false, 95, &hostile),
            friend("own.example", true, 1, "k"),
        ];
        let told = relayed(&friends.into());
        assert_eq!(told.left_out, ["b.example".parse().unwrap()].into());
        assert!(told.ends.keys().eq(told.bundles.keys()));
        let bundles = told.bundles;
        assert!(bundles.contains_key(&"own.example".parse().unwrap()));
        assert_eq!(bundles.len(), 2, "of two that are too long together one finds room");
        let travels = TrustBeside { bundles, ..TrustBeside::default() }.to_text();
        // As much as an agent takes.
        assert!(travels.len() < 256 * 1024, "{}", travels.len());
    }
}
