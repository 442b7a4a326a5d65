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
/// And so many each second.
const RATE: f64 = 10.0;
/// So much is kept for those who have taken nothing lately, however many begin to flood at once.
const RESERVE: f64 = 200.0;
/// What has come meanwhile is shared out at most so often: that looks at everybody who has taken something.
const TICK: Duration = Duration::from_millis(10);
/// A share below this is none.
const CRUMB: f64 = 1e-9;
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
    /// How much each has taken of what is not left: together that is all of it. What comes again is shared by them evenly, so that a second
    /// flood is forgiven what the first is not.
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
        let before = left.taken.get(payer).copied().unwrap_or_default();
        let own = before + 1.0;
        let reserve = if before > 0.0 { RESERVE } else { 0.0 };
        if own + reserve > left.events {
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
        let since = now.saturating_duration_since(self.at);
        if since < TICK {
            return;
        }
        self.at = now;
        let mut more = since.as_secs_f64() * RATE;
        while more > CRUMB && !self.taken.is_empty() {
            // Wide enough: nobody has as many payers as this is exact to.
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let share = more / self.taken.len() as f64;
            more = 0.0;
            // Whoever has taken less leaves the rest to the others.
            self.taken.retain(|_, taken| {
                *taken -= share;
                more -= taken.min(0.0);
                *taken > 0.0
            });
        }
        self.events = BURST - self.taken.values().sum::<f64>();
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
        assert_eq!(taken, 900);
        assert!(!budget.take(&dev, "from evil", AuditOutcome::Failed));
        assert!(budget.take(&dev, "from evil", AuditOutcome::Done), "what is allowed has its own");
        assert!(budget.take(&prod, "from evil", denied), "so has another cluster");
        assert!(budget.take(&dev, "from shop", denied), "so has another namespace");
        tokio::time::advance(Duration::from_secs(2)).await;
        let again = (0..100).filter(|_| budget.take(&dev, "from evil", denied)).count();
        assert_eq!(again, 19, "twenty came, and one of them `from shop` has had");

        assert_eq!(budget.exceeded(&dev, 0), None);
        assert_eq!(budget.exceeded(&dev, 40), Some(Unwritten(40)));
        assert_eq!(budget.exceeded(&dev, 5), None);
        assert_eq!(budget.exceeded(&dev, u64::MAX), None);
        assert_eq!(budget.exceeded(&prod, 1), Some(Unwritten(1)));
        tokio::time::advance(TELL_EVERY).await;
        assert_eq!(budget.exceeded(&dev, 0), Some(Unwritten(u64::MAX)));
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_flood_and_however_often_a_single_denial_finds_room() {
        let dev: ClusterName = "dev".parse().unwrap();
        let denied = AuditOutcome::Denied;
        let each = [(Duration::from_millis(10), 20_000), (Duration::from_millis(100), 6_000)];
        for (step, steps) in each.into_iter().chain([(Duration::from_secs(1), 3_600)]) {
            for floods in [1, 2, 3, 4, 10, 50] {
                let budget = Budget::default();
                let evil: Vec<String> = (0..floods).map(|it| format!("to evil-{it}")).collect();
                let (mut asked, mut last) = (0, Instant::now());
                let mut written = vec![0_u32; floods];
                for _ in 0..steps {
                    tokio::time::advance(step).await;
                    for (who, written) in evil.iter().zip(&mut written) {
                        while budget.take(&dev, who, denied) {
                            *written += 1;
                        }
                    }
                    if last.elapsed() >= Duration::from_secs(10) {
                        last = Instant::now();
                        asked += 1;
                        let is_taken = budget.take(&dev, "from shop", denied);
                        assert!(is_taken, "{floods} floods, {step:?}, question {asked}");
                    }
                }
                assert!(asked >= 19, "{asked}");
                // Nothing is lost of what may be written, and no flood has more of it than another.
                let all = written.iter().sum::<u32>() + asked;
                let may = 2_000.0 + (step * steps).as_secs_f64() * RATE;
                let unused = RESERVE + (2_000.0 - RESERVE) / (floods + 1) as f64;
                assert!(
                    f64::from(all) <= may && f64::from(all) > may - unused - 20.0,
                    "{all} of {may}"
                );
                let (least, most) = (written.iter().min().unwrap(), written.iter().max().unwrap());
                // But for the first, which had it for itself.
                assert!(most - least <= 1_000 + most / 10, "{floods} {step:?} {written:?}");
            }
        }
    }
}
