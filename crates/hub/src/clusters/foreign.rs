//! Bundles of trust domains of somebody else, fetched where their owners publish them (SPIFFE Federation): again when they say so, in
//! bounds.
//!
//! What came last and could be used is kept, however long its endpoint is away, and wherever it is fetched from next; it is as old as it is
//! shown to be. A bundle with a lower number than the one that is kept is older and changes nothing, until somebody says that it may.
//! Which keys are believed from when on is in the audit.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures::future::join_all;
use nullius_access::Snapshot;
use nullius_audit::display_safe;
use nullius_model::{
    AnyObject, AuditEvent, AuditKind, AuditOutcome, BundleEndpointProfile, Explanation,
    ForeignTrust, Kind, Reason, Timestamp,
};
use nullius_pki::{
    token_hash,
    workload::{BundleError, TrustBundle},
};
use nullius_store::{ForeignBundle, StoreError};
use nullius_tls::{TlsError, WorkloadConnector};
use nullius_tunnel::{Fetch, FetchError, ServerProof};
use tokio_util::sync::CancellationToken;

use self::keys::Keys;
use crate::{Hub, record::chain};

mod keys;

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_secs(2);
/// Between two fetches that go well: as the bundle says, in these bounds, in seconds.
const SOONEST: u64 = 30;
const LATEST: u64 = 3_600;
const USUAL: u64 = 300;
/// After the first that fails; it doubles up to `USUAL`.
const RETRY: u64 = 5;
/// Fetches at once: one that is slow keeps few others waiting.
const AT_ONCE: usize = 16;
/// The longest bundle of somebody else.
const BUNDLE_MAX: usize = 64 * 1024;
/// Characters of why nothing was fetched.
const WORDS: usize = 300;

/// So much higher a number may be at once, where it is none of a clock: whoever has the endpoint for a moment does not make all that
/// follows older.
const LEAP: u64 = 1 << 32;
/// Clocks differ by no more, in nanoseconds.
const CLOCKS: i128 = 86_400_000_000_000;

/// Why a bundle was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(
        "the endpoint proves itself by the bundle, and there is none: give `trustDomainBundle`"
    )]
    NoBundle,
    #[error("the endpoint's SVID cannot be asked for")]
    Tls(#[from] TlsError),
    #[error("the bundle has number {told}, and {known} was taken before")]
    Older { known: u64, told: u64 },
    #[error("the bundle has no number, and that of before has {0}")]
    Unnumbered(u64),
    #[error("the bundle has number {told}, which is no number that follows {known}")]
    Leap { known: u64, told: u64 },
    #[error("the federation is another one by now")]
    Changed,
    #[error("the hub cannot read or keep it now")]
    Store(#[from] StoreError),
}

/// When each is fetched, by the UID of its object.
#[derive(Default)]
struct Schedule {
    all: BTreeMap<String, Times>,
    /// How often somebody said that older bundles may be taken.
    anew: u64,
}

struct Times {
    source: String,
    due: Instant,
    failures: u32,
}

/// A federation with somebody else.
struct Wanted<'s> {
    name: &'s str,
    uid: &'s str,
    source: String,
    trust: &'s ForeignTrust,
}

