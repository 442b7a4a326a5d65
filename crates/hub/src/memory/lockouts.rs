//! Attempts to sign in, by name and network: who has to wait before the next.

use std::{collections::HashMap, net::IpAddr, sync::Mutex};

use nullius_authn::{Lockout, SignInEvent, SourceNetwork, Verdict};
use nullius_model::Timestamp;

use crate::lock::lock;

/// Names remembered at most; the ones quiet for longest are forgotten beyond it.
const NAMES: usize = 50_000;

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
