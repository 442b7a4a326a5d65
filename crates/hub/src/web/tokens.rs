//! Single-use secrets: join tokens for clusters, enrolment links for people, and what is done with the latter.

use std::sync::Arc;

use axum::{
    Json as Answer,
    extract::{Path, State},
};
use http::StatusCode;
use nullius_api::{EnrolAnswer, EnrolConfirm, EnrolRequest, EnrolmentLink, JoinToken};
use nullius_model::{ClusterName, UserName};
use secrecy::SecretString;

use super::{
    call::{Json, Person, path_name},
    problem::Problem,
};
use crate::{Hub, record::Occasion};

pub(super) async fn join(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Path(name): Path<String>,
) -> Result<Answer<JoinToken>, Problem> {
    let cluster: ClusterName = path_name(&name)?;
    Ok(Answer(hub.issue_join_token(&identity, &cluster, &occasion).await?))
}

pub(super) async fn enrolment(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Path(name): Path<String>,
) -> Result<Answer<EnrolmentLink>, Problem> {
    let user: UserName = path_name(&name)?;
    Ok(Answer(hub.issue_enrolment(&identity, &user, &occasion).await?))
}

pub(super) async fn enrol(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Json(EnrolRequest { token, password }): Json<EnrolRequest>,
) -> Result<Answer<EnrolAnswer>, Problem> {
    let password = SecretString::from(password);
    Ok(Answer(hub.begin_enrolment(&token, password, &occasion).await?))
}

pub(super) async fn confirm(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Json(EnrolConfirm { token, code }): Json<EnrolConfirm>,
) -> Result<StatusCode, Problem> {
    hub.confirm_enrolment(&token, &code, &occasion).await?;
    Ok(StatusCode::NO_CONTENT)
}
