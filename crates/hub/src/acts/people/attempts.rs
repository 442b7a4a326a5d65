//! Attempts to sign in, counted before anything is looked at. What holds somebody back outlives the process: it is
//! stored under a keyed mark of the name, since people type passwords where names belong.

use std::net::IpAddr;

use nullius_authn::{SignInEvent, SourceNetwork};
use nullius_model::{Timestamp, UserName};
use nullius_store::StoreError;

use crate::{
    Hub,
    limits::{Acquaintance, Network, Visitor},
    mark::{Purpose, mark},
    record::chain,
};

/// Longest name that is told apart from others.
const NAME_MAX: usize = 128;

impl Hub {
    /// Counts an attempt; the error says how many seconds to wait before the next, and that nothing is to be looked at.
    pub(crate) async fn count_attempt(
        &self,
        name: &str,
        source: IpAddr,
        now: Timestamp,
    ) -> Result<(), u32> {
        let name = self.tried(name);
        let counted = self.memory.lockouts.on(&name, SignInEvent::Attempt, source, now);
        counted.map_err(|until| seconds_until(until, now))?;
        self.store_attempts(&name, now).await;
        Ok(())
    }

    /// Notes that the attempt that was counted proved all factors.
    pub(crate) async fn count_success(&self, name: &str, source: IpAddr, now: Timestamp) {
        let name = self.tried(name);
        let success = self.memory.lockouts.on(&name, SignInEvent::Success, source, now);
        debug_assert!(success.is_ok(), "a success is never held back");
        self.store_attempts(&name, now).await;
    }

    /// How many seconds a name is held back from there, without counting an attempt.
    pub(crate) fn held_back(&self, name: &str, source: IpAddr, now: Timestamp) -> Option<u32> {
        let held = self.memory.lockouts.read(&self.tried(name), |lockout| {
            lockout.held_until(SourceNetwork::from(source), now)
        });
        held.flatten().map(|until| seconds_until(until, now))
    }

    /// Somebody who asks to have a password hashed.
    pub(crate) fn visitor(&self, name: &str, source: IpAddr, now: Timestamp) -> Visitor {
        let name = self.tried(name);
        let network = SourceNetwork::from(source);
        let known = self.memory.lockouts.read(&name, |lockout| lockout.knows(network, now));
        let acquaintance = match known {
            Some(true) => Acquaintance::Known,
            Some(false) | None => Acquaintance::Stranger,
        };
        Visitor { source: Network::of(source), name, acquaintance }
    }

    /// Forgets what was counted against a person who set new factors, or is gone.
    pub(crate) async fn forgive(&self, user: &UserName) {
        let name = self.tried(user.as_str());
        self.memory.lockouts.forget(&name);
        let forgotten = async {
            let mut tx = self.store.begin().await?;
            tx.attempts().forget(&name).await?;
            tx.commit().await
        };
        if let Err(error) = forgotten.await {
            tracing::warn!(error = %chain(&error), "could not forget attempts to sign in");
        }
    }

    /// Takes up what was counted when the hub stopped.
    pub(crate) async fn load_attempts(&self) -> Result<(), StoreError> {
        let now = self.now();
        let kept = self.store.read().await?.attempts().load(now).await?;
        self.memory.lockouts.load(kept, now);
        Ok(())
    }

    /// Stores what is counted of a name at this moment; whoever stores later stores what is newer. Where the store
    /// does not take it, memory still counts.
    async fn store_attempts(&self, name: &str, now: Timestamp) {
        let Some((_, _)) = self.memory.lockouts.worth_keeping(name) else { return };
        let stored = async {
            let mut tx = self.store.begin().await?;
            if let Some((state, until)) = self.memory.lockouts.worth_keeping(name) {
                tx.attempts().keep(name, &state, until).await?;
            }
            tx.attempts().prune(now).await?;
            tx.commit().await
        };
        if let Err(error) = stored.await {
            tracing::warn!(error = %chain(&error), "could not store an attempt to sign in");
        }
    }

    fn tried(&self, name: &str) -> String {
        let name: String = name.chars().take(NAME_MAX).collect();
        mark(self.keys.forms(), Purpose::TriedName, &name)
    }
}

fn seconds_until(until: Timestamp, now: Timestamp) -> u32 {
    let seconds = until.duration_since(now).as_secs() + 1;
    u32::try_from(seconds).unwrap_or(1).max(1)
}
