//! A person and their sessions: who they are, kubectl's credential, step-up, logout, and sessions of others.

use std::sync::Arc;

use axum::{
    Json as Answer,
    extract::{Path, State},
};
use http::StatusCode;
use nullius_access::Whose;
use nullius_api::{KubeCredential, List, SessionInfo, StepUpRequest, WhoAmI, WhoseQuery};
use nullius_model::SessionId;

use super::{
    call::{Json, Person, Query, path_name},
    problem::Problem,
};
use crate::{Hub, record::Occasion};

pub(super) async fn who_am_i(
    State(hub): State<Arc<Hub>>,
    Person(identity): Person,
) -> Result<Answer<WhoAmI>, Problem> {
    Ok(Answer(hub.who_is(identity)?))
}

pub(super) async fn kube_credential(
    State(hub): State<Arc<Hub>>,
    Person(identity): Person,
) -> Result<Answer<KubeCredential>, Problem> {
    Ok(Answer(hub.kube_credential(&identity)?))
}

pub(super) async fn step_up(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Json(StepUpRequest { code }): Json<StepUpRequest>,
) -> Result<StatusCode, Problem> {
    hub.step_up(&identity, &code, &occasion).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn logout(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
) -> Result<StatusCode, Problem> {
    hub.log_out(&identity, &occasion).await;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Query(query): Query<WhoseQuery>,
) -> Result<Answer<List<SessionInfo>>, Problem> {
    let user = query.user.as_ref().unwrap_or(&identity.user);
    let of = if query.all { Whose::Everyone } else { Whose::Person(user) };
    let items = hub.list_sessions(&identity, of, &occasion).await?;
    Ok(Answer(List { items, next: None }))
}

pub(super) async fn end(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Path(session): Path<String>,
) -> Result<StatusCode, Problem> {
    let id: SessionId = path_name(&session)?;
    hub.end_listed_session(&identity, &id, &occasion).await?;
    Ok(StatusCode::NO_CONTENT)
}
