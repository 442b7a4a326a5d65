//! Fleet objects: read by those who may, changed under the decision.

mod change;
mod read;

use std::sync::Arc;

use nullius_access::Snapshot;
use nullius_store::StoreError;

pub(crate) use change::{ChangeRefusal, Changed, Wanted, is_valid};

use crate::Hub;

impl Hub {
    /// Compiles the objects as they are stored now.
    pub(crate) async fn reload(&self) -> Result<(), StoreError> {
        let (revision, objects) = self.store.read().await?.objects().load_all().await?;
        self.snapshot.store(Arc::new(Snapshot::compile(&objects, revision)));
        self.time_changed.notify_one();
        Ok(())
    }
}
