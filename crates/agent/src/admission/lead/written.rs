//! What was written and does not stay: where somebody else writes the same field, it is written more and more seldom, and told.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(4);
const LONGEST: Duration = Duration::from_secs(300);
/// What has stood for so long is no matter of a quarrel any more.
const SETTLED: Duration = Duration::from_secs(900);
/// So many times in a row the same was written: it is not for lack of patience.
const QUARREL: u32 = 4;

/// What was written last, by policy.
#[derive(Debug, Default)]
pub(super) struct Written(BTreeMap<String, Last>);

#[derive(Debug)]
struct Last {
    expression: Option<String>,
    times: u32,
    at: Instant,
}

impl Written {
    /// Whether it is time to write this: another thing always, the same again after longer and longer.
    pub(super) fn is_due(&self, policy: &str, expression: Option<&str>, now: Instant) -> bool {
        let Some(last) = self.0.get(policy) else { return true };
        let pause = FIRST.saturating_mul(1 << (last.times - 1).min(10)).min(LONGEST);
        last.expression.as_deref() != expression || now.duration_since(last.at) >= pause
    }

    /// Notes that it was written; says how many times in a row.
    pub(super) fn note(&mut self, policy: &str, expression: Option<&str>, now: Instant) -> u32 {
        let before = self.0.get(policy).filter(|last| {
            last.expression.as_deref() == expression && now.duration_since(last.at) < SETTLED
        });
        let times = before.map_or(0, |last| last.times) + 1;
        let last = Last { expression: expression.map(str::to_owned), times, at: now };
        self.0.insert(policy.to_owned(), last);
        times
    }

    /// Policies about which somebody else is of another opinion.
    pub(super) fn quarrels(&self) -> impl Iterator<Item = &str> {
        let quarrels =
            self.0.iter().filter(|(_, last)| last.times >= QUARREL && last.at.elapsed() < SETTLED);
        quarrels.map(|(policy, _)| policy.as_str())
    }

    /// Forgets policies.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|policy, _| keep(policy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_somebody_else_writes_too_is_written_seldom_and_told() {
        let mut written = Written::default();
        let mut writes = 0;
        for _ in 0..300 {
            if written.is_due("p", Some("a"), Instant::now()) {
                writes = written.note("p", Some("a"), Instant::now());
            }
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        assert!((QUARREL..10).contains(&writes), "{writes} in ten minutes");
        assert_eq!(written.quarrels().collect::<Vec<_>>(), ["p"]);
        assert!(written.is_due("p", None, Instant::now()), "another wish does not wait");
        assert!(written.is_due("q", Some("a"), Instant::now()));
        tokio::time::advance(SETTLED).await;
        assert_eq!(written.quarrels().count(), 0);
        assert_eq!(written.note("p", Some("a"), Instant::now()), 1);
        written.retain(|_| false);
        assert!(written.is_due("p", Some("a"), Instant::now()));
    }
}
