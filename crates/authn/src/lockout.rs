//! Guessing is slowed down, and slowing it down is no way to lock somebody else out.
//!
//! Attempts are counted for each user and source network, with a delay that doubles. Beside it, once somebody guesses
//! from many networks where the user never signed in, attempts from all of those share a softer delay; a guesser with
//! a few networks holds back nobody but themselves. A network where the user signed in before is judged by its own
//! count alone, and waits briefly.
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
/// Strange networks with failures from which on they are taken for one guesser.
const MANY: usize = 6;
/// Attempts from one network from which on they are worth remembering over a restart.
const NOTABLE: u32 = 3;
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

    /// Whether the user signed in from that network lately.
    pub fn knows(&self, source: SourceNetwork, now: Timestamp) -> bool {
        self.known.get(&source).is_some_and(|known| known.is_recent(now))
    }

    /// Whether the user signed in from anywhere.
    pub fn has_signed_in(&self) -> bool {
        !self.known.is_empty()
    }

    /// The instant before which nothing is looked at, without counting an attempt.
    pub fn held_until(&self, source: SourceNetwork, now: Timestamp) -> Option<Timestamp> {
        let mut state = self.clone();
        state.forget(now);
        match state.attempt(source, now).1 {
            Verdict::Allow => None,
            Verdict::Wait(until) => Some(until),
        }
    }

    /// Until when it must be remembered over a restart, if it is worth that: a few typing errors are not.
    pub fn kept_until(&self) -> Option<Timestamp> {
        let known = self.known.values().map(|known| known.last_success.saturating_add(KNOWN));
        let all = self.strange.values().chain([&self.together]);
        let failures = all.filter(|failures| failures.count >= NOTABLE);
        let failures = failures.map(|failures| failures.last.saturating_add(FORGET));
        known.chain(failures).map(|until| until.unwrap_or(Timestamp::MAX)).max()
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
        let mut ends = own.ends(FREE_FROM_ONE, DELAY_ONE);
        if self.strange.len() >= MANY {
            ends = ends.max(self.together.ends(FREE_FROM_ALL, DELAY_ALL));
        }
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
        self.known.retain(|_, known| known.is_recent(now));
        for known in self.known.values_mut().filter(|known| known.failures.is_over(now)) {
            known.failures = Failures::default();
        }
    }
}

impl KnownNetwork {
    fn is_recent(&self, now: Timestamp) -> bool {
        now.duration_since(self.last_success) < KNOWN
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
