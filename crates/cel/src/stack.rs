//! Compiling recurses as deep as an expression nests, and the parser deeper: it runs on a stack of its own, so that
//! source that fits the limits never overflows the caller's. The only place of this crate that starts a thread.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

/// What a parser of 250 levels needs, with room; the pages are taken only when they are touched.
const STACK: usize = 16 * 1024 * 1024;

thread_local! {
    /// Whether this is a thread with room.
    static IS_DEEP: Cell<bool> = const { Cell::new(false) };
}

/// Runs work that compiles many expressions on one large stack, and waits for it; `None` when no thread can be had or the work
/// panics. Each [`Env::compile`](crate::Env::compile) has such a stack by itself: a thread for each of thousands of expressions takes its
/// time, and leaves memory behind that belongs to none.
pub fn with_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    if IS_DEEP.get() {
        return catch_unwind(AssertUnwindSafe(work)).ok();
    }
    thread::scope(|scope| {
        let marked = || {
            IS_DEEP.set(true);
            work()
        };
        thread::Builder::new()
            .name("cel-compile".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, marked)
            .ok()?
            .join()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_within_work_stays_on_its_thread_and_ends_alone_when_it_panics() {
        let seen = with_deep_stack(|| {
            let outer = thread::current().id();
            let inner = with_deep_stack(|| thread::current().id());
            let broken = with_deep_stack(|| -> u8 { std::panic::resume_unwind(Box::new(())) });
            (inner == Some(outer), broken, outer == thread::current().id())
        });
        assert_eq!(seen, Some((true, None, true)));
        let alone = thread::current().id();
        assert_ne!(with_deep_stack(|| thread::current().id()), Some(alone));
    }
}
