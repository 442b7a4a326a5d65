//! The tables, as a list of numbered steps; each is applied once, in its own transaction.

use sqlx::{Connection as _, Row as _};

use crate::{OpenError, error::DatabaseError, row::Connection};

/// The steps; the number of the last one is the schema that this binary knows. Never edit a step that was released.
const STEPS: &[(i64, &str)] = &[
    (1, include_str!("../migrations/0001_init.sql")),
    (2, include_str!("../migrations/0002_sign_in.sql")),
    (3, include_str!("../migrations/0003_agent_shape.sql")),
    (4, include_str!("../migrations/0004_audit_search.sql")),
    (5, include_str!("../migrations/0005_uses_of_principal.sql")),
    (6, include_str!("../migrations/0006_findings.sql")),
    (7, include_str!("../migrations/0007_workload_authorities.sql")),
    (8, include_str!("../migrations/0008_mesh.sql")),
    (9, include_str!("../migrations/0009_trust.sql")),
    (10, include_str!("../migrations/0010_mesh_shares.sql")),
    (11, include_str!("../migrations/0011_foreign_bundles.sql")),
    (12, include_str!("../migrations/0012_trust_kept.sql")),
];

/// The schema that this binary writes.
pub(crate) fn known() -> i64 {
    STEPS.last().map_or(0, |(version, _)| *version)
}

/// The schema of an open database; 0 for an empty one.
pub(crate) async fn found(conn: &mut Connection, location: &str) -> Result<i64, OpenError> {
    let fault = |operation| at(location, operation);
    let table = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table' AND name = $1")
        .bind("schema_versions")
        .fetch_optional(&mut *conn)
        .await
        .map_err(fault("be read"))?;
    if table.is_none() {
        return Ok(0);
    }
    sqlx::query("SELECT MAX(version) AS version FROM schema_versions")
        .fetch_one(&mut *conn)
        .await
        .and_then(|row| row.try_get::<Option<i64>, _>("version"))
        .map(Option::unwrap_or_default)
        .map_err(fault("tell its schema"))
}

/// Brings an open database up to date; a newer one is left alone.
pub(crate) async fn migrate(conn: &mut Connection, location: &str) -> Result<(), OpenError> {
    let found = found(conn, location).await?;
    if found > known() {
        return Err(OpenError::Newer { found, known: known() });
    }
    for (version, sql) in STEPS.iter().filter(|(version, _)| *version > found) {
        apply(conn, *version, sql).await.map_err(at(location, "be brought up to date"))?;
    }
    Ok(())
}

async fn apply(conn: &mut Connection, version: i64, sql: &'static str) -> Result<(), sqlx::Error> {
    let mut tx = conn.begin().await?;
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT NOT NULL PRIMARY KEY)",
    )
    .execute(&mut *tx)
    .await?;
    sqlx::raw_sql(sql).execute(&mut *tx).await?;
    sqlx::query("INSERT INTO schema_versions (version) VALUES ($1)")
        .bind(version)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

pub(crate) fn at(
    location: &str,
    operation: &'static str,
) -> impl Fn(sqlx::Error) -> OpenError + use<> {
    let location = location.to_owned();
    move |error| OpenError::Database {
        location: location.clone(),
        operation,
        source: DatabaseError(error),
    }
}
