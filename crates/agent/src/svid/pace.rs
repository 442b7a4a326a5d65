//! How fast nodes may ask: X.509-SVIDs do not wait for tokens, and what one pod asks for takes nothing of its neighbours.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
};

use tokio::time::Instant;

use super::meters::Kind;

/// SVIDs of one kind that a node may ask for at once: all of its pods, several times. And on average, each second.
const OF_NODE: Rate = Rate { burst: 1_000.0, second: 50.0 };
/// Certificates for one entry: it is renewed twice in an hour.
const X509_OF_ENTRY: Rate = Rate { burst: 30.0, second: 0.5 };
/// Tokens for one entry: each is for some audiences alone.
const JWT_OF_ENTRY: Rate = Rate { burst: 50.0, second: 5.0 };
/// Buckets that are kept before full ones are thrown away.
const KEPT: usize = 10_000;

type Name = Box<str>;

/// Who has asked how much.
#[derive(Default)]
pub(crate) struct Pace {
    nodes: Buckets<(Name, Kind)>,
    entries: Buckets<(Name, Kind)>,
}

#[derive(Clone, Copy)]
struct Rate {
    burst: f64,
    second: f64,
}

struct Buckets<K>(Mutex<HashMap<K, (f64, Instant)>>);

impl Pace {
    /// Takes one from an entry of a node, and then from the node. Ids of entries are those of pods: no two nodes have the same.
    pub(crate) fn take(&self, node: &str, entry: &str, kind: Kind, now: Instant) -> bool {
        let rate = match kind {
            Kind::X509 => X509_OF_ENTRY,
            Kind::Jwt => JWT_OF_ENTRY,
        };
        self.entries.take((entry.into(), kind), rate, now) && self.take_of_node(node, kind, now)
    }

    /// Takes one from a node alone, for what is no entry.
    pub(crate) fn take_of_node(&self, node: &str, kind: Kind, now: Instant) -> bool {
        self.nodes.take((node.into(), kind), OF_NODE, now)
    }
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Buckets<K> {
    fn take(&self, key: K, rate: Rate, now: Instant) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refill = |(left, at): (f64, Instant)| {
            let earned = now.saturating_duration_since(at).as_secs_f64() * rate.second;
            (left + earned).min(rate.burst)
        };
        if all.len() > KEPT {
            all.retain(|_, had| refill(*had) < rate.burst);
        }
        let left = all.get(&key).map_or(rate.burst, |had| refill(*had));
        let may = left >= 1.0;
        all.insert(key, (if may { left - 1.0 } else { left }, now));
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_node_that_asks_for_too_much_is_slowed_down_and_no_other_is() {
        let (pace, now) = (Pace::default(), Instant::now());
        let many = (0..3_000).filter(|_| pace.take_of_node("a", Kind::X509, now)).count();
        assert_eq!(many, 1_000);
        assert!(pace.take_of_node("b", Kind::X509, now));
        let later = now + Duration::from_secs(2);
        let more = (0..3_000).filter(|_| pace.take_of_node("a", Kind::X509, later)).count();
        assert_eq!(more, 100);
    }

    #[test]
    fn a_pod_that_asks_for_tokens_without_end_takes_nothing_of_its_neighbours() {
        let (pace, start) = (Pace::default(), Instant::now());
        // Forty pods flood for a minute.
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            for pod in 0..40 {
                for _ in 0..50 {
                    pace.take("a", &format!("pod-{pod}"), Kind::Jwt, now);
                }
            }
        }
        let now = start + Duration::from_secs(60);
        for pod in 0..110 {
            assert!(pace.take("a", &format!("pod-{pod}"), Kind::X509, now), "{pod}");
        }
        // One that floods has its own pace, and the next one its tokens.
        let (pace, now) = (Pace::default(), start);
        let had = (0..3_000).filter(|_| pace.take("a", "pod-1", Kind::Jwt, now)).count();
        assert_eq!(had, 50);
        assert_eq!((0..50).filter(|_| pace.take("a", "pod-2", Kind::Jwt, now)).count(), 50);
        let later = now + Duration::from_secs(2);
        assert_eq!((0..50).filter(|_| pace.take("a", "pod-1", Kind::Jwt, later)).count(), 10);
    }
}
