//! Whoever changes the store's file is found out: every column, every row, every order.

use std::{fs, path::Path, sync::Arc};

use nullius_audit::{Report, SignedCheckpoint, Why};
use nullius_model::SystemClock;
use nullius_store::{Position, Store};
use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use crate::{check, event, on_file, options};

/// Two lives of a hub with 10 entries each and a checkpoint after each fourth.
async fn trail() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for life in 0..2 {
        let store = on_file(directory.path()).await;
        let mut options = options();
        options.checkpoint_entries = 4;
        let writer = store.start_audit(options).await.unwrap();
        for number in 0..10 {
            let position = writer.write(&event(life * 10 + number)).await.unwrap();
            assert_eq!(position, Position(i64::try_from(life * 10 + number).unwrap() + 1));
        }
        writer.shutdown().await;
        store.close().await;
    }
    directory
}

async fn open(directory: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(directory.join("store.db"));
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// Verifies a copy of the trail after some SQL was run on it.
async fn harmed(trail: &Path, sql: &str, anchors: &[SignedCheckpoint]) -> Report {
    let copy = tempfile::tempdir().unwrap();
    fs::copy(trail.join("store.db"), copy.path().join("store.db")).unwrap();
    let mut conn = open(copy.path()).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let store = Store::open_read_only(copy.path(), Arc::new(SystemClock)).await.unwrap();
    store.verify_audit(&check, anchors).await.unwrap()
}

async fn columns(directory: &Path, table: &str) -> Vec<(String, String)> {
    let mut conn = open(directory).await;
    let sql = format!("SELECT name, type FROM pragma_table_info('{table}')");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut conn).await.unwrap();
    rows.iter().map(|row| (row.get("name"), row.get("type"))).collect()
}

#[tokio::test]
async fn the_untouched_trail_is_intact() {
    let trail = trail().await;
    let report = harmed(trail.path(), "SELECT 1", &[]).await;
    assert!(report.is_intact(), "{report:?}");
    assert_eq!((report.records, report.uncovered), (20, 0));
}

#[tokio::test]
async fn a_change_of_any_column_of_an_entry_is_found() {
    let trail = trail().await;
    let columns = columns(trail.path(), "audit_entries").await;
    assert_eq!(columns.len(), 19);
    for (column, kind) in columns {
        let changes = match kind.as_str() {
            "BIGINT" => vec![format!("{column} + 1000"), "'x'".to_owned()],
            _ => vec![format!("COALESCE({column}, '') || 'x'"), "7".to_owned()],
        };
        let nullable = !matches!(
            column.as_str(),
            "position"
                | "writer"
                | "epoch"
                | "seq"
                | "prev_hash"
                | "hash"
                | "body"
                | "at"
                | "kind"
                | "outcome"
                | "audit_id"
        );
        let changes = changes.into_iter().chain(nullable.then(|| "NULL".to_owned()));
        for change in changes {
            for row in [1, 6, 11, 20] {
                let sql =
                    format!("UPDATE audit_entries SET {column} = {change} WHERE position = {row}");
                let report = harmed(trail.path(), &sql, &[]).await;
                assert!(!report.is_intact(), "{sql}");
            }
        }
    }
}

#[tokio::test]
async fn an_edited_index_column_is_named() {
    let trail = trail().await;
    let sql = "UPDATE audit_entries SET user_name = 'eve' WHERE position = 6";
    let report = harmed(trail.path(), sql, &[]).await;
    assert_eq!(report.fault.unwrap().why, Why::IndexEdited { column: "user_name" });
    let sql = "UPDATE audit_entries SET position = position + 100 WHERE position > 6";
    let report = harmed(trail.path(), sql, &[]).await;
    assert_eq!(report.fault.unwrap().why, Why::IndexEdited { column: "position" });
}

#[tokio::test]
async fn removed_rows_are_found_wherever_they_stood() {
    let trail = trail().await;
    for row in 1..=20 {
        let sql = format!("DELETE FROM audit_entries WHERE position = {row}");
        let report = harmed(trail.path(), &sql, &[]).await;
        assert!(!report.is_intact(), "{sql}");
    }
    let report = harmed(trail.path(), "DELETE FROM audit_entries WHERE position > 9", &[]).await;
    assert!(matches!(report.fault.unwrap().why, Why::Truncated { .. }));
    let all = "DELETE FROM audit_entries";
    let report = harmed(trail.path(), all, &[]).await;
    assert!(matches!(report.fault.unwrap().why, Why::Truncated { checkpoint: 1 }));
}

#[tokio::test]
async fn reordered_rows_are_found() {
    let trail = trail().await;
    for (one, other) in [(1, 2), (5, 9), (10, 11), (19, 20)] {
        let sql = format!(
            "UPDATE audit_entries SET position = -1 WHERE position = {one}; \
             UPDATE audit_entries SET position = {one} WHERE position = {other}; \
             UPDATE audit_entries SET position = {other} WHERE position = -1;"
        );
        let report = harmed(trail.path(), &sql, &[]).await;
        assert!(!report.is_intact(), "{sql}");
    }
}

#[tokio::test]
async fn a_change_of_any_column_of_a_checkpoint_is_found() {
    let trail = trail().await;
    for (column, kind) in columns(trail.path(), "audit_checkpoints").await {
        let change = match kind.as_str() {
            "BIGINT" => format!("{column} + 1000"),
            "BYTEA" => "x'00'".to_owned(),
            _ => format!("REPLACE({column}, '2026', '2025')"),
        };
        for row in [1, 2, 3] {
            let sql = format!("UPDATE audit_checkpoints SET {column} = {change} WHERE seq = {row}");
            let report = harmed(trail.path(), &sql, &[]).await;
            assert!(!report.is_intact(), "{sql}");
        }
    }
    for row in [1, 2, 3] {
        let sql = format!("DELETE FROM audit_checkpoints WHERE seq = {row}");
        assert!(!harmed(trail.path(), &sql, &[]).await.is_intact(), "{sql}");
    }
}

#[tokio::test]
async fn a_trail_cut_with_its_checkpoints_is_found_by_an_anchor() {
    let trail = trail().await;
    let store = Store::open_read_only(trail.path(), Arc::new(SystemClock)).await.unwrap();
    let anchor = store.read().await.unwrap().audit().newest_checkpoint().await.unwrap().unwrap();
    let sql = "DELETE FROM audit_entries WHERE position > 4; DELETE FROM audit_checkpoints WHERE seq > 1;";
    assert!(harmed(trail.path(), sql, &[]).await.is_intact(), "from inside it cannot be seen");
    let report = harmed(trail.path(), sql, &[anchor]).await;
    assert!(matches!(report.fault.unwrap().why, Why::Truncated { .. }));
}
