//! What somebody may do where, and why.

use std::sync::Arc;

use axum::{Json as Answer, extract::State};
use nullius_api::{AccessRow, ExplainAnswer, ExplainRequest, List, WhoseQuery};

use super::{
    call::{Json, Person, Query},
    problem::Problem,
};
use crate::{Hub, record::Occasion};

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Query(query): Query<WhoseQuery>,
) -> Result<Answer<List<AccessRow>>, Problem> {
    if query.all {
        return Err(Problem::invalid("name one person with `user`, or leave it out for yourself"));
    }
    let items = hub.list_access(identity, query.user, &occasion).await?;
    Ok(Answer(List { items, next: None }))
}

pub(super) async fn explain(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Json(asked): Json<ExplainRequest>,
) -> Result<Answer<ExplainAnswer>, Problem> {
    Ok(Answer(hub.explain_access(&identity, &asked, &occasion).await?))
}
