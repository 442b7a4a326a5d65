//! Which intentions are in force on a node: what it was told on one stream, and what of that it has reported. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};

use nullius_mesh::news::Uid;

/// Complete messages that are kept apart until they are reported; older ones are taken together.
const APART: usize = 64;

/// What a node was told, and what it said of that.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The last message that was sent.
    sent: u64,
    /// Intentions of messages that are not reported yet: generations, and none where it is gone.
    waiting: VecDeque<(u64, BTreeMap<Uid, Option<i64>>)>,
    reported: HashMap<Uid, i64>,
    refused: Refused,
}

/// What a node refuses: which generation, and why.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub(super) named: HashMap<Uid, (i64, String)>,
    /// It refuses more than it names.
    pub(super) more: bool,
}

/// How an intention stands on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands<'l> {
    InForce,
    Refused(&'l str),
    Pending,
}

/// A report that is about nothing that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the report is of a message that was not sent")]
pub(super) struct NotSent;

impl Ledger {
    /// A message was sent with which all up to it counts.
    pub(super) fn sent(&mut self, sequence: u64, intentions: BTreeMap<Uid, Option<i64>>) {
        self.sent = sequence;
        if intentions.is_empty() {
            return;
        }
        self.waiting.push_back((sequence, intentions));
        if self.waiting.len() > APART
            && let Some((_, mut older)) = self.waiting.pop_front()
            && let Some((_, next)) = self.waiting.front_mut()
        {
            older.append(next);
            *next = older;
        }
    }

    /// What the node reports: all up to a message is in force, but for what it refuses.
    pub(super) fn report(&mut self, sequence: u64, refused: Refused) -> Result<(), NotSent> {
        if sequence > self.sent {
            return Err(NotSent);
        }
        while let Some((_, intentions)) = self.waiting.pop_front_if(|(at, _)| *at <= sequence) {
            for (uid, generation) in intentions {
                match generation {
                    Some(generation) => self.reported.insert(uid, generation),
                    None => self.reported.remove(&uid),
                };
            }
        }
        self.refused = refused;
        self.refused.named.retain(|uid, (at, _)| self.reported.get(uid) == Some(at));
        Ok(())
    }

    /// How an intention stands.
    pub(super) fn stands(&self, uid: &str, generation: i64) -> Stands<'_> {
        if self.reported.get(uid) != Some(&generation) {
            return Stands::Pending;
        }
        match self.refused.named.get(uid) {
            Some((_, why)) => Stands::Refused(why),
            // It may be one of those that are not named.
            None if self.refused.more => Stands::Pending,
            None => Stands::InForce,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn told<const N: usize>(all: [(&str, Option<i64>); N]) -> BTreeMap<Uid, Option<i64>> {
        all.map(|(uid, generation)| (Uid::from(uid), generation)).into()
    }

    #[test]
    fn in_force_is_what_was_sent_and_reported() {
        let mut ledger = Ledger::default();
        ledger.sent(2, told([("a", Some(1)), ("b", Some(4))]));
        assert_eq!(ledger.stands("a", 1), Stands::Pending);
        ledger.report(1, Refused::default()).unwrap();
        assert_eq!(ledger.stands("a", 1), Stands::Pending, "the first message was not all of it");
        let named = HashMap::from([
            (Uid::from("b"), (4, "it is odd".to_owned())),
            (Uid::from("a"), (7, "of another version".to_owned())),
            (Uid::from("never"), (1, "never told".to_owned())),
        ]);
        ledger.report(2, Refused { named: named.clone(), more: true }).unwrap();
        assert_eq!(ledger.stands("a", 1), Stands::Pending, "it may be refused");
        assert_eq!(ledger.stands("b", 4), Stands::Refused("it is odd"));
        ledger.report(2, Refused { named, more: false }).unwrap();
        assert_eq!(ledger.stands("a", 1), Stands::InForce);
        assert_eq!(ledger.stands("a", 2), Stands::Pending);
        assert_eq!(ledger.stands("b", 4), Stands::Refused("it is odd"));
        assert_eq!(ledger.stands("never", 1), Stands::Pending);
        ledger.sent(3, told([("a", None), ("b", Some(5))]));
        ledger.report(3, Refused::default()).unwrap();
        assert_eq!(ledger.stands("a", 1), Stands::Pending);
        assert_eq!(ledger.stands("b", 5), Stands::InForce);
        assert_eq!(ledger.report(4, Refused::default()), Err(NotSent));
    }

    #[test]
    fn who_never_reports_costs_little_and_can_still_report_later() {
        let mut ledger = Ledger::default();
        for sequence in 1..=10_000 {
            let generation = i64::try_from(sequence).unwrap();
            ledger.sent(sequence, told([("a", Some(generation)), ("b", None)]));
        }
        assert!(ledger.waiting.len() <= APART);
        ledger.report(5_000, Refused::default()).unwrap();
        assert_eq!(
            ledger.stands("a", 5_000),
            Stands::Pending,
            "it is told together with later ones"
        );
        ledger.report(10_000, Refused::default()).unwrap();
        assert_eq!(ledger.stands("a", 10_000), Stands::InForce);
    }
}
