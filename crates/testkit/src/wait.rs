//! Waiting for something to come true: poll often, give up at a deadline, say what was waited for.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::interrupt::go_on;

/// The pause between two looks: short, because a whole start has seconds only.
const POLL: Duration = Duration::from_millis(50);

/// Calls `look` until it gives a value, or fails when `deadline` has passed, naming `what`; at once when interrupted.
pub fn wait_until<T>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return Ok(value);
        }
        go_on()?;
        if start.elapsed() >= deadline {
            bail!("waited {} s in vain for {what}", deadline.as_secs());
        }
        thread::sleep(POLL);
    }
}
