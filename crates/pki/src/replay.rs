//! Memory of the nonces that were used, each as long as its assertion could be used again.
//!
//! Nonces lie in buckets by the second in which they stop to matter, so that forgetting is dropping whole buckets.

use std::collections::{BTreeMap, HashSet};

/// Nonces that are kept at most; beyond it new requests are refused rather than old nonces forgotten.
const NONCES_MAX: usize = 2_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    First,
    Before,
    /// No room: the caller must refuse.
    Full,
}

pub(crate) struct ReplayMemory {
    buckets: BTreeMap<i64, HashSet<u128>>,
    count: usize,
    max: usize,
}

impl ReplayMemory {
    pub(crate) fn new() -> Self {
        Self::with_room_for(NONCES_MAX)
    }

    pub(crate) fn with_room_for(max: usize) -> Self {
        Self { buckets: BTreeMap::new(), count: 0, max }
    }

    /// Notes a nonce that matters until the end of second `until`.
    pub(crate) fn note(&mut self, nonce: u128, until: i64, now: i64) -> Seen {
        while let Some(entry) = self.buckets.first_entry().filter(|entry| *entry.key() < now) {
            self.count -= entry.remove().len();
        }
        let full = self.count >= self.max;
        let bucket = self.buckets.entry(until).or_default();
        if bucket.contains(&nonce) {
            return Seen::Before;
        }
        if full {
            return Seen::Full;
        }
        bucket.insert(nonce);
        self.count += 1;
        Seen::First
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_first_once_and_forgotten_when_it_stops_to_matter() {
        let mut memory = ReplayMemory::new();
        assert_eq!(memory.note(1, 70, 10), Seen::First);
        assert_eq!(memory.note(1, 70, 70), Seen::Before);
        assert_eq!(memory.note(2, 71, 70), Seen::First);
        assert_eq!(memory.count, 2);
        assert_eq!(memory.note(3, 140, 71), Seen::First);
        assert_eq!(memory.count, 2, "the first nonce is forgotten");
    }

    #[test]
    fn a_full_memory_refuses_instead_of_forgetting() {
        let mut memory = ReplayMemory::with_room_for(2);
        assert_eq!(memory.note(1, 70, 10), Seen::First);
        assert_eq!(memory.note(2, 70, 10), Seen::First);
        assert_eq!(memory.note(3, 70, 10), Seen::Full);
        assert_eq!(memory.note(1, 70, 10), Seen::Before);
        assert_eq!(memory.note(3, 140, 71), Seen::First);
    }
}
