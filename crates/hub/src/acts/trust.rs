//! How clusters' authorities for their workloads stand, for those who may see the cluster; and another one, for those who may order it.

use std::collections::{BTreeMap, BTreeSet};

use nullius_access::HubAction;
use nullius_api::{
    ClusterTrust, FederatedTrust, RotateRequest, RotationInfo, TrustAuthority, TrustList,
    TrustQuery, TrustRoot,
};
use nullius_model::{
    AnyObject, AuditKind, AuditOutcome, AuthorityStage, Belief, ClusterName, CommandId, Identity,
    Kind, Object, ObjectName, RotationMode, RotationProgress, Timestamp, TrustDomain, Ttl,
};
use nullius_pki::{
    random_bits,
    workload::{AuthorityFacts, TrustBundle},
};
use nullius_store::{
    CertifiedAuthority, Reader, StoreError, ToldAuthority, TrustRotation, TrustStanding,
};

use crate::{
    Hub,
    clusters::{Friend, Relayed, bundle_of, digest_of, friends, relayed, shown_progress},
    decide::Refusal,
    record::Occasion,
};

/// An order that no agent took by then is not given any more: who gave it would not expect it.
const TAKE_WITHIN: Ttl = Ttl::from_secs(3_600);
/// Characters of a reason.
const REASON: usize = 500;

/// Why no rotation is ordered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateRefusal {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("1 to {REASON} printable characters")]
    Reason,
    /// It would wait for an agent that is not there, or that nobody knows of.
    #[error(
        "cluster `{0}` has no authority for workloads that the hub knows of: `agent identity` never told of one"
    )]
    NoAuthority(ClusterName),
    #[error("rotation `{0}` of the cluster is under way already: it is {1}")]
    UnderWay(CommandId, RotationProgress),
}

impl From<StoreError> for RotateRefusal {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

impl Hub {
    /// How the authorities stand of one cluster or of all, as far as somebody may see them.
    pub(crate) async fn list_trust(
        &self,
        identity: &Identity,
        query: &TrustQuery,
        occasion: &Occasion,
    ) -> Result<TrustList, Refusal> {
        let clusters = match &query.cluster {
            Some(cluster) => {
                let name: Result<ObjectName, _> = cluster.as_str().parse();
                let name = name.map_err(Refusal::fault)?;
                vec![self.read_object(identity, Kind::Cluster, &name, occasion).await?]
            }
            None => self.list_objects(identity, Kind::Cluster, occasion).await?,
        };
        let now = self.now();
        let root = self.keys.workload_root();
        let facts = AuthorityFacts::read(root.certificate_der()).map_err(Refusal::fault)?;
        let mut reader = self.store.read().await?;
        let mut items = Vec::new();
        for object in clusters {
            let AnyObject::Cluster(object) = object else { continue };
            items.extend(self.trust_of(&mut reader, &object, &facts.serial, now).await?);
        }
        let others = items.iter_mut().flat_map(|cluster| &mut cluster.federated);
        others.for_each(|other| self.hide(other, identity));
        let root = TrustRoot {
            serial: facts.serial,
            key: facts.key_digest,
            from: facts.not_before,
            until: facts.not_after,
        };
        Ok(TrustList { items, root })
    }

    async fn trust_of(
        &self,
        reader: &mut Reader,
        object: &Object<nullius_model::ClusterSpec, nullius_model::ClusterStatus>,
        root: &str,
        now: Timestamp,
    ) -> Result<Option<ClusterTrust>, Refusal> {
        let Ok(cluster) = object.metadata.name.as_str().parse::<ClusterName>() else {
            return Ok(None);
        };
        let Ok(trust_domain) = object.spec.trust_domain_of(cluster.as_str()) else {
            return Ok(None);
        };
        let uid = object.metadata.uid.as_deref();
        let standing = reader.trust().standing(&cluster).await?;
        let standing = standing.filter(|it| Some(it.uid.as_str()) == uid);
        let certified = reader.clusters().authorities(&cluster).await?;
        let rotation = reader.trust().rotations(&cluster).await?.into_iter();
        let rotation =
            rotation.filter(|it| Some(it.uid.as_str()) == uid).max_by_key(|it| it.ordered_at);
        let friends = friends(&self.snapshot(), &cluster, reader, now).await?;
        let kept = reader.trust().kept(&cluster).await?;
        let kept = kept.filter(|it| Some(it.uid.as_str()) == uid);
        let heard_at = kept.as_ref().map(|it| it.heard_at);
        let authorities = match &standing {
            Some(standing) => authorities(standing, &certified, root, now),
            None => Vec::new(),
        };
        Ok(Some(ClusterTrust {
            cluster,
            trust_domain,
            sequence: standing.as_ref().map(|it| it.sequence),
            since: standing.as_ref().map(|it| it.told.since),
            told_at: standing.as_ref().map(|it| it.told_at),
            authorities,
            heard_at,
            federated: federated(friends, kept.and_then(|it| it.kept).as_ref()),
            rotation: rotation.map(|rotation| shown(rotation, now)),
        }))
    }

