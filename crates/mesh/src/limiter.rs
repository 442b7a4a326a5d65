//! Requests of each caller counted against limits: here alone, so that a workload of three pods lets three times as many pass.
//!
//! Of each who is counted one moment is kept: when all that it has sent would have been sent at the pace of the limit. Who finds no place
//! among so many shares one with all others who find none.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nullius_intention::{Limit, Per};

/// So many are counted for themselves.
const COUNTED_MAX: usize = 16_384;
/// Between two looks for places of those who are gone.
const SWEEP: Duration = Duration::from_secs(1);

/// Bits of an IPv6 address that somebody has whole, as a machine or a person.
const OF_ONE: u32 = 64;

/// Whom an address stands for, where nothing better is known.
pub(crate) fn caller(address: IpAddr) -> String {
    match address {
        IpAddr::V4(four) => four.to_string(),
        IpAddr::V6(six) => {
            let network = Ipv6Addr::from_bits(six.to_bits() & !(u128::MAX >> OF_ONE));
            format!("{network}/{OF_ONE}")
        }
    }
}

/// Who is counted, by which limit.
type Key = (Arc<str>, Box<str>);

/// Counts requests.
#[derive(Debug, Default)]
pub(crate) struct Limiter(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    all: HashMap<Key, Instant>,
    swept: Option<Instant>,
}

impl Limiter {
    /// Takes one request of somebody from all limits, or says after how long one may be sent; then nothing is taken.
    pub(crate) fn take(
        &self,
        limits: &[Limit],
        caller: &str,
        subject: Option<&str>,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after = Vec::with_capacity(limits.len());
        for limit in limits {
            let who = match (limit.per, subject) {
                (Per::Subject, Some(subject)) => format!("token {subject}"),
                (Per::Subject, None) | (Per::Source, _) => format!("caller {caller}"),
            };
            let key = counted.place((Arc::clone(&limit.name), who.into()), now);
            let due = counted.all.get(&key).copied().map_or(now, |due| due.max(now));
            let pace = Duration::from_secs(1) / limit.per_second;
            let most = pace * (limit.burst - 1);
            if let Some(wait) = due.duration_since(now).checked_sub(most).filter(|it| !it.is_zero())
            {
                return Err(wait);
            }
            after.push((key, due + pace));
        }
        counted.all.extend(after);
        Ok(())
    }
}

impl Counted {
    /// Its own place, or the one that all others share.
    fn place(&mut self, key: Key, now: Instant) -> Key {
        if self.all.len() < COUNTED_MAX || self.all.contains_key(&key) {
            return key;
        }
        let is_due = self.swept.is_none_or(|swept| now.duration_since(swept) >= SWEEP);
        if is_due {
            self.swept = Some(now);
            self.all.retain(|_, due| *due > now);
        }
        match self.all.len() < COUNTED_MAX {
            true => key,
            false => (key.0, "others".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_second: u32, burst: u32, per: Per) -> Limit {
        Limit { name: "shop/orders[0]".into(), per_second, burst, per }
    }

    fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_pace_counts() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let limits = [limit(10, 3, Per::Source)];
        let take = |after: Duration| limiter.take(&limits, "a", None, now + after);
        assert_eq!([take(millis(0)), take(millis(0)), take(millis(0))], [Ok(()); 3]);
        assert_eq!(take(millis(0)), Err(millis(100)));
        assert_eq!(take(millis(40)), Err(millis(60)), "who is refused pays nothing");
        assert_eq!(take(millis(100)), Ok(()));
        assert_eq!(take(millis(100)), Err(millis(100)));
        // Who is silent saves no more than the burst.
        let later = Duration::from_secs(3_600);
        assert_eq!((0..10).filter(|_| take(later).is_ok()).count(), 3);
    }

    #[test]
    fn who_has_many_addresses_is_one() {
        let of = |address: &str| caller(address.parse().unwrap_or(IpAddr::from([0, 0, 0, 0])));
        assert_eq!(of("2001:db8:0:1:ffff::7"), "2001:db8:0:1::/64");
        assert_eq!(of("2001:db8:0:1::8"), of("2001:db8:0:1:ffff::7"));
        assert_ne!(of("2001:db8:0:2::8"), of("2001:db8:0:1::8"));
        assert_eq!(of("10.0.0.7"), "10.0.0.7");
    }

    #[test]
    fn each_is_counted_for_itself_and_a_token_wherever_it_is_shown() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let limits = [limit(1, 1, Per::Subject)];
        let take = |caller, subject| limiter.take(&limits, caller, subject, now).is_ok();
        assert!(take("a", Some("anna")) && take("a", Some("ben")) && take("a", None));
        assert!(!take("b", Some("anna")), "the same token at another caller");
        assert!(!take("a", None) && take("b", None));
        let both =
            [limit(5, 5, Per::Source), Limit { name: "other".into(), ..limit(1, 1, Per::Source) }];
        let limiter = Limiter::default();
        let taken = (0..9).filter(|_| limiter.take(&both, "a", None, now).is_ok()).count();
        assert_eq!(taken, 1);
        // What the narrow one refused was not taken from the wide one.
        let wide = (0..9).filter(|_| limiter.take(&both[..1], "a", None, now).is_ok()).count();
        assert_eq!(wide, 4);
    }

    #[test]
    fn however_many_call_memory_is_bounded_and_who_is_counted_stays_so() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let limits = [limit(1, 2, Per::Source)];
        let take = |caller: &str, at| limiter.take(&limits, caller, None, at);
        assert!(take("known", now).is_ok() && take("known", now).is_ok());
        let passed = (0..3 * COUNTED_MAX).filter(|it| take(&it.to_string(), now).is_ok()).count();
        assert_eq!(passed, COUNTED_MAX - 1 + 2, "who finds no place shares one");
        assert_eq!(
            limiter.0.lock().unwrap_or_else(PoisonError::into_inner).all.len(),
            COUNTED_MAX + 1
        );
        assert!(take("known", now).is_err(), "others do not wash a caller out");
        assert!(take("new", now + Duration::from_secs(5)).is_ok());
        assert_eq!(limiter.0.lock().unwrap_or_else(PoisonError::into_inner).all.len(), 1);
    }

    #[test]
    fn many_at_once_get_what_one_would_get() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let limits = [limit(1, 100, Per::Source)];
        let passed: usize = std::thread::scope(|scope| {
            let takes =
                || (0..100).filter(|_| limiter.take(&limits, "a", None, now).is_ok()).count();
            let all: Vec<_> = (0..8).map(|_| scope.spawn(takes)).collect();
            all.into_iter().map(|one| one.join().unwrap_or_default()).sum()
        });
        assert_eq!(passed, 100);
    }
}
