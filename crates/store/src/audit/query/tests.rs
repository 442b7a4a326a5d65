#![allow(clippy::unwrap_used, reason = "test")]
use std::sync::Arc;

use nullius_model::SystemClock;
use sqlx::Row as _;

use super::*;
use crate::{Reader, Store};

/// How SQLite goes about a query, a line for each step.
async fn plan(reader: &mut Reader, filter: &Filter, before: Option<Position>) -> String {
    let sql = page(filter, before).sql().as_str().to_owned();
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")))
        .fetch_all(&mut *reader.audit().conn)
        .await
        .unwrap();
    let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
    steps.join("\n")
}

#[tokio::test]
async fn every_search_goes_along_an_index_and_sorts_nothing() {
    let store = Store::open_in_memory(Arc::new(SystemClock)).await.unwrap();
    let mut reader = store.read().await.unwrap();
    let text = |text: &str| Some(text.to_owned());
    let at = |text: &str| Some(text.parse().unwrap());
    let all = Filter::default;
    let id = "00000000-0000-0000-0000-000000000001".parse().unwrap();
    let searches = [
        ("audit_entries_audit_id", Filter { audit_id: Some(id), ..all() }),
        ("audit_entries_session", Filter { session: text("s"), user: text("u"), ..all() }),
        ("audit_entries_target", Filter { target: text("t"), ..all() }),
        (
            "audit_entries_kind",
            Filter { kind: Some(AuditKind::SignIn), cluster: text("c"), ..all() },
        ),
        ("audit_entries_subresource", Filter { resource: text("pods/exec"), ..all() }),
        ("audit_entries_user", Filter { user: text("u"), cluster: text("c"), ..all() }),
        ("audit_entries_namespace", Filter { namespace: text("n"), verb: text("get"), ..all() }),
        ("audit_entries_resource", Filter { resource: text("pods"), verb: text("get"), ..all() }),
        ("audit_entries_outcome", Filter { outcome: Some(AuditOutcome::Denied), ..all() }),
        ("audit_entries_verb", Filter { verb: text("deletecollection"), ..all() }),
        ("audit_entries_cluster", Filter { cluster: text("c"), ..all() }),
        ("sqlite_autoindex_audit_entries_1", all()),
        (
            "sqlite_autoindex_audit_entries_1",
            Filter { kind: Some(AuditKind::KubeRequest), ..all() },
        ),
        ("sqlite_autoindex_audit_entries_1", Filter { outcome: Some(AuditOutcome::Done), ..all() }),
    ];
    for (index, filter) in searches {
        for (since, until) in
            [(None, None), (at("2026-01-01T00:00:00Z"), at("2026-02-01T00:00:00Z"))]
        {
            let timed = since.is_some();
            let filter = Filter { since, until, ..filter.clone() };
            for before in [None, Some(Position(1_000))] {
                let plan = plan(&mut reader, &filter, before).await;
                let first = plan.lines().next().unwrap();
                assert!(first.contains(&format!("USING INDEX {index}")), "{filter:?}\n{plan}");
                // One request has a handful of entries.
                let sorts = plan.contains("TEMP B-TREE") && filter.audit_id.is_none();
                assert!(!sorts, "{filter:?}\n{plan}");
                let bounds = plan.matches("USING COVERING INDEX audit_entries_time (at").count();
                assert_eq!(bounds, if timed { 2 } else { 0 }, "{filter:?}\n{plan}");
            }
        }
    }
}
