//! When an SVID is asked for: pure, the randomness passed in.

use std::time::Duration;

use nullius_model::Timestamp;

/// The first and the longest wait after failures, in milliseconds.
const FIRST_MS: u64 = 500;
const LONGEST_MS: u64 = 30_000;

/// At half of the life, a tenth of it earlier or later, so that not all SVIDs of a node are renewed at once.
pub(super) fn renewal(issued_at: Timestamp, not_after: Timestamp, random: u64) -> Timestamp {
    let life = not_after.as_millisecond().saturating_sub(issued_at.as_millisecond()).max(0);
    let tenth = life / 10;
    let span = u64::try_from(tenth).unwrap_or_default();
    let jitter = i64::try_from(random % (span + 1)).unwrap_or_default();
    at(issued_at, (life / 2 - tenth / 2 + jitter).max(1_000.min(life)))
}

/// Longer after each failure, a half of it by chance.
pub(super) fn after_failure(now: Timestamp, failures: u32, random: u64) -> Timestamp {
    at(now, i64::try_from(wait_ms(failures, random)).unwrap_or(i64::MAX))
}

/// How long to wait after failures one after another before the next try.
pub fn wait_after(failures: u32) -> Duration {
    Duration::from_millis(wait_ms(failures, random()))
}

fn wait_ms(failures: u32, random: u64) -> u64 {
    let ceiling = FIRST_MS.saturating_mul(1 << failures.min(10)).min(LONGEST_MS);
    ceiling / 2 + random % (ceiling / 2 + 1)
}

pub(super) fn random() -> u64 {
    u64::from_le_bytes(nullius_pki::random_bytes::<8>())
}

fn at(start: Timestamp, milliseconds: i64) -> Timestamp {
    let at = start.as_millisecond().saturating_add(milliseconds);
    Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_renewal_is_at_half_of_the_life_and_a_tenth_of_that_beside(life in 20..100_000_i64, random in any::<u64>()) {
            let issued = Timestamp::from_second(1_800_000_000).unwrap();
            let due = renewal(issued, Timestamp::from_second(1_800_000_000 + life).unwrap(), random);
            let after = due.as_millisecond() - issued.as_millisecond();
            prop_assert!((life * 450..=life * 550 + 1).contains(&after), "{} of {}", after, life * 1000);
        }

        #[test]
        fn waits_are_bounded(failures in any::<u32>(), random in any::<u64>()) {
            let now = Timestamp::from_second(1_800_000_000).unwrap();
            let wait = after_failure(now, failures, random).as_millisecond() - now.as_millisecond();
            prop_assert!((250..=30_000).contains(&wait), "{}", wait);
        }
    }

    #[test]
    fn a_life_that_is_over_is_renewed_now() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(renewal(now, now, 7), now);
        let early = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(renewal(now, early, 7), now);
    }
}
