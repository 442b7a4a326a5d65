//! One-time codes that were used up while the store took nothing.

use std::{collections::BTreeMap, sync::Mutex};

use nullius_model::UserName;

use crate::lock::lock;

/// The newest such code of each person.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    steps: Mutex<BTreeMap<UserName, u64>>,
}

impl Repairs {
    /// Uses up a code: false where it, or a later one, was used before.
    pub(crate) fn claim(&self, user: &UserName, step: u64) -> bool {
        let mut steps = lock(&self.steps);
        let newer = steps.get(user).is_none_or(|last| *last < step);
        if newer {
            steps.insert(user.clone(), step);
        }
        newer
    }

    /// The newest code that was used up so.
    pub(crate) fn step_of(&self, user: &UserName) -> Option<u64> {
        lock(&self.steps).get(user).copied()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<(UserName, u64)> {
        lock(&self.steps).iter().map(|(user, step)| (user.clone(), *step)).collect()
    }

    /// Forgets a code that the store has by now, unless a later one was used meanwhile.
    pub(crate) fn settle(&self, user: &UserName, step: u64) {
        let mut steps = lock(&self.steps);
        if steps.get(user) == Some(&step) {
            steps.remove(user);
        }
    }
}
