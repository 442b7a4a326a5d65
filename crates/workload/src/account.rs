//! How much one caller may have at the same time, and how often they may ask: a workload that floods harms itself alone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    cgroup::{Place, PodUid},
    serve::Limits,
    unfinished::Room,
    words::Words,
};

/// Requests of one that are read at the same time, and bytes of messages of theirs that are not whole.
const UNFINISHED: usize = 16;
const UNFINISHED_BYTES: usize = 512 * 1024;

/// Whose account it is: pods have one each, and so has each user of a host or of other containers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    Pod(PodUid),
    User(u32),
    UserOfContainers(u32),
}

/// The accounts of all who are connected.
pub(crate) struct Accounts {
    limits: Limits,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// Of the connection that came last.
    number: u64,
    accounts: HashMap<Holder, Account>,
}

struct Account {
    /// Each with what ends it, the oldest first.
    connections: BTreeMap<u64, CancellationToken>,
    streams: usize,
    room: Room,
    words: Arc<Words>,
    /// Requests that may be made now, and when that was counted.
    allowance: f64,
    counted: Instant,
}

/// A connection that is counted, until it is dropped.
pub(crate) struct ConnectionPlace {
    accounts: Arc<Accounts>,
    holder: Holder,
    number: u64,
    /// It has to make room for others.
    pub(crate) cut: CancellationToken,
}

/// Why there is no place for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPlace {
    #[error("the caller has too many connections")]
    TooMany,
    #[error("the caller connects or asks too often")]
    TooOften,
}

/// A stream that is counted, until it is dropped.
pub(crate) struct StreamPlace {
    connection: Arc<ConnectionPlace>,
}

impl Holder {
    pub(crate) fn of(place: &Place, user: u32) -> Self {
        match place {
            Place::Pod { pod, .. } => Self::Pod(pod.clone()),
            Place::Host => Self::User(user),
            Place::OtherContainer => Self::UserOfContainers(user),
        }
    }
}

impl Accounts {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default() })
    }

    /// A place for one more connection, if need be that of whoever has most.
    pub(crate) fn connect(
        self: &Arc<Self>,
        holder: Holder,
    ) -> Result<Arc<ConnectionPlace>, NoPlace> {
        let mut open = self.open();
        open.number += 1;
        let number = open.number;
        let fresh = || Account {
            connections: BTreeMap::new(),
            streams: 0,
            room: Room::new(UNFINISHED, UNFINISHED_BYTES),
            words: Arc::new(Words::new(1)),
            allowance: f64::from(self.limits.burst),
            counted: Instant::now(),
        };
        let account = open.accounts.entry(holder.clone()).or_insert_with(fresh);
        if account.connections.len() >= self.limits.connections_of_one {
            return Err(NoPlace::TooMany);
        }
        if !account.take(&self.limits, Instant::now()) {
            return Err(NoPlace::TooOften);
        }
        let cut = CancellationToken::new();
        account.connections.insert(number, cut.clone());
        open.make_room(self.limits.connections);
        drop(open);
        Ok(Arc::new(ConnectionPlace { accounts: Arc::clone(self), holder, number, cut }))
    }

    /// Whether the log hears of a holder, and how often it did not before.
    pub(crate) fn word(&self, holder: &Holder) -> Option<u64> {
        let words = self.open().accounts.get(holder).map(|account| Arc::clone(&account.words));
        words.and_then(|words| words.take())
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Counts are right after each statement: a panic of another holder leaves them so.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Ends one where there are too many: the oldest of whoever has most.
    fn make_room(&mut self, most: usize) {
        let all: usize = self.accounts.values().map(|account| account.connections.len()).sum();
        if all <= most {
            return;
        }
        let worst = self.accounts.values_mut().max_by_key(|account| {
            let oldest = account.connections.keys().next().copied();
            (account.connections.len(), std::cmp::Reverse(oldest))
        });
        if let Some((_, cut)) = worst.and_then(|account| account.connections.pop_first()) {
            cut.cancel();
        }
    }

    /// Takes away who is connected no more and has a full allowance: until then they are remembered, so that a new connection
    /// is no new allowance.
    fn forget(&mut self, limits: &Limits, now: Instant) {
        self.accounts.retain(|_, account| {
            !account.connections.is_empty() || {
                account.refill(limits, now);
                account.allowance < f64::from(limits.burst)
            }
        });
    }
}

