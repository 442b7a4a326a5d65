//! Locks of maps in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a poisoned lock is used as it is, since each holder leaves its map whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
