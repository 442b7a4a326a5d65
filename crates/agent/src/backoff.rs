//! How long to wait before the next try: longer each time, and never all agents at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(15);

/// Exponential growth with full jitter; the randomness is passed in.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure, for 64 random bits.
    pub(crate) fn after_failure(&mut self, random: u64) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
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
}
