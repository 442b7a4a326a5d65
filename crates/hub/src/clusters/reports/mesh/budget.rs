//! How many denials of a cluster's mesh become events one by one: a cluster that is flooded does not fill the audit, and a namespace that floods
//! takes no more of it than as much as is left for all others.
//!
//! What comes beyond is counted, in the service graph as always and in an event of its own now and then.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use nullius_model::{AuditOutcome, ClusterName};
use tokio::time::Instant;

use crate::lock::lock;

/// So many may come at once.
const BURST: f64 = 2_000.0;
/// Of how many it is remembered how much they have taken, before those are forgotten that have nothing.
const REMEMBERED: usize = 1_000;
/// And so many each second.
const RATE: f64 = 10.0;
/// It is told at most so often that there were more.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What each cluster has left. Calls that are allowed take no room of those that are not.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    left: Mutex<HashMap<(ClusterName, Use), Left>>,
    beyond: Mutex<HashMap<ClusterName, Beyond>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Use {
    Allowed,
    Refused,
}

#[derive(Debug)]
struct Left {
    events: f64,
    at: Instant,
    /// How much of it each has taken; that is forgiven as fast as events come.
    taken: HashMap<String, f64>,
}

#[derive(Debug, Default)]
struct Beyond {
    count: u64,
    told: Option<Instant>,
}

/// So many were not written one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unwritten(pub(crate) u64);

impl Budget {
    /// Takes one event of somebody ([`nullius_model::payer`]); false where there is no room for it.
    pub(super) fn take(&self, cluster: &ClusterName, payer: &str, outcome: AuditOutcome) -> bool {
        let of = match outcome {
            AuditOutcome::Begun | AuditOutcome::Done => Use::Allowed,
            AuditOutcome::Denied | AuditOutcome::Failed => Use::Refused,
        };
        let now = Instant::now();
        let mut all = lock(&self.left);
        let begin = || Left { events: BURST, at: now, taken: HashMap::new() };
        let left = all.entry((cluster.clone(), of)).or_insert_with(begin);
        left.forgive(now);
        let own = left.taken.get(payer).copied().unwrap_or_default() + 1.0;
        if own > left.events {
            return false;
        }
        left.events -= 1.0;
        left.taken.insert(payer.to_owned(), own);
        true
    }

    /// Counts what found no room; gives all of it when it is time to tell.
    pub(super) fn exceeded(&self, cluster: &ClusterName, count: u64) -> Option<Unwritten> {
        let now = Instant::now();
        let mut all = lock(&self.beyond);
        let beyond = all.entry(cluster.clone()).or_default();
        beyond.count = beyond.count.saturating_add(count);
        let is_time = beyond.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY);
        if beyond.count == 0 || !is_time {
            return None;
        }
        beyond.told = Some(now);
        Some(Unwritten(std::mem::take(&mut beyond.count)))
    }
}

impl Left {
    fn forgive(&mut self, now: Instant) {
        let more = now.saturating_duration_since(self.at).as_secs_f64() * RATE;
        self.at = now;
        self.events = (self.events + more).min(BURST);
        if more > 0.0 {
            self.taken.values_mut().for_each(|taken| *taken = (*taken - more).max(0.0));
        }
        if self.taken.len() > REMEMBERED {
            self.taken.retain(|_, taken| *taken > 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted_and_takes_no_room_of_others() {
        let budget = Budget::default();
        let (dev, prod): (ClusterName, ClusterName) =
            ("dev".parse().unwrap(), "prod".parse().unwrap());
        let denied = AuditOutcome::Denied;
        let taken = (0..5_000).filter(|_| budget.take(&dev, "from evil", denied)).count();
        assert_eq!(taken, 1_000);
        assert!(!budget.take(&dev, "from evil", AuditOutcome::Failed));
        assert!(budget.take(&dev, "from evil", AuditOutcome::Done), "what is allowed has its own");
        assert!(budget.take(&prod, "from evil", denied), "so has another cluster");
        assert!(budget.take(&dev, "from shop", denied), "so has another namespace");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!((0..100).filter(|_| budget.take(&dev, "from evil", denied)).count(), 20);
        for _ in 0..3_600 {
            tokio::time::advance(Duration::from_secs(1)).await;
            for evil in ["from evil", "from worse", "to evil"] {
                while budget.take(&dev, evil, denied) {}
            }
        }
        assert!(budget.take(&dev, "from shop", denied), "whoever floods for however long");

        assert_eq!(budget.exceeded(&dev, 0), None);
        assert_eq!(budget.exceeded(&dev, 40), Some(Unwritten(40)));
        assert_eq!(budget.exceeded(&dev, 5), None);
        assert_eq!(budget.exceeded(&dev, u64::MAX), None);
        assert_eq!(budget.exceeded(&prod, 1), Some(Unwritten(1)));
        tokio::time::advance(TELL_EVERY).await;
        assert_eq!(budget.exceeded(&dev, 0), Some(Unwritten(u64::MAX)));
    }
}