impl Hub {
    /// Keeps bundles of others fetched until it is told to stop.
    pub(crate) async fn follow_foreign(self: Arc<Self>, stop: CancellationToken) {
        let mut schedule = Schedule::default();
        while stop.run_until_cancelled(self.fetch_due(&mut schedule)).await.is_some() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn fetch_due(&self, schedule: &mut Schedule) {
        let snapshot = self.snapshot();
        let wanted = wanted(&snapshot);
        let anew = self.foreign_anew.load(Ordering::Acquire);
        let due = schedule.due(&wanted, anew, Instant::now());
        let fetched =
            due.into_iter().map(|one| async move { (one, self.fetch_foreign(one).await) });
        for (one, fetched) in join_all(fetched).await {
            let hint = match &fetched {
                Ok(hint) => Ok(*hint),
                Err(why) => {
                    let (name, cause) = (one.name, chain(why));
                    tracing::warn!(federation = %name, error = %cause, "cannot fetch the bundle of another trust domain: that of before counts on");
                    Err(())
                }
            };
            schedule.fetched(one, hint, Instant::now());
        }
    }

    /// Fetches one, keeps what came of it, and says after how many seconds to look again.
    async fn fetch_foreign(&self, wanted: &Wanted<'_>) -> Result<Option<u64>, NotTaken> {
        let trust = wanted.trust;
        let known = self.store.read().await?.trust().foreign(wanted.name).await?;
        let before = known.clone().filter(|it| wanted.has(it));
        let held = held(trust, before.as_ref(), self.now());
        let fetched = fetch(trust, held.as_ref(), self.settings.foreign_reach).await;
        let now = self.now();
        let mut kept = wanted.kept(before, held.as_ref());
        let mut events = Vec::new();
        let told = fetched.and_then(|bundle| match is_newer(held.as_ref(), &bundle, now) {
            Ok(()) => Ok(bundle),
            Err(why) => {
                // Its server is the right one: somebody went back, or somebody else was there before.
                let refused = token_hash(&bundle.to_json().to_string());
                if kept.refused != refused {
                    events.push(self.alarm(wanted, held.as_ref(), &bundle, &why));
                    kept.refused = refused;
                }
                Err(why)
            }
        });
        match &told {
            Ok(bundle) => {
                events.extend(self.changed_keys(wanted, held.as_ref(), bundle));
                kept.bundle = Some(bundle.to_json().to_string());
                (kept.fetched_at, kept.failure, kept.failing_since) = (Some(now), None, None);
                kept.refused.clear();
            }
            Err(why) => {
                let told = display_safe(&chain(why)).chars().take(WORDS).collect();
                kept.failure = Some(told);
                kept.failing_since.get_or_insert(now);
            }
        }
        // Nobody deletes or changes the federation meanwhile, or says that an older one may be taken.
        let _turn = self.changing.lock().await;
        let mut tx = self.store.begin().await?;
        let is_the_same = tx.trust().foreign(wanted.name).await? == known;
        if !is_the_same || !self.snapshot().objects(Kind::Federation).any(|it| is_of(it, wanted)) {
            return Err(NotTaken::Changed);
        }
        tx.trust().put_foreign(&kept).await?;
        for event in &events {
            tx.audit(event)?;
        }
        tx.commit().await?;
        Ok(told?.refresh_hint_secs())
    }

    /// That other keys of the trust domain are believed from now on, where that is so.
    fn changed_keys(
        &self,
        wanted: &Wanted<'_>,
        held: Option<&TrustBundle>,
        bundle: &TrustBundle,
    ) -> Option<AuditEvent> {
        let (before, after) = (Keys::of(held), Keys::of(Some(bundle)));
        if held.is_some() && before.are(&after) {
            return None;
        }
        let mut event = self.foreign_event(wanted, AuditKind::Certify, AuditOutcome::Done);
        before.tell(&mut event.facts, "-before");
        after.tell(&mut event.facts, "");
        Some(event)
    }

    /// That the right server told of a bundle that is not taken.
    fn alarm(
        &self,
        wanted: &Wanted<'_>,
        held: Option<&TrustBundle>,
        refused: &TrustBundle,
        why: &NotTaken,
    ) -> AuditEvent {
        let mut event = self.foreign_event(wanted, AuditKind::Alarm, AuditOutcome::Denied);
        event.explanation = Some(Explanation::new(Reason::StaleState, why.to_string()));
        Keys::of(held).tell(&mut event.facts, "-that-count");
        Keys::of(Some(refused)).tell(&mut event.facts, "-refused");
        event
    }

    fn foreign_event(
        &self,
        wanted: &Wanted<'_>,
        kind: AuditKind,
        outcome: AuditOutcome,
    ) -> AuditEvent {
        let mut event = self.own_event(kind, outcome);
        event.target = Some(format!("{}/{}", Kind::Federation, wanted.name));
        let ForeignTrust { trust_domain, bundle_endpoint_url, .. } = wanted.trust;
        event.facts.extend([
            ("uid".to_owned(), wanted.uid.to_owned()),
            ("trust-domain".to_owned(), trust_domain.to_string()),
            ("url".to_owned(), bundle_endpoint_url.clone()),
        ]);
        event
    }
}

impl Wanted<'_> {
    /// Whether something was kept for it.
    fn has(&self, known: &ForeignBundle) -> bool {
        known.uid == self.uid && known.trust_domain == self.trust.trust_domain
    }

