//! Scans of clusters: which is the newest, what it came to, and what of earlier ones is thereby gone.

use nullius_model::{ClusterName, FindingSource, Timestamp};

use super::{Findings, FindingsMut};
use crate::{
    StoreError,
    error::During as _,
    row::{Columns, Row, json_text, key, stored},
};

/// Which scan: those of a later leader, and later ones of the same, come after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScanMark {
    /// The leader's term.
    pub term: u64,
    /// Its scan.
    pub number: u64,
}

/// What a scan came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScanEnd {
    /// Objects that it looked at.
    pub objects: u64,
    /// Policies that it asked.
    pub policies: u64,
    /// What could not be judged, a sentence each.
    pub faults: Vec<String>,
}

/// How the scans of a cluster stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanState {
    /// The cluster.
    pub cluster: ClusterName,
    /// Who scans.
    pub source: FindingSource,
    /// When the newest scan began.
    pub began_at: Timestamp,
    /// When the last one ended; none did where it is absent.
    pub finished_at: Option<Timestamp>,
    /// What that one came to.
    pub end: ScanEnd,
    /// Findings that found no room since the newest began.
    pub folded: u64,
}

impl Findings<'_> {
    /// How the scans of all clusters stand.
    pub async fn scans(&mut self) -> Result<Vec<ScanState>, StoreError> {
        let rows = sqlx::query(
            "SELECT cluster, source, began_at, finished_at, objects, policies, faults, folded \
             FROM finding_scans ORDER BY cluster, source",
        )
        .fetch_all(&mut *self.conn)
        .await
        .during("read scans")?;
        rows.iter().map(read).collect()
    }
}

impl FindingsMut<'_> {
    /// Goes on with a scan, or begins it; false where a later one is known.
    pub async fn go_on(
        &mut self,
        source: FindingSource,
        cluster: &ClusterName,
        mark: ScanMark,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let row =
            sqlx::query("SELECT term, scan FROM finding_scans WHERE cluster = $1 AND source = $2")
                .bind(cluster.as_str())
                .bind(source.as_str())
                .fetch_optional(self.connection())
                .await
                .during("read a scan")?;
        if let Some(row) = &row {
            let columns = Columns::new(row, "scan");
            let known = ScanMark { term: columns.count("term")?, number: columns.count("scan")? };
            if known >= mark {
                return Ok(known == mark);
            }
        }
        sqlx::query(
            "INSERT INTO finding_scans (cluster, source, term, scan, began_at, folded, finished_at, objects, \
             policies, faults) VALUES ($1, $2, $3, $4, $5, 0, NULL, 0, 0, '[]') \
             ON CONFLICT (cluster, source) DO UPDATE SET term = excluded.term, scan = excluded.scan, \
             began_at = excluded.began_at, folded = 0",
        )
        .bind(cluster.as_str())
        .bind(source.as_str())
        .bind(stored(mark.term))
        .bind(stored(mark.number))
        .bind(key(now))
        .execute(self.connection())
        .await
        .during("begin a scan")?;
        Ok(true)
    }

    /// Counts findings that found no room.
    pub async fn fold(
        &mut self,
        source: FindingSource,
        cluster: &ClusterName,
        folded: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE finding_scans SET folded = folded + $1 WHERE cluster = $2 AND source = $3",
        )
        .bind(stored(folded))
        .bind(cluster.as_str())
        .bind(source.as_str())
        .execute(self.connection())
        .await
        .during("count findings without room")?;
        Ok(())
    }

    /// Ends a scan: what it did not see is resolved. Gives how many that were.
    pub async fn finish_scan(
        &mut self,
        source: FindingSource,
        cluster: &ClusterName,
        mark: ScanMark,
        end: &ScanEnd,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let gone = sqlx::query(
            "UPDATE findings SET state = 'resolved', resolved_at = $1 WHERE cluster = $2 AND source = $3 \
             AND state <> 'resolved' AND (term <> $4 OR scan <> $5)",
        )
        .bind(key(now))
        .bind(cluster.as_str())
        .bind(source.as_str())
        .bind(stored(mark.term))
        .bind(stored(mark.number))
        .execute(self.connection())
        .await
        .during("resolve what a scan did not see")?;
        sqlx::query(
            "UPDATE finding_scans SET finished_at = $1, objects = $2, policies = $3, faults = $4 \
             WHERE cluster = $5 AND source = $6",
        )
        .bind(key(now))
        .bind(stored(end.objects))
        .bind(stored(end.policies))
        .bind(json_text("scan", &end.faults)?)
        .bind(cluster.as_str())
        .bind(source.as_str())
        .execute(self.connection())
        .await
        .during("end a scan")?;
        Ok(gone.rows_affected())
    }
}

fn read(row: &Row) -> Result<ScanState, StoreError> {
    let columns = Columns::new(row, "scan");
    Ok(ScanState {
        cluster: columns.parsed("cluster")?,
        source: columns.word("source")?,
        began_at: columns.time("began_at")?,
        finished_at: columns.optional_time("finished_at")?,
        end: ScanEnd {
            objects: columns.count("objects")?,
            policies: columns.count("policies")?,
            faults: columns.json("faults")?,
        },
        folded: columns.count("folded")?,
    })
}
