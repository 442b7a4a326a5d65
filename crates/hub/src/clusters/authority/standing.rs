//! How a cluster's authority stands, as its agent tells: believed for the cluster's own trust domain, as far as the workload root
//! signed it; and what somebody ordered of it.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use nullius_audit::display_safe;
use nullius_model::{
    AuditKind, AuditOutcome, AuthorityStage, CommandId, Explanation, Order, Reason,
    RotationProgress, Timestamp, TrustBeside, TrustDomain,
};
use nullius_pki::{
    random_bits, token_hash,
    workload::{AuthorityFacts as Signed, BundleError, NotAdmitted, TrustBundle, verify_authority},
};
use nullius_proto::{
    VERSION,
    agent_v1::{
        AuthorityReport, AuthorityStage as Stage, IssuedReceipt, IssuedReport, TrustAnswer,
        TrustReport,
    },
};
use nullius_store::{
    StoreError, ToldAuthority, ToldTrust, TrustKept, TrustRotation, TrustStanding,
};
use rustls_pki_types::CertificateDer;
use tonic::Status;

use super::{AuthorityService, NotCertified, federation};
use crate::{
    clusters::{control::agent_event, identities},
    record::chain,
};

/// What signs, what will, what did.
const AUTHORITIES: usize = 3;
/// Keys for tokens of one bundle.
const JWT_KEYS: usize = 8;
/// Characters of an agent's words, and of the id of a key.
const WORDS: usize = 200;
const KEY_ID: usize = 64;
/// Trust domains beside the own.
const KEPT: usize = 64;
/// Characters of a bundle's digest in the audit.
const SHORT_DIGEST: usize = 12;
/// What a cluster keeps is noted again this often: so exact it is shown when it was heard.
const NOTE_AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// Why an agent is not believed.
#[derive(Debug, thiserror::Error)]
enum NotHeard {
    #[error(transparent)]
    Cluster(#[from] NotCertified),
    #[error("the report cannot be read: {0}")]
    Unreadable(&'static str),
    #[error("the workload root did not certify this authority for the cluster")]
    NotOurs(#[source] NotAdmitted),
    #[error("the bundle cannot be used")]
    Bundle(#[from] BundleError),
    #[error("the bundle holds an anchor that is none of the cluster's authorities")]
    Stranger,
    #[error("the bundle holds a key for tokens that is of none of the cluster's authorities")]
    StrangeKey,
    #[error("step {known} of the authority was told before, and this is step {told}")]
    Older { known: u64, told: u64 },
    #[error("the hub cannot keep this now; try again")]
    Store(#[from] StoreError),
}

impl NotHeard {
    fn status(&self) -> Status {
        let told = self.to_string();
        match self {
            Self::Cluster(why) => why.status(),
            Self::Unreadable(_)
            | Self::NotOurs(_)
            | Self::Bundle(_)
            | Self::Stranger
            | Self::StrangeKey => Status::invalid_argument(told),
            Self::Older { .. } => Status::failed_precondition(told),
            Self::Store(_) => Status::unavailable(told),
        }
    }

    /// Whether no agent of ours says so.
    fn is_alarm(&self) -> bool {
        match self {
            Self::Unreadable(_)
            | Self::NotOurs(_)
            | Self::Bundle(_)
            | Self::Stranger
            | Self::StrangeKey => true,
            Self::Cluster(_) | Self::Older { .. } | Self::Store(_) => false,
        }
    }
}

impl AuthorityService {
    /// Hears a report; answers with what is ordered.
    pub(super) async fn hear(&self, report: TrustReport) -> Result<TrustAnswer, Status> {
        if report.version != VERSION {
            return Err(Status::failed_precondition(format!(
                "the agent speaks version {} and the hub {VERSION}; update the older of them",
                report.version
            )));
        }
        if self.hub.clusters().reports.take(&self.cluster, self.hub.now()).is_none() {
            return Err(Status::resource_exhausted("the cluster tells too much; try again later"));
        }
        match self.try_to_hear(&report).await {
            Ok(answer) => Ok(answer),
            Err(refused) => {
                tracing::warn!(cluster = %self.cluster, error = %chain(&refused), "refuse what is told of an authority");
                if refused.is_alarm() {
                    let what = "tell how the authority of the cluster's workloads stands";
                    self.alarm(what, &refused).await;
                }
                Err(refused.status())
            }
        }
    }

    /// Hears which SVIDs the cluster issued.
    pub(super) async fn hear_issued(&self, report: IssuedReport) -> Result<IssuedReceipt, Status> {
        let (hub, now) = (&self.hub, self.hub.now());
        if report.version != VERSION {
            return Err(Status::failed_precondition(format!(
                "the agent speaks version {} and the hub {VERSION}; update the older of them",
                report.version
            )));
        }
        let identities = &hub.clusters().identities;
        if !identities.may_tell(&self.cluster, now) {
            return Err(Status::resource_exhausted("the cluster tells too much; try again later"));
        }
        let domain = self.own_domain().map_err(|error| error.status())?;
        let uid = self.uid.as_ref().ok_or_else(|| NotCertified::Unknown.status())?;
        match identities::read(report.issued, &domain, now) {
            Ok(told) => {
                identities.keep(&self.cluster, uid, told, now);
                Ok(IssuedReceipt { hub: identities.id().to_owned() })
            }
            Err(why) => {
                let refused = NotHeard::Unreadable(why);
                tracing::warn!(cluster = %self.cluster, error = %refused, "refuse what is told of identities");
                self.alarm("tell which identities were issued", &refused).await;
                Err(refused.status())
            }
        }
    }

    async fn try_to_hear(&self, report: &TrustReport) -> Result<TrustAnswer, NotHeard> {
        let (hub, now) = (&self.hub, self.hub.now());
        let domain = self.own_domain()?;
        let uid = self.uid.clone().ok_or(NotCertified::Unknown)?;
        let root = hub.keys().workload_root().certificate_der();
        let told = verified(report, &domain, root, now)?;
        let kept = kept(report)?;
        let mut reader = hub.store().read().await?;
        let known = reader.trust().standing(&self.cluster).await?.filter(|it| it.uid == uid);
        let rotations = reader.trust().rotations(&self.cluster).await?;
        let friends = federation::friends(&hub.snapshot(), &self.cluster, &mut reader, now).await?;
        let kept_before = reader.trust().kept(&self.cluster).await?;
        drop(reader);
        is_newer(known.as_ref(), report.sequence)?;
        let mut waiting = under_way(rotations, &uid);
        self.note_kept(kept_before, kept, &uid, now).await?;
        let is_told = known.is_some_and(|known| known.told == told && known.trust_domain == domain);
        let moved = |waiting: &Option<TrustRotation>| {
            waiting.as_ref().is_some_and(|it| progress_of(it, &told, now) != it.progress)
        };
        if !is_told || moved(&waiting) {
            let standing = TrustStanding {
                cluster: self.cluster.clone(),
                uid,
                trust_domain: domain.clone(),
                sequence: report.sequence,
                told,
                told_at: now,
            };
            waiting = self.keep(standing).await?;
        }
        let sign = |id, order| {
            let (commands, signer) = (&hub.clusters().commands, hub.keys().signer());
            commands.sign(&self.cluster, id, order, signer, now)
        };
        let mut orders = Vec::new();
        let relayed = federation::relayed(&friends);
        let mut beside = TrustBeside {
            issuer: Some(hub.issuer_of(&domain)),
            bundles: relayed.bundles,
            ends: relayed.ends,
            ..TrustBeside::default()
        };
        if report.beside_form == 0 {
            // An agent of before refuses what it does not know, and all beside it.
            beside.ends.clear();
        }
        // An agent of before says nothing of it, and would not know the order.
        if !report.beside.is_empty() && report.beside != token_hash(&beside.to_text()) {
            let id = CommandId::from_bits(random_bits());
            orders.push(sign(id, Order::Federate(beside)));
        }
        if let Some(rotation) = waiting.filter(|it| it.progress == RotationProgress::Ordered) {
            orders.push(sign(rotation.id, Order::Rotate { mode: rotation.mode }));
        }
        Ok(TrustAnswer { key_set: hub.keys().key_set_jws(), orders })
    }

    /// Notes what the cluster keeps of other trust domains where that is new, or was noted a while ago.
    async fn note_kept(
        &self,
        before: Option<TrustKept>,
        kept: Option<BTreeMap<TrustDomain, String>>,
        uid: &str,
        now: Timestamp,
    ) -> Result<(), NotHeard> {
        let is_noted = before.as_ref().is_some_and(|it| {
            let age = now.duration_since(it.heard_at);
            it.uid == uid && it.kept == kept && !age.is_negative() && age < NOTE_AGAIN
        });
        if is_noted {
            return Ok(());
        }
        let before = before.filter(|it| it.uid == uid).and_then(|it| it.kept).unwrap_or_default();
        let believed = kept.clone().unwrap_or_default();
        let (hub, cluster) = (&self.hub, self.cluster.clone());
        let noted = TrustKept { cluster, uid: uid.to_owned(), kept, heard_at: now };
        let mut tx = hub.store().begin().await?;
        tx.trust().put_kept(&noted).await?;
        // An agent that says something else each time does not fill the audit.
        if before != believed && hub.clusters().commands.take_word(&noted.cluster, now).is_some() {
            let what = "tell nodes of other trust domains";
            let (kind, done) = (AuditKind::Certify, AuditOutcome::Done);
            let mut event = agent_event(hub, kind, done, &noted.cluster, &self.instance, what);
            event.target = Some(format!("Cluster/{}", noted.cluster));
            event.facts.insert("believed-before".to_owned(), listed(&before));
            event.facts.insert("believed".to_owned(), listed(&believed));
            tx.audit(&event)?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Keeps what is new, and how far a rotation came by it; gives the one that is under way.
    async fn keep(&self, standing: TrustStanding) -> Result<Option<TrustRotation>, NotHeard> {
        let (hub, now) = (&self.hub, standing.told_at);
        // Nobody orders another one meanwhile.
        let _turn = hub.changing.lock().await;
        let mut tx = hub.store().begin().await?;
        let known = tx.trust().standing(&self.cluster).await?;
        is_newer(known.as_ref().filter(|it| it.uid == standing.uid), standing.sequence)?;
        let rotations = tx.trust().rotations(&self.cluster).await?;
        let mut waiting = under_way(rotations, &standing.uid);
        if let Some(rotation) = &mut waiting {
            let progress = progress_of(rotation, &standing.told, now);
            if progress != rotation.progress {
                (rotation.progress, rotation.changed_at) = (progress, now);
                tx.trust().put_rotation(rotation).await?;
                let outcome = match progress {
                    RotationProgress::Done => AuditOutcome::Done,
                    RotationProgress::Lapsed | RotationProgress::Replaced => AuditOutcome::Failed,
                    RotationProgress::Ordered
                    | RotationProgress::Taken
                    | RotationProgress::Prepared
                    | RotationProgress::Activated => AuditOutcome::Begun,
                };
                let what = format!("the rotation is {progress}");
                let (kind, cluster) = (AuditKind::Rotate, &self.cluster);
                let mut event = agent_event(hub, kind, outcome, cluster, &self.instance, &what);
                event.target = Some(format!("Cluster/{cluster}"));
                event.facts.extend([
                    ("rotation".to_owned(), rotation.id.to_string()),
                    ("mode".to_owned(), rotation.mode.to_string()),
                ]);
                tx.audit(&event)?;
            }
        }
        tx.trust().put_standing(&standing).await?;
        tx.commit().await?;
        Ok(waiting)
    }

    async fn alarm(&self, what: &str, refused: &NotHeard) {
        let (hub, cluster) = (&self.hub, &self.cluster);
        if hub.clusters().commands.take_word(cluster, hub.now()).is_none() {
            return;
        }
        let (kind, denied) = (AuditKind::Alarm, AuditOutcome::Denied);
        let mut event = agent_event(hub, kind, denied, cluster, &self.instance, what);
        event.target = Some(format!("Cluster/{cluster}"));
        event.explanation = Some(Explanation::new(Reason::Unreadable, chain(refused).to_string()));
        hub.note(event).await;
    }
}

/// Trust domains with the beginnings of their bundles' digests.
fn listed(bundles: &BTreeMap<TrustDomain, String>) -> String {
    let all = bundles.iter().map(|(domain, digest)| {
        format!("{domain}={}", digest.get(..SHORT_DIGEST).unwrap_or_default())
    });
    all.collect::<Vec<_>>().join(" ")
}

/// What an agent says that it keeps of other trust domains; none where it does not say.
fn kept(report: &TrustReport) -> Result<Option<BTreeMap<TrustDomain, String>>, NotHeard> {
    if report.beside_form == 0 {
        return Ok(None);
    }
    if report.kept.len() > KEPT {
        return Err(NotHeard::Unreadable("it keeps bundles of too many trust domains"));
    }
    let mut all = BTreeMap::new();
    for kept in &report.kept {
        let domain = kept.trust_domain.parse();
        let domain =
            domain.map_err(|_| NotHeard::Unreadable("it keeps what is no trust domain"))?;
        let is_digest = kept.digest.len() <= KEY_ID
            && kept.digest.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        if !is_digest {
            return Err(NotHeard::Unreadable("a bundle that it keeps has no digest"));
        }
        all.insert(domain, kept.digest.clone());
    }
    Ok(Some(all))
}

fn is_newer(known: Option<&TrustStanding>, told: u64) -> Result<(), NotHeard> {
    match known {
        Some(known) if known.sequence > told => {
            Err(NotHeard::Older { known: known.sequence, told })
        }
        Some(_) | None => Ok(()),
    }
}

/// The rotation of a cluster that is under way: the last that was ordered of it.
fn under_way(rotations: Vec<TrustRotation>, uid: &str) -> Option<TrustRotation> {
    rotations.into_iter().find(|it| it.uid == uid && it.progress.is_under_way())
}

/// What an agent told, as far as it holds for the trust domain of its cluster.
fn verified(
    report: &TrustReport,
    domain: &TrustDomain,
    root: &CertificateDer<'_>,
    now: Timestamp,
) -> Result<ToldTrust, NotHeard> {
    if report.authorities.len() > AUTHORITIES {
        return Err(NotHeard::Unreadable("it names too many authorities"));
    }
    let mut anchors = Vec::new();
    let mut authorities = Vec::new();
    for told in &report.authorities {
        authorities.push(authority(told, domain, root, now, &mut anchors)?);
    }
    let bundle = match report.bundle.is_empty() {
        true => None,
        false => {
            let bundle = TrustBundle::read(domain.clone(), &report.bundle)?;
            if bundle.x509_authorities().iter().any(|anchor| !anchors.contains(anchor)) {
                return Err(NotHeard::Stranger);
            }
            if bundle.jwt_authorities().len() > JWT_KEYS {
                return Err(NotHeard::Unreadable("its bundle has too many keys for tokens"));
            }
            let is_told = |kid: &str| {
                let mut all = authorities.iter();
                all.any(|it| it.stage != AuthorityStage::Prepared && it.jwt_key == kid)
            };
            if bundle.jwt_authorities().iter().any(|key| !is_told(key.kid())) {
                return Err(NotHeard::StrangeKey);
            }
            if bundle.sequence() != Some(report.sequence) {
                return Err(NotHeard::Unreadable("its bundle is of another step"));
            }
            Some(bundle.to_json().to_string())
        }
    };
    let since = Timestamp::from_second(report.since);
    let words = |text: &str| -> String { display_safe(text).chars().take(WORDS).collect() };
    Ok(ToldTrust {
        since: since.map_err(|_| NotHeard::Unreadable("its step began at no time"))?,
        authorities,
        bundle,
        wish: words(&report.wish),
        rotated: words(&report.rotated),
    })
}

/// One authority; those that may stand in a bundle now go to `anchors`.
fn authority(
    told: &AuthorityReport,
    domain: &TrustDomain,
    root: &CertificateDer<'_>,
    now: Timestamp,
    anchors: &mut Vec<CertificateDer<'static>>,
) -> Result<ToldAuthority, NotHeard> {
    let stage = match told.stage() {
        Stage::Prepared => AuthorityStage::Prepared,
        Stage::Certified => AuthorityStage::Certified,
        Stage::Active => AuthorityStage::Active,
        Stage::Retiring => AuthorityStage::Retiring,
        Stage::Tainted => AuthorityStage::Tainted,
        Stage::Unspecified => return Err(NotHeard::Unreadable("an authority is in no stage")),
    };
    let is_id = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    if told.jwt_key.len() > KEY_ID || !told.jwt_key.bytes().all(is_id) {
        return Err(NotHeard::Unreadable("the key for tokens has no id"));
    }
    let jwt_key = told.jwt_key.clone();
    if stage == AuthorityStage::Prepared {
        return Ok(ToldAuthority { stage, serial: String::new(), jwt_key });
    }
    let certificate = CertificateDer::from(told.certificate.as_slice());
    let anchor = CertificateDer::from(told.anchor.as_slice());
    let facts = Signed::read(&certificate)
        .map_err(|error| NotHeard::NotOurs(NotAdmitted::Unreadable(error)))?;
    // One that has ended was one of ours; nothing stands behind it any more.
    let is_over = now >= facts.not_after;
    let at = if is_over { facts.not_before } else { now };
    verify_authority(&anchor, &certificate, root, domain, at).map_err(NotHeard::NotOurs)?;
    if !is_over {
        anchors.push(anchor.into_owned());
    }
    Ok(ToldAuthority { stage, serial: facts.serial, jwt_key })
}

/// How far a rotation is by what the agent told.
fn progress_of(rotation: &TrustRotation, told: &ToldTrust, now: Timestamp) -> RotationProgress {
    let wish = format!("{}-hub-{}", rotation.mode, rotation.id);
    let stands = |stages: &[AuthorityStage]| {
        told.authorities.iter().any(|authority| stages.contains(&authority.stage))
    };
    if told.rotated == wish {
        if stands(&[AuthorityStage::Prepared, AuthorityStage::Certified]) {
            RotationProgress::Prepared
        } else if stands(&[AuthorityStage::Tainted, AuthorityStage::Retiring]) {
            RotationProgress::Activated
        } else {
            RotationProgress::Done
        }
    } else if told.wish == wish {
        RotationProgress::Taken
    } else if rotation.progress != RotationProgress::Ordered {
        // Somebody in the cluster wished something else since.
        RotationProgress::Replaced
    } else if now >= rotation.take_until {
        RotationProgress::Lapsed
    } else {
        RotationProgress::Ordered
    }
}

/// What the hub shows of a rotation that nobody takes.
pub(crate) fn shown_progress(rotation: &TrustRotation, now: Timestamp) -> RotationProgress {
    match rotation.progress {
        RotationProgress::Ordered if now >= rotation.take_until => RotationProgress::Lapsed,
        progress => progress,
    }
}

#[cfg(test)]
mod tests;
