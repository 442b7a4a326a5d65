//! How fast the agents of a cluster may tell: each batch costs what writing it costs, and who has spent it waits.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use nullius_model::ClusterName;
use nullius_proto::agent_v1::ReportBatch;
use tokio::time::Instant;

use super::Teller;
use crate::lock::lock;

/// So much may be told at once before anybody waits.
const BURST: Duration = Duration::from_secs(10);
/// The longest that one batch waits.
const LONGEST: Duration = Duration::from_secs(60);

/// When each cluster has paid for what it told.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<HashMap<(ClusterName, Teller), Instant>>);

impl Pace {
    /// Takes a batch; gives how long it waits first.
    pub(super) fn take(
        &self,
        cluster: &ClusterName,
        teller: Teller,
        batch: &ReportBatch,
    ) -> Duration {
        let now = Instant::now();
        let mut paid = lock(&self.0);
        let until = paid.entry((cluster.clone(), teller)).or_insert(now);
        *until = (*until).max(now) + cost(batch);
        until.saturating_duration_since(now + BURST).min(LONGEST)
    }
}

/// 500 decisions a second, and of the rest as much as the store takes beside people's requests.
fn cost(batch: &ReportBatch) -> Duration {
    let each = |count: usize, micros: u64| {
        Duration::from_micros(micros.saturating_mul(u64::try_from(count).unwrap_or(u64::MAX)))
    };
    Duration::from_millis(2)
        + each(batch.decisions.len(), 2_000)
        + each(batch.uses.len() + batch.server_uses.len(), 300)
        + each(batch.server_words.len(), 2_000)
        + each(batch.scan.len(), 1_000)
        + each(batch.mesh_denials.len(), 2_000)
        + each(batch.mesh_flows.len(), 300)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cluster_that_tells_too_much_waits_and_no_other_does() {
        let pace = Pace::default();
        let (dev, prod): (ClusterName, ClusterName) =
            ("dev".parse().unwrap(), "prod".parse().unwrap());
        let batch = ReportBatch { decisions: vec![Default::default(); 500], ..Default::default() };
        let waits: Vec<_> = (0..20).map(|_| pace.take(&dev, Teller::Policies, &batch)).collect();
        assert_eq!(waits[0], Duration::ZERO);
        assert!(waits[19] > Duration::from_secs(9), "{:?}", waits[19]);
        assert_eq!(pace.take(&prod, Teller::Policies, &batch), Duration::ZERO);
        let of_server = pace.take(&dev, Teller::ApiServer, &batch);
        assert_eq!(of_server, Duration::ZERO, "decisions do not wait for the api server's words");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(
            pace.take(&dev, Teller::Policies, &batch),
            Duration::ZERO,
            "it is paid for in time"
        );
    }
}
