//! Who called whom in a cluster's mesh.

use std::sync::Arc;

use axum::{
    Json as Answer,
    extract::{Path, State},
};
use nullius_api::{MeshGraph, MeshGraphQuery};
use nullius_model::ClusterName;

use super::{
    call::{Person, Query, path_name},
    problem::Problem,
};
use crate::{Hub, acts::mesh::GraphRefusal, record::Occasion};

pub(super) async fn graph(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Path(name): Path<String>,
    Query(query): Query<MeshGraphQuery>,
) -> Result<Answer<MeshGraph>, Problem> {
    let cluster: ClusterName = path_name(&name)?;
    match hub.mesh_graph(&identity, &cluster, query, &occasion).await {
        Ok(graph) => Ok(Answer(graph)),
        Err(GraphRefusal::Refused(refusal)) => Err(refusal.into()),
        Err(GraphRefusal::Wait) => {
            Err(Problem::wait("you read service graphs too fast; each sums much", 2))
        }
        Err(GraphRefusal::NotForYou) => {
            Err(Problem::not_found("there is no such cluster, or none of it is for you")
                .next("list those that you may see: `nullius cluster list`"))
        }
    }
}
