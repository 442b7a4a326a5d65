//! What a request on a connection says of the connection's end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Tells a connection, from a request on it, that its end is no clean one.
#[derive(Debug, Clone, Default)]
pub(crate) struct CutShort(Arc<AtomicBool>);

impl CutShort {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