    /// What is kept for it: what counts now, whether it was fetched or given.
    fn kept(&self, known: Option<ForeignBundle>, held: Option<&TrustBundle>) -> ForeignBundle {
        let bundle = held.map(|bundle| bundle.to_json().to_string());
        let given = given(self.trust);
        match known {
            Some(known) if known.bundle == bundle => ForeignBundle { given, ..known },
            // Another one was given: nothing was fetched since.
            Some(known) => ForeignBundle { given, bundle, fetched_at: None, ..known },
            None => ForeignBundle {
                federation: self.name.to_owned(),
                uid: self.uid.to_owned(),
                trust_domain: self.trust.trust_domain.clone(),
                given,
                bundle,
                refused: String::new(),
                fetched_at: None,
                failure: None,
                failing_since: None,
            },
        }
    }
}

fn is_of(object: &AnyObject, wanted: &Wanted<'_>) -> bool {
    object.metadata().uid.as_deref() == Some(wanted.uid)
}

/// Federations with others.
fn wanted(snapshot: &Snapshot) -> Vec<Wanted<'_>> {
    let all = snapshot.objects(Kind::Federation).filter_map(|object| {
        let AnyObject::Federation(federation) = object else { return None };
        let trust = federation.spec.federates_with.as_ref()?;
        let (name, uid) = (&federation.metadata.name, federation.metadata.uid.as_deref()?);
        Some(Wanted { name: name.as_str(), uid, source: source_of(trust), trust })
    });
    all.collect()
}

/// What a federation is fetched by: where that is another, it is fetched at once.
fn source_of(trust: &ForeignTrust) -> String {
    token_hash(&serde_json::to_string(trust).unwrap_or_default())
}

/// Which bundle an object gives, by its digest.
fn given(trust: &ForeignTrust) -> String {
    trust.trust_domain_bundle.as_deref().map(token_hash).unwrap_or_default()
}

/// The bundle that counts: what was taken last, or what the object gives, where that is another than then and no older one.
pub(crate) fn held(
    trust: &ForeignTrust,
    known: Option<&ForeignBundle>,
    now: Timestamp,
) -> Option<TrustBundle> {
    let read = |text: &String| {
        let read = TrustBundle::read_usable(trust.trust_domain.clone(), text.as_bytes());
        read.ok().map(|(bundle, _)| bundle)
    };
    let taken = known.and_then(|it| it.bundle.as_ref()).and_then(read);
    let Some(taken) = taken else { return trust.trust_domain_bundle.as_ref().and_then(read) };
    if known.is_some_and(|it| it.given == given(trust)) {
        return Some(taken);
    }
    let other = trust.trust_domain_bundle.as_ref().and_then(read);
    other.filter(|other| is_newer(Some(&taken), other, now).is_ok()).or(Some(taken))
}

/// Tells which keys count now, as facts of an event.
pub(crate) fn tell_keys(
    trust: &ForeignTrust,
    known: Option<&ForeignBundle>,
    now: Timestamp,
    facts: &mut BTreeMap<String, String>,
    suffix: &str,
) {
    Keys::of(held(trust, known, now).as_ref()).tell(facts, suffix);
}

async fn fetch(
    trust: &ForeignTrust,
    held: Option<&TrustBundle>,
    reach: nullius_tunnel::Reach,
) -> Result<TrustBundle, NotTaken> {
    let server = match &trust.bundle_endpoint_profile {
        BundleEndpointProfile::Web { authorities: None } => ServerProof::Web,
        BundleEndpointProfile::Web { authorities: Some(pem) } => ServerProof::Authorities(pem),
        BundleEndpointProfile::Spiffe { endpoint_spiffe_id } => {
            let bundle = held.ok_or(NotTaken::NoBundle)?.clone();
            let expected = [endpoint_spiffe_id.clone()].into();
            ServerProof::Svid(WorkloadConnector::without_svid([bundle], expected, &[])?)
        }
    };
    let (url, accept) = (trust.bundle_endpoint_url.as_str(), "application/json");
    let text = Fetch { url, server, reach, max: BUNDLE_MAX, accept }.get().await?;
    let (bundle, left_out) = TrustBundle::read_usable(trust.trust_domain.clone(), &text)?;
    for why in left_out {
        tracing::debug!(trust_domain = %trust.trust_domain, %why, "leave a key of somebody else's bundle out");
    }
    Ok(bundle)
}

