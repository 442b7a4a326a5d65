//! The audit and the uses of permissions, for those who may read them.

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
use nullius_access::{HubAction, ReadScope};
use nullius_api::{
    AnchoredCheckpoint, AuditAnchors, AuditQuery, AuditRow, AuditVerdict, List, UsageQuery,
    UsageRow,
};
use nullius_audit::{Filter, SignedCheckpoint};
use nullius_model::{
    AuditKind, AuditOutcome, Explanation, Identity, Principal, Reason, SessionId, UserName,
};
use nullius_store::{Position, StoredEntry, UseFilter};

use super::{
    call::{Call, Json, Person, Query},
    field_problem,
    problem::Problem,
};
use crate::Hub;

/// Rows of one answer at most, and without a limit.
const ROWS_MAX: u32 = 1_000;
const ROWS: u32 = 100;

async fn may_read(
    hub: &Hub,
    identity: &Identity,
    call: &Call,
    what: &str,
) -> Result<ReadScope, Problem> {
    let permit = hub.allow(identity, &HubAction::ReadAudit, call).await?;
    let mut event = hub.event_of(call, AuditKind::Read, AuditOutcome::Done);
    event.principal = Principal::Person { user: identity.user.clone() };
    event.session = Some(identity.session.clone());
    event.permission = permit.permission().cloned();
    event.target = Some("Audit".to_owned());
    event.facts.insert("what".to_owned(), what.to_owned());
    hub.record_read(&event, identity).await?;
    Ok(permit.scope())
}

/// The person whose events or uses are shown: with a right to their own alone it is nobody else.
fn shown(
    scope: ReadScope,
    identity: &Identity,
    asked: Option<&UserName>,
) -> Result<Option<UserName>, Problem> {
    match (scope, asked) {
        (ReadScope::All, asked) => Ok(asked.cloned()),
        (ReadScope::Own, Some(other)) if *other != identity.user => Err(only_own(identity)),
        (ReadScope::Own, _) => Ok(Some(identity.user.clone())),
    }
}

fn only_own(identity: &Identity) -> Problem {
    let sentence = format!("`{}` may read only what they did themselves", identity.user);
    let explanation = Explanation::new(Reason::NoHubRole, sentence);
    Problem::denied(explanation.with_next("ask an admin for a grant of the hub role `auditor`"))
}

fn filter(query: &AuditQuery, user: Option<&UserName>) -> Filter {
    let text = |name: Option<&dyn std::fmt::Display>| name.map(ToString::to_string);
    Filter {
        user: user.map(ToString::to_string),
        kind: query.kind,
        outcome: query.outcome,
        cluster: query.cluster.as_ref().map(ToString::to_string),
        session: text(query.session.as_ref().map(|id| id as _)),
        namespace: query.namespace.clone(),
        resource: query.resource.clone(),
        verb: query.verb.clone(),
        since: query.since,
        until: query.until,
        audit_id: query.audit_id.clone(),
        limit: Some(query.limit.unwrap_or(ROWS).clamp(1, ROWS_MAX)),
        ..Filter::default()
    }
}

fn row(entry: &StoredEntry) -> Result<AuditRow, Problem> {
    let event = entry.event().map_err(|error| Problem::internal(&error))?;
    let record = &entry.record;
    Ok(AuditRow {
        position: entry.position.0,
        writer: record.chain.writer.to_string(),
        epoch: record.chain.epoch.to_string(),
        seq: i64::try_from(record.seq).unwrap_or(i64::MAX),
        hash: record.hash.to_string(),
        event,
    })
}

fn after(text: Option<&str>) -> Result<Option<Position>, Problem> {
    let wrong = |_| field_problem("after", "it must be `next` of the answer before");
    text.map(str::parse).transpose().map_err(wrong)
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Person(identity): Person,
    Query(query): Query<AuditQuery>,
) -> Result<Answer<List<AuditRow>>, Problem> {
    let before = after(query.after.as_deref())?;
    let scope = may_read(&hub, &identity, &call, "list").await?;
    let user = shown(scope, &identity, query.user.as_ref())?;
    let filter = filter(&query, user.as_ref());
    let page = hub.store().read().await?.audit().list(&filter, before).await?;
    let items = page.entries.iter().map(row).collect::<Result<_, _>>()?;
    Ok(Answer(List { items, next: page.next.map(|next| next.to_string()) }))
}

