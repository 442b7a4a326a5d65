//! Keys of issuers, fetched where their issuers publish them: again every five minutes, and once when a token names a key that nobody
//! knows.
//!
//! What was fetched last counts for a day, so that an issuer may be away; there is no key in its place, and an issuer without keys proves
//! nothing (CVE-2026-31837).

mod fetch;
mod schedule;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use futures::{StreamExt as _, stream::FuturesUnordered};
use nullius_model::Timestamp;
use nullius_pki::TokenIssuer;
use tokio::sync::watch;

pub use fetch::{FetchError, KeySource};
pub use nullius_tunnel::Reach;

use crate::issuers::{IssuerKeys, KeyAsks};
use schedule::Schedule;

/// How long keys count after they were fetched.
pub const KEYS_LIFE: std::time::Duration = std::time::Duration::from_secs(86_400);
/// Issuers whose keys are fetched at most.
pub const SOURCES_MAX: usize = 64;

/// Where the keys of which issuer are.
pub type KeySources = BTreeMap<Box<str>, KeySource>;

/// Keys as they were fetched.
#[derive(Debug, Clone)]
pub struct FetchedKeys {
    /// From where.
    pub source: KeySource,
    /// As they came.
    pub jwks: Arc<[u8]>,
    /// As they are used, with their end.
    pub keys: IssuerKeys,
}

/// Keys by issuer, of those that were fetched at least once.
pub type KeyRing = BTreeMap<Box<str>, FetchedKeys>;

/// Keeps keys fetched, as long as anybody cares for them.
pub async fn keep_keys(
    mut sources: watch::Receiver<KeySources>,
    asks: Arc<KeyAsks>,
    ring: watch::Sender<KeyRing>,
) {
    let mut schedule = Schedule::default();
    let mut wanted = KeySources::new();
    // Each for itself: one that is silent keeps nobody waiting.
    let mut fetching = FuturesUnordered::new();
    loop {
        let before = std::mem::replace(&mut wanted, sources.borrow_and_update().clone());
        for issuer in before.keys().filter(|issuer| before.get(*issuer) != wanted.get(*issuer)) {
            schedule.forget(issuer);
        }
        schedule.want(wanted.keys().cloned(), Instant::now());
        // Keys of before are not those of another address.
        ring.send_if_modified(|ring| {
            let before = ring.len();
            ring.retain(|issuer, keys| wanted.get(issuer) == Some(&keys.source));
            ring.len() != before
        });
        for issuer in schedule.begin(Instant::now()) {
            let Some(source) = wanted.get(&issuer).cloned() else { continue };
            fetching.push(async move { (fetch_keys(&issuer, &source).await, issuer, source) });
        }
        let next = schedule.next().map(tokio::time::Instant::from_std);
        let sleep = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            Some((fetched, issuer, source)) = fetching.next() => {
                // What came from where it is not fetched any more is nobody's.
                if wanted.get(&issuer) == Some(&source) {
                    schedule.fetched(&issuer, fetched.is_ok(), Instant::now());
                    take(fetched, issuer, &source, &ring);
                }
            }
            changed = sources.changed() => if changed.is_err() { return },
            asked = asks.asked() => schedule.asked(&asked, Instant::now()),
            () = ring.closed() => return,
        }
    }
}

fn take(
    fetched: Result<FetchedKeys, FetchError>,
    issuer: Box<str>,
    source: &KeySource,
    ring: &watch::Sender<KeyRing>,
) {
    match fetched {
        Ok(keys) => ring.send_modify(|ring| drop(ring.insert(issuer, keys))),
        Err(error) => {
            let cause = crate::inbound::chain(&error);
            tracing::warn!(issuer = %issuer, url = %source.url, error = %cause, "cannot fetch the keys of an issuer: those of before count for a day");
        }
    }
}

async fn fetch_keys(issuer: &str, source: &KeySource) -> Result<FetchedKeys, FetchError> {
    let jwks: Arc<[u8]> = source.fetch().await?.into();
    let keys = Arc::new(TokenIssuer::read(issuer, &jwks)?);
    let life = Timestamp::now() + KEYS_LIFE;
    Ok(FetchedKeys { source: source.clone(), jwks, keys: IssuerKeys { keys, until: Some(life) } })
}
