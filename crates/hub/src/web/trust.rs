//! Authorities of clusters' workloads: how they stand, and another one at once.

use std::sync::Arc;

use axum::{
    Json as Answer,
    extract::{Path, State},
};
use http::StatusCode;
use nullius_api::{AcceptOlderRequest, RotateRequest, RotationInfo, TrustList, TrustQuery};
use nullius_model::{ClusterName, ObjectName};

use super::{
    call::{Json, Person, Query, path_name},
    problem::Problem,
};
use crate::{Hub, record::Occasion};

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Query(query): Query<TrustQuery>,
) -> Result<Answer<TrustList>, Problem> {
    Ok(Answer(hub.list_trust(&identity, &query, &occasion).await?))
}

pub(super) async fn rotate(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Path(name): Path<String>,
    Json(request): Json<RotateRequest>,
) -> Result<Answer<RotationInfo>, Problem> {
    let cluster: ClusterName = path_name(&name)?;
    Ok(Answer(hub.rotate_trust(&identity, &cluster, request, &occasion).await?))
}

pub(super) async fn accept_older(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Path(name): Path<String>,
    Json(request): Json<AcceptOlderRequest>,
) -> Result<StatusCode, Problem> {
    let name: ObjectName = path_name(&name)?;
    hub.accept_older(&identity, &name, request, &occasion).await?;
    Ok(StatusCode::NO_CONTENT)
}
