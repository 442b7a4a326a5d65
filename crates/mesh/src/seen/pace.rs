//! How much may come at once, and how much on average.

/// Lines of the access log of one workload that tell what was allowed, where the log is of others too.
pub(super) const ALLOWED_LINES: Bucket = Bucket::new(2_000.0, 500.0);
/// And those that tell what was refused: they take no room of one another.
pub(super) const REFUSED_LINES: Bucket = Bucket::new(1_000.0, 100.0);
/// Denials of one workload that are told one by one.
pub(super) const DENIALS: Bucket = Bucket::new(32.0, 1.0);
/// Those that have waited, of one side after the other: nobody's new ones go before.
pub(super) const TURNS: Bucket = Bucket::new(32.0, 1.0);
/// And of those the first ones of others that were not heard of for some time: nobody's flood hides them.
pub(super) const FIRSTS: Bucket = Bucket::new(32.0, 1.0);
/// Allowed calls of one workload that somebody wants to know of.
pub(super) const RECORDED: Bucket = Bucket::new(100.0, 10.0);

/// Fills by itself up to its burst, and empties by one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    left: f64,
    at: u64,
    burst: f64,
    second: f64,
}

impl Bucket {
    const fn new(burst: f64, second: f64) -> Self {
        Self { left: burst, at: 0, burst, second }
    }

    /// Takes one, if one is left; the time is in milliseconds.
    pub(super) fn take(&mut self, now: u64) -> bool {
        let passed = Duration::from_millis(now.saturating_sub(self.at));
        self.left = (self.left + passed.as_secs_f64() * self.second).min(self.burst);
        self.at = self.at.max(now);
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }
}

use std::time::Duration;
