//! Bounds on what callers cost before they have proven who they are: a token bucket per source, a queue of
//! bounded length before the password hash, and budgets of what is written down for them.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use nullius_model::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Sources remembered at most; beyond it the ones that have long been quiet are forgotten.
const SOURCES: usize = 50_000;

/// How often each source may call.
#[derive(Debug)]
pub(crate) struct SourceLimit {
    burst: f64,
    per_second: f64,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl SourceLimit {
    pub(crate) fn new(burst: u32, per_second: u32) -> Self {
        Self {
            burst: f64::from(burst.max(1)),
            per_second: f64::from(per_second.max(1)),
            buckets: Mutex::new(HashMap::new()),
        }
    }

    /// Takes one call of a source, or says after how many seconds to come back.
    pub(crate) fn take(&self, source: IpAddr, now: Timestamp) -> Result<(), u32> {
        let mut buckets = lock(&self.buckets);
        if buckets.len() >= SOURCES {
            let full_after = self.burst / self.per_second;
            buckets.retain(|_, bucket| seconds(bucket.at, now) < full_after);
            if buckets.len() >= SOURCES {
                return Err(1);
            }
        }
        let bucket =
            buckets.entry(network(source)).or_insert(Bucket { tokens: self.burst, at: now });
        let gained = seconds(bucket.at, now) * self.per_second;
        bucket.tokens = (bucket.tokens + gained).min(self.burst);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(1)
    }
}

/// How much may be written down for those whose words cost disk: so much at once, so much per minute on average.
#[derive(Debug)]
pub(crate) struct Budgets<K> {
    at_once: f64,
    per_minute: f64,
    by_key: Mutex<BTreeMap<K, Budget>>,
}

#[derive(Debug, Clone, Copy)]
struct Budget {
    left: f64,
    at: Timestamp,
    left_out: u64,
}

impl<K: Ord + Clone> Budgets<K> {
    pub(crate) fn new(at_once: u32, per_minute: u32) -> Self {
        let by_key = Mutex::default();
        Self { at_once: at_once.into(), per_minute: per_minute.into(), by_key }
    }

    /// Takes one of a key's; gives how many were left out since the last that was taken, none where this one is.
    pub(crate) fn take(&self, key: &K, now: Timestamp) -> Option<u64> {
        let mut by_key = lock(&self.by_key);
        let full = Budget { left: self.at_once, at: now, left_out: 0 };
        let budget = by_key.entry(key.clone()).or_insert(full);
        let gained = seconds(budget.at, now) / 60.0 * self.per_minute;
        budget.left = (budget.left + gained).min(self.at_once);
        budget.at = now;
        if budget.left < 1.0 {
            budget.left_out += 1;
            return None;
        }
        budget.left -= 1.0;
        Some(std::mem::take(&mut budget.left_out))
    }
}

/// The network that one person can be assumed to hold whole: an IPv4 address, an IPv6 /64.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => IpAddr::V4(mapped),
            None => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
        },
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// Room for password hashes: so many at a time, so many waiting, the rest is told to come back.
#[derive(Debug)]
pub(crate) struct HashRoom {
    running: Semaphore,
    waiting: AtomicUsize,
    queue: usize,
}

/// No room: come back after so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy {
    /// Seconds.
    pub(crate) retry_after: u32,
}

impl HashRoom {
    pub(crate) fn new(at_once: usize, queue: usize) -> Self {
        Self { running: Semaphore::new(at_once.max(1)), waiting: AtomicUsize::new(0), queue }
    }

    /// Waits for a turn.
    pub(crate) async fn enter(&self) -> Result<SemaphorePermit<'_>, Busy> {
        if let Ok(permit) = self.running.try_acquire() {
            return Ok(permit);
        }
        let place = Place::take(self)?;
        let permit = self.running.acquire().await;
        drop(place);
        permit.map_err(|_| Busy { retry_after: 5 })
    }
}

/// A place in the queue, given back also when the caller goes away.
struct Place<'a>(&'a HashRoom);

impl<'a> Place<'a> {
    fn take(room: &'a HashRoom) -> Result<Self, Busy> {
        let before = room.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Self(room);
        if before >= room.queue { Err(Busy { retry_after: 2 }) } else { Ok(place) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Locks; a poisoned lock is used as it is, since each holder leaves its map whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_source_is_held_back_and_let_in_again_without_hindering_others() {
        let limit = SourceLimit::new(2, 1);
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let other: IpAddr = "192.0.2.2".parse().unwrap();
        assert!(limit.take(one, at(0)).is_ok());
        assert!(limit.take(one, at(0)).is_ok());
        assert_eq!(limit.take(one, at(0)), Err(1));
        assert!(limit.take(other, at(0)).is_ok());
        assert!(limit.take(one, at(1)).is_ok());
        assert_eq!(limit.take(one, at(1)), Err(1));
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_bucket() {
        let limit = SourceLimit::new(1, 1);
        assert!(limit.take("2001:db8::1".parse().unwrap(), at(0)).is_ok());
        assert!(limit.take("2001:db8::2".parse().unwrap(), at(0)).is_err());
        assert!(limit.take("2001:db8:0:1::1".parse().unwrap(), at(0)).is_ok());
    }

    #[test]
    fn what_is_said_without_end_is_not_written_down_without_end() {
        let budgets = Budgets::new(200, 60);
        let taken = (0..10_000).filter(|_| budgets.take(&"dev", at(0)).is_some()).count();
        assert_eq!(taken, 200);
        assert_eq!(budgets.take(&"prod", at(0)), Some(0), "others are heard");
        assert_eq!(budgets.take(&"dev", at(1)), Some(9_800), "what was left out is counted");
        assert_eq!(budgets.take(&"dev", at(1)), None);
    }

    #[tokio::test]
    async fn the_queue_before_the_password_hash_is_bounded() {
        let room = HashRoom::new(1, 1);
        let running = room.enter().await.unwrap();
        let waiting = room.enter();
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        assert_eq!(room.enter().await.err(), Some(Busy { retry_after: 2 }));
        drop(running);
        assert!(waiting.await.is_ok());
        assert!(room.enter().await.is_ok());
    }
}
