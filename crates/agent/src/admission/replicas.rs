//! What this replica tells the others: for which conditions of the API server's policies it asks by itself.

use std::time::Duration;

use nullius_kube::{
    ApiServer, Credential,
    admission::{Asked, ReplicaStore},
};

use super::{levels::Levels, policies::Engines};
use crate::{
    AgentError,
    backoff::{Backoff, random},
};

/// It is said again, should somebody have taken it away.
const AGAIN: Duration = Duration::from_secs(30);

/// Says what is in force here, whenever that changes.
pub(super) struct Saying {
    engines: Engines,
    levels: Levels,
    store: ReplicaStore,
    pod: String,
}

impl Saying {
    pub(super) fn new(
        api: &ApiServer,
        account: &Credential,
        engines: Engines,
        levels: Levels,
        pod: String,
    ) -> Result<Self, AgentError> {
        Ok(Self { engines, levels, store: ReplicaStore::new(api, account.clone())?, pod })
    }

    pub(super) async fn run(self) {
        let mut changes = self.engines.changes();
        let mut places = self.levels.changes();
        let mut backoff = Backoff::within_cluster();
        loop {
            let places_asked = places.borrow_and_update().asked();
            let asked =
                self.engines.standing().map(|standing| standing.asked.clone().and(places_asked));
            let said = match &asked {
                Some(asked) => self.store.say(&self.pod, asked).await,
                // What a process before this one said in the same pod does not hold any more.
                None => self.store.say(&self.pod, &Asked::default()).await,
            };
            let pause = match said {
                Ok(()) => {
                    backoff = Backoff::within_cluster();
                    AGAIN
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot say what is in force here, try again");
                    backoff.after_failure(random())
                }
            };
            tokio::select! {
                () = changes.next() => {}
                _ = places.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
