//! What is not as it should be in clusters.

use std::sync::Arc;

use axum::{
    Json as Answer,
    extract::{Path, State},
};
use nullius_api::{FindingList, FindingsQuery};
use nullius_model::Finding;

use super::{
    call::{Person, Query},
    problem::{Problem, field_problem},
};
use crate::{Hub, record::Occasion};

/// Hexadecimal digits of an id that must be named.
const LEAST: usize = 6;

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Query(query): Query<FindingsQuery>,
) -> Result<Answer<FindingList>, Problem> {
    Ok(Answer(hub.list_findings(&identity, query, &occasion).await?))
}

/// One finding, by its id or enough of the beginning of it.
pub(super) async fn read(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Path(id): Path<String>,
) -> Result<Answer<Finding>, Problem> {
    let hex = id.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    if !hex || !(LEAST..=32).contains(&id.len()) {
        return Err(field_problem("id", "6 to 32 hex digits, as lists show them"));
    }
    let mut found = hub.find_findings(&identity, &id, &occasion).await?;
    match (found.pop(), found.pop()) {
        (Some(finding), None) => Ok(Answer(finding)),
        (Some(_), Some(_)) => Err(field_problem("id", "more of it: several findings begin so")),
        (None, _) => Err(Problem::not_found("there is no such finding, or not for you")
            .next("list them: `nullius findings list -o wide`")),
    }
}
