//! The present of these tests stands still: what is shown of times does not depend on how fast the machine is.

use std::sync::LazyLock;

use jiff::SignedDuration;
use nullius_model::{Clock, Timestamp};

static PRESENT: LazyLock<Timestamp> =
    LazyLock::new(|| Timestamp::from_second(Timestamp::now().as_second()).unwrap());

/// The clock of a person and of the hub: always the instant at which it was first read.
pub struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        *PRESENT
    }
}

/// The instant that many seconds after the present; before it if negative.
pub fn after(seconds: i64) -> Timestamp {
    *PRESENT + SignedDuration::from_secs(seconds)
}
