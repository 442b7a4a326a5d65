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

/// Attempts by a mark of the name that was typed, whether there is such a person or not.
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
        let mut by_name = lock(&self.by_name);
        if by_name.len() >= NAMES && !by_name.contains_key(name) {
            forget_some(&mut by_name);
        }
        let (lockout, last) = by_name.entry(name.to_owned()).or_default();
        *last = now;
        let (next, verdict) = std::mem::take(lockout).on(event, SourceNetwork::from(source), now);
        *lockout = next;
        match verdict {
            Verdict::Allow => Ok(()),
            Verdict::Wait(until) => Err(until),
        }
    }

    /// Looks at what is counted of a name.
    pub(crate) fn read<T>(&self, name: &str, look: impl FnOnce(&Lockout) -> T) -> Option<T> {
        lock(&self.by_name).get(name).map(|(lockout, _)| look(lockout))
    }

    /// What of a name must outlive the process, and until when.
    pub(crate) fn worth_keeping(&self, name: &str) -> Option<(Lockout, Timestamp)> {
        let kept = self.read(name, |lockout| Some((lockout.clone(), lockout.kept_until()?)));
        kept.flatten()
    }

    /// Takes up what outlived the process before.
    pub(crate) fn load(&self, kept: Vec<(String, Lockout)>, now: Timestamp) {
        let kept = kept.into_iter().map(|(name, lockout)| (name, (lockout, now)));
        lock(&self.by_name).extend(kept);
    }

    /// Forgets what was counted of a name.
    pub(crate) fn forget(&self, name: &str) {
        lock(&self.by_name).remove(name);
    }
}

/// Makes room: a tenth goes, names that never signed in first, the ones quiet for longest before the others. A flood of
/// invented names does not make the hub forget where people sign in from.
fn forget_some(by_name: &mut HashMap<String, (Lockout, Timestamp)>) {
    let rank = |(lockout, last): &(Lockout, Timestamp)| (lockout.has_signed_in(), *last);
    let mut ranks: Vec<_> = by_name.values().map(rank).collect();
    ranks.sort_unstable();
    let Some(least) = ranks.get(ranks.len() / 10).copied() else { return };
    by_name.retain(|_, entry| rank(entry) > least);
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
