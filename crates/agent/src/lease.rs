//! The lease: how long the agent may go on without having heard its hub.
//!
//! An agent that is cut off cannot be told that a session has ended, so it refuses all of them when the lease runs
//! out. A lease never shrinks but by time.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

/// The longest lease that an agent accepts from a hub.
pub(crate) const LONGEST: Duration = Duration::from_secs(90);

/// A lease that several parts look at.
#[derive(Clone)]
pub(crate) struct Lease {
    until: Arc<watch::Sender<Option<Instant>>>,
}

impl Lease {
    /// Not held.
    pub(crate) fn new() -> Self {
        Self { until: Arc::new(watch::Sender::new(None)) }
    }

    /// Held for so long from `start` on, at most [`LONGEST`].
    pub(crate) fn extend(&self, start: Instant, length: Duration) {
        let until = start + length.min(LONGEST);
        self.until.send_if_modified(|known| {
            let later = known.is_none_or(|known| until > known);
            if later {
                *known = Some(until);
            }
            later
        });
    }

    /// Whether it is held now.
    pub(crate) fn is_held(&self) -> bool {
        self.remaining().is_some()
    }

    /// How long it is still held.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let until = (*self.until.borrow())?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Resolves when it is held (again).
    pub(crate) async fn held(&self) {
        let mut changes = self.until.subscribe();
        while !self.is_held() {
            // The sender lives in `self`.
            let _ = changes.changed().await;
        }
    }

    /// Resolves when it is no longer held.
    pub(crate) async fn lapsed(&self) {
        while let Some(left) = self.remaining() {
            tokio::time::sleep(left).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_held_as_long_as_it_is_extended_and_never_longer_than_the_longest() {
        let lease = Lease::new();
        assert!(!lease.is_held(), "nobody holds a lease that was never given");
        lease.extend(Instant::now(), Duration::from_secs(3_600));
        assert!(lease.remaining().is_some_and(|left| left <= LONGEST));
        tokio::time::advance(Duration::from_secs(60)).await;
        lease.extend(Instant::now(), Duration::from_secs(10));
        assert!(
            lease.remaining().is_some_and(|left| left > Duration::from_secs(20)),
            "it never shrinks"
        );
        tokio::time::timeout(Duration::from_secs(31), lease.lapsed()).await.unwrap_or_default();
        assert!(!lease.is_held());
    }
}
