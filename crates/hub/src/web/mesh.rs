//! Who called whom in a cluster's mesh, and who has which workload identity there.

use std::sync::Arc;

use axum::{
    Json as Answer,
    extract::{Path, State},
};
use nullius_api::{IdentityList, IdentityQuery, MeshGraph, MeshGraphQuery};
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
    Ok(Answer(hub.mesh_graph(&identity, &cluster, query, &occasion).await?))
}

pub(super) async fn identities(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Path(name): Path<String>,
    Query(query): Query<IdentityQuery>,
) -> Result<Answer<IdentityList>, Problem> {
    let cluster: ClusterName = path_name(&name)?;
    Ok(Answer(hub.list_identities(&identity, &cluster, query, &occasion).await?))
}

impl From<GraphRefusal> for Problem {
    fn from(refusal: GraphRefusal) -> Self {
        match refusal {
            GraphRefusal::Refused(refusal) => refusal.into(),
            GraphRefusal::Wait => Self::wait("you read service graphs too fast; each sums much", 2),
            GraphRefusal::NotForYou => {
                Self::not_found("there is no such cluster, or none of it is for you")
                    .next("list those that you may see: `nullius cluster list`")
            }
        }
    }
}
