//! Requests of API servers that were counted a moment ago: a list whose receipt was lost is told again, perhaps to another replica of the
//! agent, and each request is counted once all the same.
//!
//! Only what is durable stays counted: who claims marks and does not get so far gives them back.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Mutex,
    time::Duration,
};

use nullius_model::ClusterName;
use nullius_proto::agent_v1::AdmissionUse;
use tokio::time::Instant;

use crate::lock::lock;

/// Marks of a cluster that are remembered: an agent remembers as many requests.
const MOST: usize = 200_000;
/// An API server tries for some minutes, and a replica tells uses every five.
const FOR: Duration = Duration::from_secs(20 * 60);

/// What was counted, by cluster.
#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<HashMap<ClusterName, Marks>>);

#[derive(Debug, Default)]
struct Marks {
    order: VecDeque<(Instant, u64)>,
    all: HashSet<u64>,
}

/// Marks that nobody else may count now.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    counted: &'a Counted,
    cluster: ClusterName,
    new: HashSet<u64>,
    counts: Vec<u64>,
}

impl Counted {
    /// Claims the requests of uses that nobody has counted.
    pub(super) fn claim(&self, cluster: &ClusterName, uses: &[AdmissionUse]) -> Claim<'_> {
        let now = Instant::now();
        let mut counted = lock(&self.0);
        let marks = counted.entry(cluster.clone()).or_default();
        marks.forget(now);
        let mut new = HashSet::new();
        let mut counts = Vec::with_capacity(uses.len());
        for used in uses {
            let mut repeated: u64 = 0;
            for mark in &used.marks {
                match marks.all.insert(*mark) {
                    true => {
                        marks.order.push_back((now, *mark));
                        new.insert(*mark);
                    }
                    false => repeated += 1,
                }
            }
            counts.push(used.count.saturating_sub(repeated));
        }
        Claim { counted: self, cluster: cluster.clone(), new, counts }
    }
}

impl Marks {
    fn forget(&mut self, now: Instant) {
        while let Some((since, mark)) = self.order.front().copied() {
            if self.order.len() <= MOST && now.duration_since(since) < FOR {
                return;
            }
            self.order.pop_front();
            self.all.remove(&mark);
        }
    }
}

impl Claim<'_> {
    /// How often each of the uses is to be counted.
    pub(super) fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// They are counted, and durable.
    pub(super) fn keep(mut self) {
        self.new.clear();
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.new.is_empty() {
            return;
        }
        let mut counted = lock(&self.counted.0);
        if let Some(marks) = counted.get_mut(&self.cluster) {
            marks.order.retain(|(_, mark)| !self.new.contains(mark));
            marks.all.retain(|mark| !self.new.contains(mark));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn used(marks: impl IntoIterator<Item = u64>) -> AdmissionUse {
        let marks: Vec<u64> = marks.into_iter().collect();
        AdmissionUse { count: marks.len() as u64, marks, ..AdmissionUse::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_counted_is_counted_once_and_what_was_not_written_down_is_not_counted() {
        let counted = Counted::default();
        let (dev, prod): (ClusterName, ClusterName) =
            ("dev".parse().unwrap(), "prod".parse().unwrap());
        let count = |cluster: &ClusterName, uses: &[AdmissionUse]| {
            let claim = counted.claim(cluster, uses);
            let counts = claim.counts().to_vec();
            claim.keep();
            counts
        };
        assert_eq!(count(&dev, &[used(1..=3), used(4..=5)]), [3, 2]);
        assert_eq!(count(&dev, &[used(2..=6), used([])]), [1, 0]);
        assert_eq!(count(&prod, &[used(1..=3)]), [3], "another cluster has its own");
        let unmarked = AdmissionUse { count: 7, ..used([1]) };
        assert_eq!(count(&dev, &[unmarked]), [6], "what has no mark is counted");

        // Two at once: the second one does not count what the first one is about to; if that fails, it is told again.
        let first = counted.claim(&dev, &[used(10..20)]);
        assert_eq!(count(&dev, &[used(15..25)]), [5]);
        drop(first);
        assert_eq!(count(&dev, &[used(10..25)]), [10]);

        tokio::time::advance(FOR).await;
        assert_eq!(count(&dev, &[used([1])]), [1], "nobody tells it again after so long");
        let many = u64::try_from(MOST).unwrap();
        assert_eq!(count(&dev, &[used(100..100 + many)]), [many]);
        assert_eq!(count(&dev, &[used([])]), [0]);
        assert!(lock(&counted.0)[&dev].all.len() <= MOST);
    }
}
