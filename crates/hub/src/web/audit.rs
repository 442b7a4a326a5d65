//! The audit and the uses of permissions.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json as Answer,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;
use http::header;
use nullius_api::{
    AnchoredCheckpoint, AuditAnchors, AuditQuery, AuditRow, AuditVerdict, List, UsageQuery,
    UsageRow,
};
use nullius_audit::SignedCheckpoint;

use super::{
    call::{Json, Person, Query},
    problem::{Problem, field_problem},
};
use crate::{Hub, record::Occasion};

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Query(query): Query<AuditQuery>,
) -> Result<Answer<List<AuditRow>>, Problem> {
    Ok(Answer(hub.list_audit(&identity, &query, &occasion).await?))
}

/// Events as they come, one JSON object a line.
pub(super) async fn tail(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Query(query): Query<AuditQuery>,
) -> Result<Response, Problem> {
    let following = hub.follow_audit(&identity, &query, &occasion).await?;
    let lines = stream::unfold(following, async |mut following| {
        let rows = following.next().await?;
        Some((Ok::<_, Infallible>(lines_of(&rows)), following))
    });
    let kind = [(header::CONTENT_TYPE, "application/jsonl")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

fn lines_of(rows: &[AuditRow]) -> Bytes {
    // An empty line shows the reader, and whatever stands between, that somebody is there.
    if rows.is_empty() {
        return Bytes::from_static(b"\n");
    }
    let mut lines = Vec::new();
    for line in rows.iter().filter_map(|row| serde_json::to_vec(row).ok()) {
        lines.extend(line);
        lines.push(b'\n');
    }
    Bytes::from(lines)
}

pub(super) async fn verify(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
) -> Result<Answer<AuditVerdict>, Problem> {
    Ok(Answer(hub.verify_audit(&identity, None, &occasion).await?))
}

/// The same against checkpoints that were kept elsewhere.
pub(super) async fn verify_anchored(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Json(anchors): Json<AuditAnchors>,
) -> Result<Answer<AuditVerdict>, Problem> {
    let signed = |anchor: AnchoredCheckpoint| {
        let signature = hex::decode(&anchor.signature)
            .map_err(|_| field_problem("checkpoints", "a signature is hexadecimal"))?;
        Ok(SignedCheckpoint { body: anchor.body, signature })
    };
    let anchors =
        anchors.checkpoints.into_iter().map(signed).collect::<Result<Vec<_>, Problem>>()?;
    Ok(Answer(hub.verify_audit(&identity, Some(&anchors), &occasion).await?))
}

pub(super) async fn usage(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Query(query): Query<UsageQuery>,
) -> Result<Answer<List<UsageRow>>, Problem> {
    Ok(Answer(hub.list_usage(&identity, query, &occasion).await?))
}