    /// Takes away what somebody may not see: who sees a cluster sees whom it believes, and no objects beyond that.
    fn hide(&self, other: &mut FederatedTrust, identity: &Identity) {
        let visible = other.from.as_ref().is_some_and(|from| {
            let (kind, name) = match from.split_once('/') {
                Some(("Cluster", name)) => (Kind::Cluster, name),
                Some((_, name)) => (Kind::Federation, name),
                None => return false,
            };
            name.parse().is_ok_and(|name| self.may_see(identity, kind, &name))
        });
        if !visible {
            (other.from, other.failure) = (None, None);
        }
    }

    /// Where others find the keys of a trust domain's tokens: their `iss`, to which OpenID Connect Discovery adds its path.
    pub(crate) fn issuer_of(&self, domain: &TrustDomain) -> String {
        format!("{}/v1/trust/{domain}", self.origin())
    }

    /// By what anybody verifies whom a trust domain speaks for; nothing where no cluster of ours does.
    pub(crate) async fn published_bundle(
        &self,
        domain: &TrustDomain,
    ) -> Result<Option<TrustBundle>, StoreError> {
        let mut reader = self.store.read().await?;
        let Some(standing) = reader.trust().standing_for(domain).await? else { return Ok(None) };
        let published = bundle_of(&self.snapshot(), &mut reader, &standing, self.now()).await?;
        Ok(published.map(|it| it.bundle))
    }

