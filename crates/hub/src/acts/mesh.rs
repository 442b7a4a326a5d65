//! The service graph of a cluster, for those who may see it: all of it, or the calls from and to namespaces where they have grants.

mod explain;
mod graph;

use nullius_access::HubAction;
use nullius_api::{MeshGraph, MeshGraphQuery, MeshTelling};
use nullius_model::{ClusterName, Identity};
use nullius_store::{CallFilter, MeshTold, StoreError};

use crate::{Hub, decide::Refusal, record::Occasion};

/// Kinds of calls that are looked at for one answer.
const CALLS: u32 = 20_000;
/// Edges of one answer.
const EDGES: usize = 5_000;

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GraphRefusal {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("there is no such cluster, or none of it is for the caller")]
    NotForYou,
    #[error("the caller reads service graphs too fast")]
    Wait,
}

impl From<StoreError> for GraphRefusal {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

impl Hub {
    /// The namespaces of a cluster whose workloads somebody may see; none where they may see all.
    pub(super) async fn mesh_namespaces(
        &self,
        identity: &Identity,
        cluster: &ClusterName,
        occasion: &Occasion,
    ) -> Result<Option<Vec<String>>, GraphRefusal> {
        let places = self.places_of(identity, &HubAction::ReadMesh, occasion).await?;
        if !self.snapshot().knows_cluster(cluster) {
            return Err(GraphRefusal::NotForYou);
        }
        let Some(places) = places else { return Ok(None) };
        let mut here = places.into_iter().filter(|it| it.cluster == cluster.as_str());
        let first = here.next().ok_or(GraphRefusal::NotForYou)?;
        // With a grant for the whole cluster, all of it.
        Ok(here.fold(first.namespaces, |all, it| {
            all.zip(it.namespaces).map(|(all, more)| [all, more].concat())
        }))
    }

    /// Who called whom in a cluster, and what was decided of it.
    pub(crate) async fn mesh_graph(
        &self,
        identity: &Identity,
        cluster: &ClusterName,
        query: MeshGraphQuery,
        occasion: &Occasion,
    ) -> Result<MeshGraph, GraphRefusal> {
        let namespaces = self.mesh_namespaces(identity, cluster, occasion).await?;
        if !self.clusters().may_read_graph(&identity.user, self.now()) {
            return Err(GraphRefusal::Wait);
        }
        let filter = CallFilter {
            cluster: cluster.clone(),
            namespace: query.namespace,
            namespaces,
            verdict: query.verdict,
            since: query.since,
            limit: CALLS,
        };
        let mut reader = self.store.read().await?;
        let (calls, from) = reader.mesh().list(&filter).await?;
        let told = reader.mesh().told(cluster).await?;
        let incomplete = told.as_ref().and_then(|told| told.incomplete_at);
        let is_incomplete =
            incomplete.is_some_and(|at| query.since.is_none_or(|since| at >= since));
        let is_cut = calls.len() >= CALLS as usize;
        let (nodes, edges) = graph::draw(calls, EDGES);
        Ok(MeshGraph {
            cluster: cluster.clone(),
            from,
            nodes,
            unknown: is_incomplete || is_cut,
            more: is_cut || edges.len() >= EDGES,
            edges,
            telling: told.map(telling),
        })
    }
}

fn telling(told: MeshTold) -> MeshTelling {
    MeshTelling {
        told_at: told.told_at,
        incomplete_at: told.incomplete_at,
        lost_flows: told.losses.flows,
        lost_denials: told.losses.denials,
        unwritten_denials: told.losses.unwritten_denials,
        disbelieved: told.losses.disbelieved,
        folded: told.losses.folded,
    }
}
