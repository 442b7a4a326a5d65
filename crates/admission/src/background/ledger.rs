//! Which versions of which objects were judged: what is known is not read and not judged again.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use nullius_model::FoundObject;

/// What is remembered of one object.
#[derive(Debug)]
struct Entry {
    /// A hash of its version; none where it must be judged anew.
    version: Option<u64>,
    found: bool,
    /// The round in which it was seen last.
    round: u32,
}

/// What is remembered of all.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    hasher: RandomState,
    round: u32,
    entries: HashMap<String, Entry>,
    /// The names of those with findings.
    names: HashMap<String, FoundObject>,
}

impl Ledger {
    pub(super) fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    pub(super) fn knows(&self, uid: &str, version: &str) -> bool {
        let known = self.entries.get(uid).and_then(|entry| entry.version);
        known == Some(self.hasher.hash_one(version))
    }

    pub(super) fn has_findings(&self, uid: &str) -> bool {
        self.entries.get(uid).is_some_and(|entry| entry.found)
    }

    pub(super) fn saw(&mut self, uid: &str) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.round = self.round;
        }
    }

    /// Notes that a version was judged; whether something was found of an earlier one.
    pub(super) fn note(&mut self, uid: &str, version: &str, found: bool) -> bool {
        let entry =
            Entry { version: Some(self.hasher.hash_one(version)), found, round: self.round };
        let before = self.entries.insert(uid.to_owned(), entry).is_some_and(|entry| entry.found);
        if !found {
            self.names.remove(uid);
        }
        before
    }

    /// Keeps how an object with findings is called.
    pub(super) fn names(&mut self, uid: &str, object: &FoundObject) {
        self.names.insert(uid.to_owned(), object.clone());
    }

    /// Forgets an object; how it is called, where something was found of it.
    pub(super) fn gone(&mut self, uid: &str) -> Option<FoundObject> {
        self.entries.remove(uid);
        self.names.remove(uid)
    }

    /// Everything is to be judged anew; what was found is still known.
    pub(super) fn forget_versions(&mut self) {
        for entry in self.entries.values_mut() {
            entry.version = None;
        }
    }

    /// What was not seen in this round.
    pub(super) fn unseen(&self) -> Vec<String> {
        let old = self.entries.iter().filter(|(_, entry)| entry.round != self.round);
        let mut old: Vec<String> = old.map(|(uid, _)| uid.clone()).collect();
        old.sort();
        old
    }
}
