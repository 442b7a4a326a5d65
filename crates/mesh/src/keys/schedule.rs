//! When keys of which issuer are fetched.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Between two fetches that go well.
const AGAIN: Duration = Duration::from_secs(300);
/// After the first that fails; it doubles up to `AGAIN`.
const RETRY: Duration = Duration::from_secs(5);
/// Who asks for keys, however often, has them fetched no sooner than so long after the last fetch.
const ASKED: Duration = Duration::from_secs(10);

/// By issuer.
#[derive(Debug, Default)]
pub(super) struct Schedule(BTreeMap<Box<str>, Times>);

#[derive(Debug, Clone, Copy)]
struct Times {
    due: Instant,
    last: Option<Instant>,
    failures: u32,
    /// It is being fetched.
    runs: bool,
}

impl Schedule {
    /// These are to be fetched, new ones at once.
    pub(super) fn want(&mut self, wanted: impl Iterator<Item = Box<str>>, now: Instant) {
        let wanted: BTreeSet<Box<str>> = wanted.collect();
        self.0.retain(|issuer, _| wanted.contains(issuer));
        for issuer in wanted {
            self.0.entry(issuer).or_insert(Times {
                due: now,
                last: None,
                failures: 0,
                runs: false,
            });
        }
    }

    /// One has its keys somewhere else than before.
    pub(super) fn forget(&mut self, issuer: &str) {
        self.0.remove(issuer);
    }

    /// Those whose time has come: they are fetched from now on.
    pub(super) fn begin(&mut self, now: Instant) -> Vec<Box<str>> {
        let due = self.0.iter_mut().filter(|(_, times)| !times.runs && times.due <= now);
        due.map(|(issuer, times)| {
            times.runs = true;
            issuer.clone()
        })
        .collect()
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().filter(|times| !times.runs).map(|times| times.due).min()
    }

    /// One was fetched, or was tried.
    pub(super) fn fetched(&mut self, issuer: &str, went_well: bool, now: Instant) {
        let Some(times) = self.0.get_mut(issuer) else { return };
        times.runs = false;
        times.last = Some(now);
        times.failures = if went_well { 0 } else { times.failures.saturating_add(1) };
        let wait = match times.failures {
            0 => AGAIN,
            failures => RETRY.saturating_mul(1 << (failures - 1).min(10)).min(AGAIN),
        };
        times.due = now + wait;
    }

    /// Tokens name keys of these that are not known.
    pub(super) fn asked(&mut self, issuers: &BTreeSet<Box<str>>, now: Instant) {
        for issuer in issuers {
            if let Some(times) = self.0.get_mut(issuer) {
                let soonest = times.last.map_or(now, |last| (last + ASKED).max(now));
                times.due = times.due.min(soonest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn keys_are_fetched_at_once_again_and_sooner_when_that_failed() {
        let (mut schedule, begun) = (Schedule::default(), Instant::now());
        let want = |schedule: &mut Schedule, names: &[&str], now| {
            schedule.want(names.iter().map(|name| (*name).into()), now);
        };
        want(&mut schedule, &["a", "b"], begun);
        assert_eq!(schedule.begin(begun), ["a".into(), "b".into()]);
        assert_eq!((schedule.begin(begun), schedule.next()), (Vec::new(), None), "both run");
        schedule.fetched("a", true, begun);
        let mut now = begun;
        for wait in [5, 10, 20, 40, 80, 160, 300, 300] {
            schedule.fetched("b", false, now);
            assert!(!schedule.begin(now + second(wait - 1)).contains(&"b".into()));
            now += second(wait);
            assert!(schedule.begin(now).contains(&"b".into()), "{wait}");
        }
        schedule.fetched("a", true, now);
        schedule.fetched("b", true, now + second(1));
        assert_eq!(schedule.next(), Some(now + AGAIN));
        want(&mut schedule, &["a"], now);
        assert_eq!(schedule.begin(now + AGAIN), ["a".into()]);
        // Where its keys are elsewhere it is due at once.
        schedule.forget("a");
        want(&mut schedule, &["a"], now);
        assert_eq!(schedule.begin(now), ["a".into()]);
        want(&mut schedule, &[], now);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn who_asks_again_and_again_has_keys_fetched_every_ten_seconds() {
        let (mut schedule, begun) = (Schedule::default(), Instant::now());
        let asked = BTreeSet::from(["a".into(), "stranger".into()]);
        schedule.asked(&asked, begun);
        assert_eq!(schedule.next(), None, "of whom nobody declared nothing is fetched");
        schedule.want(["a".into()].into_iter(), begun);
        let mut fetches = 0;
        for tick in 0..600 {
            let now = begun + second(tick);
            schedule.asked(&asked, now);
            for issuer in schedule.begin(now) {
                schedule.fetched(&issuer, true, now);
                fetches += 1;
            }
        }
        assert_eq!(fetches, 60);
        // Nor is one that fails tried more often than that.
        let mut now = begun + second(600);
        for wait in [5, 10, 10, 10] {
            schedule.fetched("a", false, now);
            schedule.asked(&asked, now + second(1));
            now += second(wait);
            assert_eq!(schedule.next(), Some(now));
        }
    }
}
