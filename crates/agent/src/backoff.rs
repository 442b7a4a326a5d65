//! How long to wait before the next try: longer each time, and never all agents at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(15);

/// Inside one cluster a handful of agents meet, not a thousand.
const LONGEST_WITHIN: Duration = Duration::from_secs(1);

/// Exponential growth with full jitter; the randomness is passed in.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { failures: 0, longest: LONGEST }
    }
}

impl Backoff {
    /// Shorter waits, for connections that do not leave the cluster.
    pub(crate) fn within_cluster() -> Self {
        Self { failures: 0, longest: LONGEST_WITHIN }
    }

    /// The wait after one more failure, for 64 random bits.
    pub(crate) fn after_failure(&mut self, random: u64) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(10)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        // At least a tenth, so that a lucky draw is not a busy loop.
        let least = ceiling / 10;
        let span = u64::try_from((ceiling - least).as_micros()).unwrap_or(u64::MAX).max(1);
        least + Duration::from_micros(random % span)
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// 64 random bits.
pub(crate) fn random() -> u64 {
    u64::from_le_bytes(nullius_pki::random_bytes::<8>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_bounded_and_begin_anew_after_success() {
        let mut backoff = Backoff::default();
        assert!(backoff.after_failure(u64::MAX) <= FIRST);
        for _ in 0..40 {
            let wait = backoff.after_failure(u64::MAX);
            assert!(wait <= LONGEST, "{wait:?}");
            assert!(backoff.after_failure(0) >= FIRST / 10);
        }
        assert!(backoff.after_failure(0) == LONGEST / 10);
        backoff.reset();
        assert!(backoff.after_failure(u64::MAX) <= FIRST);
    }

    #[test]
    fn two_agents_that_lost_the_same_hub_do_not_come_back_together() {
        let waits = || {
            let mut backoff = Backoff::default();
            (0..20).map(|_| backoff.after_failure(random())).collect::<Vec<_>>()
        };
        assert_ne!(waits(), waits());
    }
}
