//! Where a long operation says what it does: one line a step, with the time it took.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

/// How the steps of an operation are told to the person who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Says nothing.
    Silent,
    /// Writes one line a step to standard error.
    Lines,
}

impl Progress {
    /// Says one thing.
    pub fn say(self, text: &str) {
        if self == Self::Lines {
            // A terminal that was closed is no reason to stop: what is being ended would stay.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// Says that something is done, and how long it took since `start`.
    pub fn done(self, text: &str, start: Instant) {
        self.say(&format!("{text} … {}", seconds(start.elapsed())));
    }
}

/// A duration for people: `0.4 s`, `95 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let value = duration.as_secs_f64();
    if value < 10.0 { format!("{value:.1} s") } else { format!("{value:.0} s") }
}
