//! What the hub passes on of a cluster's bundle: what its agent told last for the cluster's own trust domain, and of that only what an
//! authority stands behind that the hub certified and whose time is not over.
//!
//! A key for tokens has no end of its own. It ends with the authority beside which it was told: a cluster that is heard no more is
//! believed no longer than its authorities last.

use nullius_access::Snapshot;
use nullius_model::{AnyObject, Kind, ObjectName, Timestamp};
use nullius_pki::workload::{AuthorityFacts as Signed, TrustBundle};
use nullius_store::{Reader, StoreError, TrustStanding};

/// What anybody may have of a cluster's bundle.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) bundle: TrustBundle,
    /// When the last authority ends that stands behind any of it.
    pub(crate) ends: Timestamp,
}

/// The bundle; none where the cluster is locked, removed, another one of its name, or has no authority yet.
pub(crate) async fn bundle_of(
    snapshot: &Snapshot,
    reader: &mut Reader,
    standing: &TrustStanding,
    now: Timestamp,
) -> Result<Option<Published>, StoreError> {
    let Some(told) = &standing.told.bundle else { return Ok(None) };
    if !speaks(snapshot, standing, now) {
        return Ok(None);
    }
    let mut certified = reader.clusters().authorities(&standing.cluster).await?;
    certified.retain(|it| it.not_after > now && it.trust_domain == standing.trust_domain);
    let Ok(bundle) = TrustBundle::read(standing.trust_domain.clone(), told.as_bytes()) else {
        return Ok(None);
    };
    let is_anchor = |facts: Signed| certified.iter().any(|it| it.key_digest == facts.key_digest);
    let is_lasting = |serial: &str| certified.iter().any(|it| it.serial == serial);
    let told = &standing.told.authorities;
    let bundle = bundle.only(
        |anchor| Signed::read(anchor).is_ok_and(is_anchor),
        |key| told.iter().any(|it| it.jwt_key == key.kid() && is_lasting(&it.serial)),
    );
    let behind = certified.iter().filter(|it| told.iter().any(|told| told.serial == it.serial));
    let ends = behind.map(|it| it.not_after).max().unwrap_or(now);
    Ok(Some(Published { bundle, ends }))
}

/// Whether what was told is of the cluster that has the name now, for its trust domain, and that is not locked.
fn speaks(snapshot: &Snapshot, standing: &TrustStanding, now: Timestamp) -> bool {
    let cluster = &standing.cluster;
    let name: Option<ObjectName> = cluster.as_str().parse().ok();
    let object = name.and_then(|name| snapshot.object(Kind::Cluster, &name));
    let Some(AnyObject::Cluster(object)) = object else { return false };
    object.metadata.uid.as_ref() == Some(&standing.uid)
        && object.spec.has_trust_domain(cluster.as_str(), &standing.trust_domain)
        && snapshot.lock_on_cluster(cluster, now).is_none()
}
