//! Credentials made ahead: where somebody worked lately, their session's objects are made at sign-in, so that the
//! first request costs what every request costs. What fails here is made at the first request.

use std::{collections::BTreeSet, sync::Arc};

use jiff::SignedDuration;
use nullius_model::{ClusterName, Plane, Principal, SessionId, Timestamp};
use nullius_store::{StoreError, UseFilter};

use crate::{Hub, LiveSession};

/// Uses count as recent for so long.
const RECENT: SignedDuration = SignedDuration::from_hours(14 * 24);
/// Rows that are looked at, newest first.
const ROWS: u32 = 200;
/// A person works in few clusters at a time.
const CLUSTERS: usize = 3;

impl Hub {
    /// Makes a new session's objects where its person worked lately, in the background.
    pub(crate) fn warm(self: &Arc<Self>, session: SessionId) {
        let hub = Arc::clone(self);
        tokio::spawn(async move {
            let Some(session) = hub.sessions().find(&session) else { return };
            match hub.recent_clusters(&session).await {
                Ok(recent) => hub.warm_in(&session, recent).await,
                Err(error) => tracing::debug!(%error, "cannot read where somebody worked"),
            }
        });
    }

    async fn recent_clusters(&self, session: &LiveSession) -> Result<Vec<ClusterName>, StoreError> {
        let person = Principal::Person { user: session.user().clone() };
        let filter = UseFilter {
            principal: Some(person.label()),
            allowed: Some(true),
            since: Some(self.now().checked_sub(RECENT).unwrap_or(Timestamp::MIN)),
            limit: Some(ROWS),
            ..UseFilter::default()
        };
        let uses = self.store().read().await?.usage().list(&filter).await?;
        let mut seen = BTreeSet::new();
        let in_clusters = uses.into_iter().filter(|used| used.key.plane == Plane::Access);
        let mut clusters: Vec<ClusterName> =
            in_clusters.filter_map(|used| used.key.cluster.parse().ok()).collect();
        clusters.retain(|cluster| seen.insert(cluster.clone()));
        clusters.truncate(CLUSTERS);
        Ok(clusters)
    }

    async fn warm_in(&self, session: &LiveSession, clusters: Vec<ClusterName>) {
        let snapshot = self.snapshot();
        let identity = session.identity(&snapshot);
        let caller = nullius_access::Caller::new(&identity);
        if nullius_access::judge_standing(&snapshot, &caller, self.now()).is_some() {
            return;
        }
        for cluster in clusters {
            let planned = nullius_access::plan(&snapshot, &identity, &cluster, self.now());
            if planned.is_empty() || !self.clusters().is_reachable(&cluster) {
                continue;
            }
            if let Err(error) = self.clusters().ensure(self, &identity, &cluster, &snapshot).await {
                tracing::debug!(%error, %cluster, "make credentials at the first request");
            }
        }
    }
}
