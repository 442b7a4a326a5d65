//! Guessing is slowed down, and slowing it down is no way to lock somebody else out.
//!
//! Attempts are counted for each user and source network, with a delay that doubles. Beside it, attempts from all
//! networks where the user never signed in share a softer delay, against guessing from many places. A network where
//! the user signed in before is judged by its own count alone, and waits briefly.
//!
//! An attempt counts as failed from its beginning until it succeeds, so that many at a time gain nothing.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use jiff::SignedDuration;
use nullius_model::Timestamp;
use serde::{Deserialize, Serialize};

/// Attempts without delay, from one network and from all strange networks together.
const FREE_FROM_ONE: u32 = 5;
const FREE_FROM_ALL: u32 = 10;
/// Longest delays, in seconds.
const DELAY_ONE: u32 = 15 * 60;
const DELAY_ALL: u32 = 5 * 60;
const DELAY_KNOWN: u32 = 30;
/// Failures are forgotten after so long without another.
const FORGET: SignedDuration = SignedDuration::from_hours(1);
/// A network stays known so long after the last sign-in from it.
const KNOWN: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Networks that are remembered at most, of each sort.
const NETWORKS_MAX: usize = 128;

/// Where an attempt comes from: an IPv4 /24 or an IPv6 /48, which one attacker may well have as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceNetwork(IpAddr);

impl From<IpAddr> for SourceNetwork {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & 0xffff_ff00).into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80).into(),
        })
    }
}

/// What happens at sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInEvent {
    /// Somebody is about to try; factors are looked at only after [`Verdict::Allow`].
    Attempt,
    /// The attempt that was allowed proved all factors.
    Success,
}

/// Whether an attempt may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Look at the factors.
    Allow,
    /// Look at nothing before this moment.
    Wait(Timestamp),
}

/// The attempts on one user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lockout {
    strange: BTreeMap<SourceNetwork, Failures>,
    known: BTreeMap<SourceNetwork, KnownNetwork>,
    together: Failures,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KnownNetwork {
    last_success: Timestamp,
    failures: Failures,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Failures {
    count: u32,
    last: Timestamp,
}

impl Lockout {
    /// Takes note of an event, and says whether to go on.
    pub fn on(
        mut self,
        event: SignInEvent,
        source: SourceNetwork,
        now: Timestamp,
    ) -> (Self, Verdict) {
        self.forget(now);
        match event {
            SignInEvent::Attempt => self.attempt(source, now),
            SignInEvent::Success => {
                self.succeed(source, now);
                (self, Verdict::Allow)
            }
        }
    }

    /// Whether there is nothing to remember, so that the state need not be kept.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn attempt(mut self, source: SourceNetwork, now: Timestamp) -> (Self, Verdict) {
        if let Some(known) = self.known.get_mut(&source) {
            let ends = known.failures.ends(FREE_FROM_ONE, DELAY_KNOWN);
            if ends > now {
                return (self, Verdict::Wait(ends));
            }
            known.failures.add(now);
            return (self, Verdict::Allow);
        }
        let own = self.strange.get(&source).copied().unwrap_or_default();
        let ends =
            own.ends(FREE_FROM_ONE, DELAY_ONE).max(self.together.ends(FREE_FROM_ALL, DELAY_ALL));
        if ends > now {
            return (self, Verdict::Wait(ends));
        }
        self.strange.entry(source).or_default().add(now);
        self.together.add(now);
        drop_oldest(&mut self.strange, |failures| failures.last);
        (self, Verdict::Allow)
    }

    /// Undoes the attempt. The count of all strange networks keeps what others added to it: the owner's sign-in
    /// must not give an attacker a fresh start.
    fn succeed(&mut self, source: SourceNetwork, now: Timestamp) {
        if self.strange.remove(&source).is_some() {
            self.together.count = self.together.count.saturating_sub(1);
        }
        let failures = Failures::default();
        self.known.insert(source, KnownNetwork { last_success: now, failures });
        drop_oldest(&mut self.known, |known| known.last_success);
    }

    fn forget(&mut self, now: Timestamp) {
        self.strange.retain(|_, failures| !failures.is_over(now));
        if self.together.is_over(now) {
            self.together = Failures::default();
        }
        self.known.retain(|_, known| now.duration_since(known.last_success) < KNOWN);
        for known in self.known.values_mut().filter(|known| known.failures.is_over(now)) {
            known.failures = Failures::default();
        }
    }
}

impl Failures {
    fn add(&mut self, now: Timestamp) {
        self.count = self.count.saturating_add(1);
        self.last = now;
    }

    /// When the next attempt may begin: 1, 2, 4 … seconds after the last one, once the free ones are used up.
    fn ends(self, free: u32, longest: u32) -> Timestamp {
        let Some(doublings) = self.count.checked_sub(free) else {
            return Timestamp::MIN;
        };
        let delay = 1_u32.checked_shl(doublings).filter(|_| doublings < 31).unwrap_or(longest);
        let delay = SignedDuration::from_secs(delay.min(longest).into());
        self.last.saturating_add(delay).unwrap_or(Timestamp::MAX)
    }

    fn is_over(self, now: Timestamp) -> bool {
        self.count == 0 || now.duration_since(self.last) >= FORGET
    }
}

/// Keeps the newest entries. What is dropped of strange networks still counts in the count of all together.
fn drop_oldest<V>(map: &mut BTreeMap<SourceNetwork, V>, age: impl Fn(&V) -> Timestamp) {
    while map.len() > NETWORKS_MAX {
        let oldest = map.iter().min_by_key(|(_, value)| age(value)).map(|(key, _)| *key);
        let Some(oldest) = oldest else { return };
        map.remove(&oldest);
    }
}

#[cfg(test)]
mod tests;
