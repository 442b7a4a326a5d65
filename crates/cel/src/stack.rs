//! Compiling recurses as deep as an expression nests, and the parser deeper: it runs on a stack of its own, so that
//! source that fits the limits never overflows the caller's. The only place of this crate that starts a thread.

use std::thread;

/// What a parser of 250 levels needs, with room; the pages are taken only when they are touched.
const STACK: usize = 16 * 1024 * 1024;

/// Runs the work on the large stack and waits for it; `None` when no thread can be had or the work panics.
pub(crate) fn with_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("cel-compile".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .ok()?
            .join()
            .ok()
    })
}
