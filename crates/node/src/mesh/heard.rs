//! What was heard and is not taken yet: one picture of what stands, and what in it is other than in the one that was taken last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nullius_mesh::news::{Changed, Picture};
use tokio::sync::Notify;

/// What stands, and what of it is new.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) picture: Arc<Picture>,
    pub(crate) scope: Scope,
}

/// What is other than before.
#[derive(Debug)]
pub(crate) enum Scope {
    /// It may be everything: a stream began.
    All,
    /// Nothing but this.
    Only(Changed),
}

impl Scope {
    /// Of two in a row.
    pub(crate) fn and(self, later: Self) -> Self {
        match (self, later) {
            (Self::Only(mut changed), Self::Only(later)) => {
                changed.extend(later);
                Self::Only(changed)
            }
            _ => Self::All,
        }
    }
}

/// Where it waits. However slowly it is taken, nothing of it is lost, and no more than one picture waits.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    waiting: Mutex<Option<Heard>>,
    filled: Notify,
}

impl Mailbox {
    pub(crate) fn put(&self, heard: Heard) {
        let mut waiting = self.waiting();
        *waiting = Some(match waiting.take() {
            Some(before) => Heard { scope: before.scope.and(heard.scope), ..heard },
            None => heard,
        });
        self.filled.notify_one();
    }

    pub(crate) fn take(&self) -> Option<Heard> {
        self.waiting().take()
    }

    /// Waits until there may be something to take.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Heard>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]

    use super::*;

    fn heard(uid: &str) -> Heard {
        let changed = Changed { workloads: [uid.into()].into(), ..Changed::default() };
        Heard { picture: Arc::default(), scope: Scope::Only(changed) }
    }

    #[tokio::test]
    async fn what_is_not_taken_yet_is_taken_together() {
        let mailbox = Mailbox::default();
        assert!(mailbox.take().is_none());
        for uid in ["a", "b"] {
            mailbox.put(heard(uid));
        }
        mailbox.filled().await;
        let changed = match mailbox.take().unwrap().scope {
            Scope::Only(changed) => Some(changed.workloads),
            Scope::All => None,
        };
        assert_eq!(changed, Some(["a".into(), "b".into()].into()));
        assert!(mailbox.take().is_none());
        let begun = Heard { picture: Arc::default(), scope: Scope::All };
        for one in [heard("a"), begun, heard("b")] {
            mailbox.put(one);
        }
        assert!(matches!(mailbox.take().unwrap().scope, Scope::All));
    }
}
