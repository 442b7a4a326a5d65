//! How much one caller may have at the same time, and how often they may ask: a workload that floods harms itself alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    attest::Facts,
    cgroup::{Place, PodUid},
    serve::Limits,
};

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
    open: Mutex<HashMap<Holder, Account>>,
}

#[derive(Debug)]
struct Account {
    connections: usize,
    streams: usize,
    /// Requests that may be made now, and when that was counted.
    allowance: f64,
    counted: Instant,
}

/// A connection that is counted, until it is dropped.
pub(crate) struct ConnectionPlace {
    accounts: Arc<Accounts>,
    holder: Holder,
}

/// A stream that is counted, until it is dropped.
pub(crate) struct StreamPlace {
    connection: Arc<ConnectionPlace>,
}

impl Holder {
    pub(crate) fn of(facts: &Facts) -> Self {
        match &facts.place {
            Place::Pod { pod, .. } => Self::Pod(pod.clone()),
            Place::Host => Self::User(facts.uid),
            Place::OtherContainer => Self::UserOfContainers(facts.uid),
        }
    }
}

impl Accounts {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default() })
    }

    /// A place for one more connection.
    pub(crate) fn connect(self: &Arc<Self>, holder: Holder) -> Option<Arc<ConnectionPlace>> {
        let mut open = self.open();
        let fresh = || Account {
            connections: 0,
            streams: 0,
            allowance: f64::from(self.limits.burst),
            counted: Instant::now(),
        };
        let account = open.entry(holder.clone()).or_insert_with(fresh);
        if account.connections >= self.limits.connections_of_one {
            return None;
        }
        account.connections += 1;
        drop(open);
        Some(Arc::new(ConnectionPlace { accounts: Arc::clone(self), holder }))
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Holder, Account>> {
        // Counts are right after each statement: a panic of another holder leaves them so.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes away who is connected no more and has a full allowance: until then they are remembered, so that a new connection
    /// is no new allowance.
    fn forget(&self, open: &mut HashMap<Holder, Account>, now: Instant) {
        let limits = &self.limits;
        open.retain(|_, account| {
            account.connections > 0 || {
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
}

impl ConnectionPlace {
    /// Takes one request from the allowance.
    pub(crate) fn may_ask(&self) -> bool {
        let mut open = self.accounts.open();
        let Some(account) = open.get_mut(&self.holder) else { return false };
        account.refill(&self.accounts.limits, Instant::now());
        let may = account.allowance >= 1.0;
        if may {
            account.allowance -= 1.0;
        }
        may
    }

    /// A place for one more stream.
    pub(crate) fn stream(self: &Arc<Self>) -> Option<StreamPlace> {
        let mut open = self.accounts.open();
        let account = open.get_mut(&self.holder)?;
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
        if let Some(account) = open.get_mut(&self.holder) {
            account.connections = account.connections.saturating_sub(1);
        }
        self.accounts.forget(&mut open, Instant::now());
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut open = self.connection.accounts.open();
        if let Some(account) = open.get_mut(&self.connection.holder) {
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
        assert!(accounts.connect(Holder::User(1)).is_none());
        assert!(accounts.connect(Holder::User(2)).is_some());
        let stream = one.stream().unwrap();
        let _other = two.stream().unwrap();
        assert!(two.stream().is_none());
        drop(stream);
        assert!(two.stream().is_some());
        drop(one);
        assert!(accounts.connect(Holder::User(1)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_is_no_new_allowance() {
        let accounts = accounts();
        let asked = |times: usize| {
            let place = accounts.connect(Holder::User(1)).unwrap();
            (0..times).filter(|_| place.may_ask()).count()
        };
        assert_eq!(asked(5), 3);
        assert_eq!(asked(5), 0);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(asked(5), 2);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(asked(5), 3);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(asked(0), 0);
        assert!(accounts.open().is_empty(), "who has gone is forgotten");
    }
}