impl Account {
    fn refill(&mut self, limits: &Limits, now: Instant) {
        let passed: Duration = now.saturating_duration_since(self.counted);
        self.counted = now;
        let earned = passed.as_secs_f64() * f64::from(limits.requests_per_second);
        self.allowance = (self.allowance + earned).min(f64::from(limits.burst));
    }
    fn take(&mut self, limits: &Limits, now: Instant) -> bool {
        self.refill(limits, now);
        let may = self.allowance >= 1.0;
        if may {
            self.allowance -= 1.0;
        }
        may
    }
}

impl ConnectionPlace {
    /// Takes one request from the allowance.
    pub(crate) fn may_ask(&self) -> bool {
        self.room().is_some()
    }

    /// Takes one request from the allowance, and says what of it may be unfinished.
    pub(crate) fn room(&self) -> Option<Room> {
        let mut open = self.accounts.open();
        let account = open.accounts.get_mut(&self.holder)?;
        account.take(&self.accounts.limits, Instant::now()).then(|| account.room.clone())
    }

    /// A place for one more stream.
    pub(crate) fn stream(self: &Arc<Self>) -> Option<StreamPlace> {
        let mut open = self.accounts.open();
        let account = open.accounts.get_mut(&self.holder)?;
        if account.streams >= self.accounts.limits.streams_of_one {
            return None;
        }
        account.streams += 1;
        drop(open);
        Some(StreamPlace { connection: Arc::clone(self) })
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let mut open = self.accounts.open();
        if let Some(account) = open.accounts.get_mut(&self.holder) {
            account.connections.remove(&self.number);
        }
        open.forget(&self.accounts.limits, Instant::now());
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut open = self.connection.accounts.open();
        if let Some(account) = open.accounts.get_mut(&self.connection.holder) {
            account.streams = account.streams.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn accounts() -> Arc<Accounts> {
        Accounts::new(Limits {
            connections_of_one: 2,
            streams_of_one: 2,
            burst: 3,
            requests_per_second: 1,
            ..Limits::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn connections_and_streams_are_counted_for_each() {
        let accounts = accounts();
        let one = accounts.connect(Holder::User(1)).unwrap();
        let two = accounts.connect(Holder::User(1)).unwrap();
        assert_eq!(accounts.connect(Holder::User(1)).err(), Some(NoPlace::TooMany));
        assert!(accounts.connect(Holder::User(2)).is_ok());
        let stream = one.stream().unwrap();
        let _other = two.stream().unwrap();
        assert!(two.stream().is_none());
        drop(stream);
        assert!(two.stream().is_some());
        drop(one);
        assert!(accounts.connect(Holder::User(1)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_has_many_connections_makes_room_for_others() {
        let limits = Limits { connections: 4, connections_of_one: 4, ..Limits::default() };
        let accounts = Accounts::new(limits);
        let take = |user| accounts.connect(Holder::User(user)).unwrap();
        let many: Vec<_> = (0..4).map(|_| take(1)).collect();
        let (two, three) = (take(2), take(3));
        let cut: Vec<bool> = many.iter().map(|place| place.cut.is_cancelled()).collect();
        assert_eq!(cut, [true, true, false, false], "the oldest go");
        // Nobody gains by coming again.
        let again = take(1);
        assert!(many[2].cut.is_cancelled() && !again.cut.is_cancelled());
        assert!(!two.cut.is_cancelled() && !three.cut.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_hears_of_each_once_a_minute() {
        let accounts = accounts();
        let _places = (accounts.connect(Holder::User(1)), accounts.connect(Holder::User(2)));
        let said = |user| accounts.word(&Holder::User(user));
        assert_eq!((said(1), said(1), said(1), said(2)), (Some(0), None, None, Some(0)));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(said(1), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_is_no_new_allowance() {
        let accounts = accounts();
        let asked = |times: usize| {
            let place = accounts.connect(Holder::User(1)).unwrap();
            (0..times).filter(|_| place.may_ask()).count()
        };
        // Connecting is the first.
        assert_eq!(asked(5), 2);
        assert_eq!(accounts.connect(Holder::User(1)).err(), Some(NoPlace::TooOften));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(asked(5), 1);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(asked(5), 2);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(asked(0), 0);
        tokio::time::advance(Duration::from_secs(60)).await;
        drop(accounts.connect(Holder::User(2)));
        tokio::time::advance(Duration::from_secs(60)).await;
        accounts.open().forget(&accounts.limits, Instant::now());
        assert!(accounts.open().accounts.is_empty(), "who has gone is forgotten");
    }
}
