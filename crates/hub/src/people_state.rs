//! What the hub remembers for minutes about people who try to sign in or enrol.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Mutex,
};

use nullius_api::EnrolAnswer;
use nullius_authn::{Lockout, PasswordHash, SignInEvent, SourceNetwork, TotpSecret, Verdict};
use nullius_model::{Timestamp, UserName};

use crate::limits::lock;

/// Names remembered at most; the ones quiet for longest are forgotten beyond it.
const NAMES: usize = 50_000;
/// Enrolments under way at most.
const ENROLMENTS: usize = 10_000;

/// Attempts by the name that was typed, whether there is such a person or not.
#[derive(Debug, Default)]
pub(crate) struct Lockouts {
    by_name: Mutex<HashMap<String, (Lockout, Timestamp)>>,
}

impl Lockouts {
    /// Notes an event; the error is the instant before which nothing is looked at.
    pub(crate) fn on(
        &self,
        name: &str,
        event: SignInEvent,
        source: IpAddr,
        now: Timestamp,
    ) -> Result<(), Timestamp> {
        let name: String = name.chars().take(128).collect();
        let mut by_name = lock(&self.by_name);
        if by_name.len() >= NAMES && !by_name.contains_key(&name) {
            let mut ages: Vec<Timestamp> = by_name.values().map(|(_, last)| *last).collect();
            ages.sort_unstable();
            let oldest_tenth = ages.get(NAMES / 10).copied().unwrap_or(now);
            by_name.retain(|_, (_, last)| *last > oldest_tenth);
        }
        let (lockout, last) = by_name.entry(name).or_default();
        *last = now;
        let (next, verdict) = std::mem::take(lockout).on(event, SourceNetwork::from(source), now);
        *lockout = next;
        match verdict {
            Verdict::Allow => Ok(()),
            Verdict::Wait(until) => Err(until),
        }
    }

    /// Forgets what was counted against a person who set new factors.
    pub(crate) fn forget(&self, user: &UserName) {
        lock(&self.by_name).remove(user.as_str());
    }
}

/// The first step of an enrolment, kept until the second.
pub(crate) struct Begun {
    pub(crate) user: UserName,
    pub(crate) password: PasswordHash,
    pub(crate) totp: TotpSecret,
    pub(crate) answer: EnrolAnswer,
    pub(crate) wrong_codes: u32,
    ends: Timestamp,
}

/// Enrolments between their two steps, by the hash of the link's token; they end with the process.
#[derive(Default)]
pub(crate) struct Enrolments {
    by_token: Mutex<BTreeMap<String, Begun>>,
}

impl Enrolments {
    pub(crate) fn keep(
        &self,
        token_hash: String,
        mut begun: Begun,
        ends: Timestamp,
        now: Timestamp,
    ) -> bool {
        let mut by_token = lock(&self.by_token);
        by_token.retain(|_, begun| now < begun.ends);
        if by_token.len() >= ENROLMENTS {
            return false;
        }
        begun.ends = ends;
        by_token.insert(token_hash, begun);
        true
    }

    pub(crate) fn with<T>(
        &self,
        token_hash: &str,
        look: impl FnOnce(&mut Begun) -> T,
    ) -> Option<T> {
        lock(&self.by_token).get_mut(token_hash).map(look)
    }

    pub(crate) fn take(&self, token_hash: &str) -> Option<Begun> {
        lock(&self.by_token).remove(token_hash)
    }

    pub(crate) fn forget(&self, user: &UserName) {
        lock(&self.by_token).retain(|_, begun| begun.user != *user);
    }
}

impl Begun {
    pub(crate) fn new(
        user: UserName,
        password: PasswordHash,
        totp: TotpSecret,
        answer: EnrolAnswer,
    ) -> Self {
        Self { user, password, totp, answer, wrong_codes: 0, ends: Timestamp::MAX }
    }
}