    /// Orders that the authority of a cluster's workloads is replaced at once.
    pub(crate) async fn rotate_trust(
        &self,
        identity: &Identity,
        cluster: &ClusterName,
        request: RotateRequest,
        occasion: &Occasion,
    ) -> Result<RotationInfo, RotateRefusal> {
        self.audit_works()?;
        let permit = self.allow(identity, &HubAction::RotateTrust { cluster }, occasion).await?;
        let reason = request.reason.trim();
        let length = reason.chars().count();
        if length == 0 || length > REASON || nullius_audit::display_safe(reason) != reason {
            return Err(RotateRefusal::Reason);
        }
        let _turn = self.changing.lock().await;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let object = tx.objects().get(Kind::Cluster, cluster.as_str()).await?;
        let no_authority = || RotateRefusal::NoAuthority(cluster.clone());
        let uid = object.metadata().uid.clone().ok_or_else(no_authority)?;
        let standing = tx.trust().standing(cluster).await?;
        standing.filter(|it| it.uid == uid).ok_or_else(no_authority)?;
        for mut other in tx.trust().rotations(cluster).await? {
            let progress = shown_progress(&other, now);
            if other.uid != uid || !progress.is_under_way() {
                continue;
            }
            // Who revokes waits for no rotation that revokes nothing.
            if request.mode != RotationMode::Revoke || other.mode == RotationMode::Revoke {
                return Err(RotateRefusal::UnderWay(other.id, progress));
            }
            (other.progress, other.changed_at) = (RotationProgress::Replaced, now);
            tx.trust().put_rotation(&other).await?;
        }
        let rotation = TrustRotation {
            id: CommandId::from_bits(random_bits()),
            cluster: cluster.clone(),
            uid,
            mode: request.mode,
            reason: reason.to_owned(),
            ordered_by: permit.by().label(),
            ordered_at: now,
            take_until: TAKE_WITHIN.after(now),
            progress: RotationProgress::Ordered,
            changed_at: now,
        };
        let (kind, begun) = (AuditKind::Rotate, AuditOutcome::Begun);
        let mut event = self.event_under(&permit, identity, occasion, kind, begun);
        event.cluster = Some(cluster.clone());
        event.target = Some(format!("Cluster/{cluster}"));
        event.facts.extend([
            ("rotation".to_owned(), rotation.id.to_string()),
            ("mode".to_owned(), rotation.mode.to_string()),
            ("reason".to_owned(), rotation.reason.clone()),
        ]);
        tx.trust().put_rotation(&rotation).await?;
        tx.audit(&event)?;
        tx.commit().await?;
        Ok(shown(rotation, now))
    }
}

/// What was told, and of what was certified beside that what its time is not over of: it is in no bundle any more.
fn authorities(
    standing: &TrustStanding,
    certified: &[CertifiedAuthority],
    root: &str,
    now: Timestamp,
) -> Vec<TrustAuthority> {
    let certified_as = |serial: &str| certified.iter().find(|it| it.serial == serial);
    let told = &standing.told.authorities;
    let stand = told.iter().map(|authority: &ToldAuthority| {
        let known = certified_as(&authority.serial);
        of(authority.stage, &authority.jwt_key, known, root)
    });
    let keys: BTreeSet<&str> = told
        .iter()
        .filter_map(|it| certified_as(&it.serial))
        .map(|it| it.key_digest.as_str())
        .collect();
    let gone = certified.iter().filter(|it| {
        it.not_after > now
            && it.trust_domain == standing.trust_domain
            && !keys.contains(it.key_digest.as_str())
    });
    let gone = gone.map(|it| {
        // What was certified a moment ago is told in the next report.
        let is_new = it.certified_at >= standing.told_at;
        let stage = if is_new { AuthorityStage::Certified } else { AuthorityStage::Revoked };
        of(stage, "", Some(it), root)
    });
    stand.chain(gone).collect()
}

fn of(
    stage: AuthorityStage,
    jwt_key: &str,
    certified: Option<&CertifiedAuthority>,
    root: &str,
) -> TrustAuthority {
    TrustAuthority {
        stage,
        serial: certified.map(|it| it.serial.clone()),
        key: certified.map(|it| it.key_digest.clone()),
        from: certified.map(|it| it.certified_at),
        until: certified.map(|it| it.not_after),
        certified_by: certified.map(|_| root.to_owned()),
        jwt_key: (!jwt_key.is_empty()).then(|| jwt_key.to_owned()),
    }
}

/// Whom a cluster is told to believe, and whom it says that it does.
fn federated(
    friends: BTreeMap<TrustDomain, Friend>,
    kept: Option<&BTreeMap<TrustDomain, String>>,
) -> Vec<FederatedTrust> {
    let told = relayed(&friends);
    let forgotten = |domain: &&TrustDomain| !friends.contains_key(*domain);
    let left: Vec<_> =
        kept.into_iter().flat_map(BTreeMap::keys).filter(forgotten).cloned().collect();
    let mut all: Vec<_> = friends
        .into_iter()
        .map(|(trust_domain, friend)| {
            let (failure, failing_since) = friend.failing.unzip();
            FederatedTrust {
                belief: belief(&trust_domain, &told, kept),
                trust_domain,
                from: Some(friend.from),
                has_bundle: friend.bundle.is_some(),
                sequence: friend.bundle.and_then(|bundle| bundle.sequence()),
                told_at: friend.told_at,
                failure,
                failing_since,
            }
        })
        .collect();
    all.extend(left.into_iter().map(|trust_domain| FederatedTrust {
        trust_domain,
        belief: Belief::NotForgotten,
        from: None,
        has_bundle: false,
        sequence: None,
        told_at: None,
        failure: None,
        failing_since: None,
    }));
    all.sort_by(|left, right| left.trust_domain.cmp(&right.trust_domain));
    all
}

/// How it stands with one that the cluster is to believe.
fn belief(
    domain: &TrustDomain,
    told: &Relayed,
    kept: Option<&BTreeMap<TrustDomain, String>>,
) -> Belief {
    match (told.bundles.get(domain), kept.map(|all| all.get(domain))) {
        (Some(_), None) => Belief::Unknown,
        (Some(text), Some(Some(kept))) if digest_of(text) == *kept => Belief::Believed,
        (Some(_), Some(Some(_))) => Belief::Other,
        (Some(_), Some(None)) => Belief::NotTaken,
        (None, Some(Some(_))) => Belief::NotForgotten,
        (None, _) if told.left_out.contains(domain) => Belief::LeftOut,
        (None, _) => Belief::NoBundle,
    }
}

fn shown(rotation: TrustRotation, now: Timestamp) -> RotationInfo {
    let progress = shown_progress(&rotation, now);
    RotationInfo {
        id: rotation.id,
        mode: rotation.mode,
        reason: rotation.reason,
        by: rotation.ordered_by,
        ordered_at: rotation.ordered_at,
        take_until: rotation.take_until,
        progress,
        changed_at: rotation.changed_at,
    }
}