/// Refuses a bundle that is older than the one that counts, or after which every other would be.
fn is_newer(
    held: Option<&TrustBundle>,
    fetched: &TrustBundle,
    now: Timestamp,
) -> Result<(), NotTaken> {
    let known = held.and_then(TrustBundle::sequence);
    match (known, fetched.sequence()) {
        (Some(known), Some(told)) if told < known => Err(NotTaken::Older { known, told }),
        (Some(known), None) => Err(NotTaken::Unnumbered(known)),
        (_, Some(told)) if told > highest(known, now) => {
            Err(NotTaken::Leap { known: known.unwrap_or_default(), told })
        }
        (None, None) | (_, Some(_)) => Ok(()),
    }
}

/// The highest number that may follow: most count, and some are of a clock, in nanoseconds at the finest.
fn highest(known: Option<u64>, now: Timestamp) -> u64 {
    let clock = u64::try_from(now.as_nanosecond().saturating_add(CLOCKS)).unwrap_or_default();
    known.unwrap_or_default().saturating_add(LEAP).max(clock)
}

/// Refuses what could never be fetched or used; says which field.
pub(crate) fn check(trust: &ForeignTrust) -> Result<(), (&'static str, String)> {
    let server = match &trust.bundle_endpoint_profile {
        BundleEndpointProfile::Web { authorities: Some(pem) } => ServerProof::Authorities(pem),
        BundleEndpointProfile::Web { authorities: None } | BundleEndpointProfile::Spiffe { .. } => {
            ServerProof::Web
        }
    };
    let reach = nullius_tunnel::Reach::Elsewhere;
    let fetch = Fetch { url: &trust.bundle_endpoint_url, server, reach, max: 0, accept: "" };
    fetch.check().map_err(|error| {
        let field = match error {
            FetchError::Authorities(_) => "bundleEndpointProfile.authorities",
            _ => "bundleEndpointURL",
        };
        (field, chain(&error).to_string())
    })?;
    let Some(text) = &trust.trust_domain_bundle else { return Ok(()) };
    if text.len() > BUNDLE_MAX {
        return Err(("trustDomainBundle", format!("it is longer than {BUNDLE_MAX} bytes")));
    }
    let read = TrustBundle::read_usable(trust.trust_domain.clone(), text.as_bytes());
    read.map(drop).map_err(|error| ("trustDomainBundle", error.to_string()))
}

impl Schedule {
    /// Those whose time has come, new and changed ones at once.
    fn due<'w, 's>(
        &mut self,
        wanted: &'w [Wanted<'s>],
        anew: u64,
        now: Instant,
    ) -> Vec<&'w Wanted<'s>> {
        if std::mem::replace(&mut self.anew, anew) != anew {
            self.all.clear();
        }
        self.all.retain(|uid, _| wanted.iter().any(|it| it.uid == uid));
        let mut due: Vec<_> = wanted
            .iter()
            .filter_map(|one| match self.all.get(one.uid) {
                Some(times) if times.source == one.source => {
                    (times.due <= now).then_some((times.due, one))
                }
                Some(_) | None => Some((now, one)),
            })
            .collect();
        // Who waits longest is first.
        due.sort_by_key(|(since, _)| *since);
        due.into_iter().map(|(_, one)| one).take(AT_ONCE).collect()
    }

    /// One was fetched, or was tried.
    fn fetched(&mut self, one: &Wanted<'_>, hint: Result<Option<u64>, ()>, now: Instant) {
        let before = self.all.get(one.uid).filter(|it| it.source == one.source);
        let failures = match hint {
            Ok(_) => 0,
            Err(()) => before.map_or(0, |it| it.failures).saturating_add(1),
        };
        let wait = match hint {
            Ok(hint) => hint.unwrap_or(USUAL).clamp(SOONEST, LATEST),
            Err(()) => RETRY.saturating_mul(1 << (failures - 1).min(10)).min(USUAL),
        };
        let due = now + Duration::from_secs(wait);
        self.all.insert(one.uid.to_owned(), Times { source: one.source.clone(), due, failures });
    }
}

#[cfg(test)]
mod tests;
