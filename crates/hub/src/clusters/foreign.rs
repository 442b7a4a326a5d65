//! Bundles of trust domains of somebody else, fetched where their owners publish them (SPIFFE Federation): again when they say so, in
//! bounds.
//!
//! What came last and could be used is kept, however long its endpoint is away; it is as old as it is shown to be. A bundle with a
//! lower number than the one that is kept is older and changes nothing.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use nullius_access::Snapshot;
use nullius_audit::display_safe;
use nullius_model::{AnyObject, BundleEndpointProfile, ForeignTrust, Kind};
use nullius_pki::{
    token_hash,
    workload::{BundleError, TrustBundle},
};
use nullius_store::{ForeignBundle, StoreError};
use nullius_tls::{TlsError, WorkloadConnector};
use nullius_tunnel::{Fetch, FetchError, ServerProof};
use tokio_util::sync::CancellationToken;

use crate::{Hub, record::chain};

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
    #[error("the hub cannot read or keep it now")]
    Store(#[from] StoreError),
}

/// When each is fetched, by the UID of its object.
#[derive(Default)]
struct Schedule(BTreeMap<String, Times>);

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
        let due = schedule.due(&wanted, Instant::now());
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
        let known = self.store.read().await?.trust().foreign(wanted.name).await?;
        let known = known.filter(|it| it.uid == wanted.uid && it.source == wanted.source);
        let held = held(wanted.trust, known.as_ref());
        let fetched = fetch(wanted.trust, held.as_ref(), self.settings.foreign_reach).await;
        let fetched = fetched.and_then(|bundle| is_newer(held.as_ref(), &bundle).map(|()| bundle));
        let now = self.now();
        let mut kept = known.unwrap_or_else(|| ForeignBundle {
            federation: wanted.name.to_owned(),
            uid: wanted.uid.to_owned(),
            source: wanted.source.clone(),
            bundle: None,
            fetched_at: None,
            failure: None,
            failing_since: None,
        });
        match &fetched {
            Ok(bundle) => {
                kept.bundle = Some(bundle.to_json().to_string());
                (kept.fetched_at, kept.failure, kept.failing_since) = (Some(now), None, None);
            }
            Err(why) => {
                let told = display_safe(&chain(why)).chars().take(WORDS).collect();
                kept.failure = Some(told);
                kept.failing_since.get_or_insert(now);
            }
        }
        // Nobody deletes the federation meanwhile.
        let _turn = self.changing.lock().await;
        if self.snapshot().objects(Kind::Federation).any(|it| is_of(it, wanted)) {
            let mut tx = self.store.begin().await?;
            tx.trust().put_foreign(&kept).await?;
            tx.commit().await?;
        }
        Ok(fetched?.refresh_hint_secs())
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

/// What a bundle that is kept was fetched for: where that is another, it counts no more.
pub(crate) fn source_of(trust: &ForeignTrust) -> String {
    token_hash(&serde_json::to_string(trust).unwrap_or_default())
}

/// The bundle that counts: what was taken last, or what the object gives.
pub(crate) fn held(trust: &ForeignTrust, known: Option<&ForeignBundle>) -> Option<TrustBundle> {
    let taken = known.and_then(|it| it.bundle.as_ref());
    let text = taken.or(trust.trust_domain_bundle.as_ref())?;
    TrustBundle::read(trust.trust_domain.clone(), text.as_bytes()).ok()
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
    Ok(TrustBundle::read(trust.trust_domain.clone(), &text)?)
}

/// Refuses a bundle that is older than the one that counts.
fn is_newer(held: Option<&TrustBundle>, fetched: &TrustBundle) -> Result<(), NotTaken> {
    let Some(known) = held.and_then(TrustBundle::sequence) else { return Ok(()) };
    match fetched.sequence() {
        Some(told) if told < known => Err(NotTaken::Older { known, told }),
        Some(_) => Ok(()),
        None => Err(NotTaken::Unnumbered(known)),
    }
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
    let read = TrustBundle::read(trust.trust_domain.clone(), text.as_bytes());
    read.map(drop).map_err(|error| ("trustDomainBundle", error.to_string()))
}

impl Schedule {
    /// Those whose time has come, new and changed ones at once.
    fn due<'w, 's>(&mut self, wanted: &'w [Wanted<'s>], now: Instant) -> Vec<&'w Wanted<'s>> {
        self.0.retain(|uid, _| wanted.iter().any(|it| it.uid == uid));
        let mut due: Vec<_> = wanted
            .iter()
            .filter_map(|one| match self.0.get(one.uid) {
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
        let before = self.0.get(one.uid).filter(|it| it.source == one.source);
        let failures = match hint {
            Ok(_) => 0,
            Err(()) => before.map_or(0, |it| it.failures).saturating_add(1),
        };
        let wait = match hint {
            Ok(hint) => hint.unwrap_or(USUAL).clamp(SOONEST, LATEST),
            Err(()) => RETRY.saturating_mul(1 << (failures - 1).min(10)).min(USUAL),
        };
        let due = now + Duration::from_secs(wait);
        self.0.insert(one.uid.to_owned(), Times { source: one.source.clone(), due, failures });
    }
}

#[cfg(test)]
mod tests;
