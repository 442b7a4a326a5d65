//! Following the trail: what is durable is seen once, in order, without a gap, from memory or from the store.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Position, StoredEntry};
use crate::{Store, StoreError};

const PAGE: u32 = 512;

/// Follows the trail from a place.
pub struct Tail {
    store: Store,
    head: watch::Receiver<Position>,
    position: Position,
}

impl Store {
    /// Follows the trail of this process from after a place; `None` begins with what comes next.
    pub fn tail_audit(&self, after: Option<Position>) -> Tail {
        let head = self.inner().shared.head();
        let position = after.unwrap_or(*head.borrow());
        Tail { store: self.clone(), head, position }
    }
}

impl Tail {
    /// The next entries; waits until there are some. Dropping the wait loses nothing.
    pub async fn next(&mut self) -> Result<Vec<Arc<StoredEntry>>, StoreError> {
        loop {
            let head = *self.head.borrow_and_update();
            if head > self.position {
                let entries = self.store.audit_after(self.position, PAGE).await?;
                if let Some(last) = entries.last() {
                    self.position = last.position;
                    return Ok(entries);
                }
            }
            if self.head.changed().await.is_err() {
                // The store holds the sender, and this holds the store.
                return Ok(Vec::new());
            }
        }
    }

    /// The last entry that was seen.
    pub fn position(&self) -> Position {
        self.position
    }
}

impl Store {
    pub(crate) async fn audit_after(
        &self,
        position: Position,
        limit: u32,
    ) -> Result<Vec<Arc<StoredEntry>>, StoreError> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        if let Some(entries) = self.inner().shared.recent_after(position, most) {
            return Ok(entries);
        }
        let entries = self.read().await?.audit().after(position, limit).await?;
        Ok(entries.into_iter().map(Arc::new).collect())
    }
}