/// Events as they come; ends when the reader's session or right does.
pub(super) async fn tail(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Person(identity): Person,
    Query(query): Query<AuditQuery>,
) -> Result<Response, Problem> {
    let from = after(query.after.as_deref())?;
    let scope = may_read(&hub, &identity, &call, "tail").await?;
    let user = shown(scope, &identity, query.user.as_ref())?;
    let tail = hub.store().tail_audit(from);
    let filter = filter(&query, user.as_ref());
    let state = (Arc::clone(&hub), tail, filter, Reading { session: identity.session, scope });
    let lines = stream::unfold(state, |(hub, mut tail, filter, reading)| async move {
        loop {
            let waited =
                tokio::time::timeout(std::time::Duration::from_secs(15), tail.next()).await;
            if !still_reads(&hub, &reading) || hub.is_draining() {
                return None;
            }
            let mut lines = Vec::new();
            match waited {
                Ok(Ok(entries)) if entries.is_empty() => return None,
                Ok(Ok(entries)) => {
                    for entry in entries {
                        let Ok(row) = row(&entry) else { continue };
                        if filter.matches(&row.event) {
                            let Ok(line) = serde_json::to_vec(&row) else { continue };
                            lines.extend(line);
                            lines.push(b'\n');
                        }
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "could not follow the audit");
                    return None;
                }
                // An empty line shows the reader, and whatever stands between, that somebody is there.
                Err(_) => lines.push(b'\n'),
            }
            if !lines.is_empty() {
                let state = (hub, tail, filter, reading);
                return Some((Ok::<_, Infallible>(Bytes::from(lines)), state));
            }
        }
    });
    let kind = [(header::CONTENT_TYPE, "application/jsonl")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

/// Who follows the audit, and how much of it they may see.
struct Reading {
    session: SessionId,
    scope: ReadScope,
}

/// Whether the session lives and still has the right that it began with.
fn still_reads(hub: &Hub, reading: &Reading) -> bool {
    let now = hub.now();
    let live = hub.sessions().find(&reading.session).filter(|session| session.is_live(now));
    let Some(session) = live else { return false };
    let snapshot = hub.snapshot();
    let identity = session.identity(&snapshot);
    let caller = nullius_access::Caller::new(&identity);
    let decision = nullius_policy::decide_hub(&snapshot, &caller, &HubAction::ReadAudit, now);
    decision.into_result().is_ok_and(|permit| permit.scope() == reading.scope)
}

pub(super) async fn verify(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Person(identity): Person,
) -> Result<Answer<AuditVerdict>, Problem> {
    proof(&hub, &identity, &call, None).await
}

/// The same against checkpoints that were kept elsewhere.
pub(super) async fn verify_anchored(
    State(hub): State<Arc<Hub>>,
    call: Call,
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
    proof(&hub, &identity, &call, Some(&anchors)).await
}

async fn proof(
    hub: &Hub,
    identity: &Identity,
    call: &Call,
    anchors: Option<&[SignedCheckpoint]>,
) -> Result<Answer<AuditVerdict>, Problem> {
    if may_read(hub, identity, call, "verify").await? == ReadScope::Own {
        return Err(only_own(identity));
    }
    let key = hub.keys().audit().public();
    let verdict = crate::prove_audit(hub.store(), key, anchors).await;
    verdict.map(Answer).map_err(|error| Problem::internal(&error))
}

pub(super) async fn usage(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Person(identity): Person,
    Query(query): Query<UsageQuery>,
) -> Result<Answer<List<UsageRow>>, Problem> {
    let permit = hub.allow(&identity, &HubAction::ReadUsage, &call).await?;
    let user = shown(permit.scope(), &identity, query.user.as_ref())?;
    // What was counted since the last flush belongs to the answer.
    hub.flush_uses().await;
    let skip: usize = match &query.after {
        None => 0,
        Some(after) => after
            .parse()
            .map_err(|_| field_problem("after", "it must be `next` of the answer before"))?,
    };
    let limit = query.limit.unwrap_or(ROWS).clamp(1, ROWS_MAX);
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let through = u32::try_from(skip.saturating_add(wanted).saturating_add(1)).unwrap_or(u32::MAX);
    let filter = UseFilter {
        principal: user.map(|user| Principal::Person { user }.label()),
        cluster: query.cluster.map(String::from),
        since: query.since,
        limit: Some(through),
        ..UseFilter::default()
    };
    let uses = hub.store().read().await?.usage().list(&filter).await?;
    let more = uses.len() > skip.saturating_add(wanted);
    let items = uses.into_iter().skip(skip).take(wanted).collect();
    let next = more.then(|| (skip + wanted).to_string());
    Ok(Answer(List { items, next }))
}
