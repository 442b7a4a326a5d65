//! An end that is asked for while something starts: whoever waits for a part or starts one gives up at once.
//!
//! What was started until then is ended by the caller, as after any other failure of a start.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

/// A signal is for the whole process.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Ends whatever this process is starting with an error; ending things is not hindered.
pub fn interrupt() {
    ASKED.store(true, Ordering::SeqCst);
}

/// An error once an end is asked for.
pub(crate) fn go_on() -> Result<()> {
    if ASKED.load(Ordering::SeqCst) {
        bail!("it was interrupted");
    }
    Ok(())
}
