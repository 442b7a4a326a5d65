//! Bounds on what callers cost before they have proven who they are: a token bucket for each source, places before
//! the password hash, and budgets of what is written down for them.

mod room;
mod source;

use std::{collections::BTreeMap, sync::Mutex};

use nullius_model::Timestamp;

pub(crate) use room::{Acquaintance, HashRoom, Turn, Visitor};
pub(crate) use source::{Network, SourceLimit};

use crate::lock::lock;

/// How much may be written down for those whose words cost disk: so much at once, so much per minute on average.
#[derive(Debug)]
pub(crate) struct Budgets<K> {
    at_once: f64,
    per_minute: f64,
    by_key: Mutex<BTreeMap<K, Budget>>,
}

#[derive(Debug, Clone, Copy)]
struct Budget {
    left: f64,
    at: Timestamp,
    left_out: u64,
}

impl<K: Ord + Clone> Budgets<K> {
    pub(crate) fn new(at_once: u32, per_minute: u32) -> Self {
        let by_key = Mutex::default();
        Self { at_once: at_once.into(), per_minute: per_minute.into(), by_key }
    }

    /// Takes one of a key's; gives how many were left out since the last that was taken, none where this one is.
    pub(crate) fn take(&self, key: &K, now: Timestamp) -> Option<u64> {
        let mut by_key = lock(&self.by_key);
        let full = Budget { left: self.at_once, at: now, left_out: 0 };
        let budget = by_key.entry(key.clone()).or_insert(full);
        let gained = seconds(budget.at, now) / 60.0 * self.per_minute;
        budget.left = (budget.left + gained).min(self.at_once);
        budget.at = now;
        if budget.left < 1.0 {
            budget.left_out += 1;
            return None;
        }
        budget.left -= 1.0;
        Some(std::mem::take(&mut budget.left_out))
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_said_without_end_is_not_written_down_without_end() {
        let budgets = Budgets::new(200, 60);
        let taken = (0..10_000).filter(|_| budgets.take(&"dev", at(0)).is_some()).count();
        assert_eq!(taken, 200);
        assert_eq!(budgets.take(&"prod", at(0)), Some(0), "others are heard");
        assert_eq!(budgets.take(&"dev", at(1)), Some(9_800), "what was left out is counted");
        assert_eq!(budgets.take(&"dev", at(1)), None);
    }
}
