//! Findings: what is not as it should be in clusters, whole for each object, with the scan that saw it last.

use nullius_model::{
    ClusterName, Enforcement, Finding, FindingId, FindingSource, FindingState, FindingWaiver,
    FoundObject, FoundPart, Severity, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    StoreError,
    error::During as _,
    row::{Columns, Connection, Db, Row, json_text, key, repository, stored},
};

mod scans;

pub use scans::{ScanEnd, ScanMark, ScanState};

repository! {
    /// Reads findings.
    Findings,
    /// Changes findings.
    FindingsMut
}

/// Which findings somebody wants to see; an absent field matches all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FindingFilter {
    /// In this cluster.
    pub cluster: Option<String>,
    /// Of objects in this namespace.
    pub namespace: Option<String>,
    /// At least so bad.
    pub severity: Option<Severity>,
    /// Of this policy.
    pub policy: Option<String>,
    /// That stand so; what is resolved is left out when absent.
    pub state: Option<FindingState>,
    /// Of objects of this kind, whatever its case.
    pub kind: Option<String>,
    /// Seen, or resolved, at this instant or later.
    pub since: Option<Timestamp>,
    /// Only in these places, where it is not all.
    pub places: Option<Vec<FindingPlace>>,
    /// How many are passed over.
    pub skip: u32,
    /// How many at most; 1,000 when absent.
    pub limit: Option<u32>,
}

/// A cluster, or some of its namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingPlace {
    /// The cluster.
    pub cluster: String,
    /// Its namespaces; all, and the cluster's own objects, when absent.
    pub namespaces: Option<Vec<String>>,
}

/// What was looked at in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// By whom.
    pub source: FindingSource,
    /// Where.
    pub cluster: ClusterName,
    /// At which object.
    pub object: FoundObject,
    /// At the object itself or its pods.
    pub part: FoundPart,
}

/// What was found of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFinding {
    /// Its stable id.
    pub id: FindingId,
    /// The policy.
    pub policy: String,
    /// What applies it.
    pub binding: String,
    /// The check.
    pub check: String,
    /// How bad it is.
    pub severity: Severity,
    /// What the cluster makes of it.
    pub enforcement: Enforcement,
    /// What is wrong.
    pub message: String,
    /// What was looked at.
    pub evidence: Vec<String>,
    /// How to mend it.
    pub fix: String,
    /// Who accepted it.
    pub waiver: Option<FindingWaiver>,
}

/// How many more findings a cluster has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room(u64);

/// What stands in no column of its own.
#[derive(Serialize, Deserialize)]
struct Body {
    binding: String,
    check: String,
    enforcement: Enforcement,
    message: String,
    evidence: Vec<String>,
    fix: String,
    waiver: Option<FindingWaiver>,
}

impl Findings<'_> {
    /// How long a finding is kept after it was resolved.
    pub const RETENTION_DAYS: u32 = 90;
    /// Findings that are kept of one cluster; those that were resolved first make room, and what comes beyond is counted.
    pub const ROWS_OF_CLUSTER: u64 = 100_000;

    /// The findings that a filter wants, the worst first.
    pub async fn list(&mut self, filter: &FindingFilter) -> Result<Vec<Finding>, StoreError> {
        let mut query = select(filter);
        let rows = query.build().fetch_all(&mut *self.conn).await.during("read findings")?;
        rows.iter().map(read).collect()
    }

    /// The first two findings whose ids begin with these hex digits.
    pub async fn find(&mut self, beginning: &str) -> Result<Vec<Finding>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM findings WHERE id >= $1 AND id < $2 ORDER BY id LIMIT 2")
                .bind(beginning)
                // Behind every hex digit.
                .bind(format!("{beginning}g"))
                .fetch_all(&mut *self.conn)
                .await
                .during("read a finding")?;
        rows.iter().map(read).collect()
    }
}

impl FindingsMut<'_> {
    /// How much room a cluster has; ask once a transaction.
    pub async fn room(&mut self, cluster: &ClusterName) -> Result<Room, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) AS rows FROM findings WHERE cluster = $1")
            .bind(cluster.as_str())
            .fetch_one(self.conn())
            .await
            .during("count findings")?;
        let rows = Columns::new(&row, "finding").count("rows")?;
        Ok(Room(Findings::ROWS_OF_CLUSTER.saturating_sub(rows)))
    }

    /// Makes these all that is open of an object: what is not among them is resolved. Gives how many found no room.
    pub async fn replace(
        &mut self,
        looked: &Looked,
        found: &[NewFinding],
        mark: ScanMark,
        room: &mut Room,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let known = self.known(looked).await?;
        let mut folded = 0;
        for finding in found {
            let is_known = known.iter().any(|id| *id == finding.id.as_str());
            if !is_known && room.0 == 0 {
                room.0 = self.make_room(&looked.cluster).await?;
            }
            if !is_known && room.0 == 0 {
                folded += 1;
                continue;
            }
            room.0 -= u64::from(!is_known);
            self.put(looked, finding, mark, now).await?;
        }
        for id in &known {
            if !found.iter().any(|finding| finding.id.as_str() == id) {
                self.resolve(id, now).await?;
            }
        }
        Ok(folded)
    }

    /// What was found of these objects stands.
    pub async fn stand(
        &mut self,
        source: FindingSource,
        cluster: &ClusterName,
        uids: &[String],
        mark: ScanMark,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for uid in uids {
            sqlx::query(
                "UPDATE findings SET term = $1, scan = $2, last_seen = $3 \
                 WHERE cluster = $4 AND uid = $5 AND source = $6 AND state <> 'resolved'",
            )
            .bind(stored(mark.term))
            .bind(stored(mark.number))
            .bind(key(now))
            .bind(cluster.as_str())
            .bind(uid.as_str())
            .bind(source.as_str())
            .execute(self.conn())
            .await
            .during("let findings stand")?;
        }
        Ok(())
    }

    /// Forgets what was resolved before an instant; see [`Findings::RETENTION_DAYS`].
    pub async fn prune(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        let done =
            sqlx::query("DELETE FROM findings WHERE state = 'resolved' AND resolved_at < $1")
                .bind(key(before))
                .execute(self.conn())
                .await
                .during("forget old findings")?;
        Ok(done.rows_affected())
    }

    /// Forgets all that was found in a cluster.
    pub async fn forget(&mut self, cluster: &ClusterName) -> Result<u64, StoreError> {
        let mut gone = 0;
        for sql in [
            "DELETE FROM findings WHERE cluster = $1",
            "DELETE FROM finding_scans WHERE cluster = $1",
            "DELETE FROM agent_reports WHERE cluster = $1",
        ] {
            let done = sqlx::query(sql).bind(cluster.as_str()).execute(self.conn()).await;
            gone += done.during("forget the findings of a cluster")?.rows_affected();
        }
        Ok(gone)
    }

    async fn known(&mut self, looked: &Looked) -> Result<Vec<String>, StoreError> {
        let object = &looked.object;
        let rows = sqlx::query(
            "SELECT id FROM findings WHERE cluster = $1 AND source = $2 AND api_group = $3 AND kind = $4 \
             AND namespace = $5 AND name = $6 AND part = $7",
        )
        .bind(looked.cluster.as_str())
        .bind(looked.source.as_str())
        .bind(object.group())
        .bind(object.kind.as_str())
        .bind(object.namespace.as_str())
        .bind(object.name.as_str())
        .bind(looked.part.as_str())
        .fetch_all(self.conn())
        .await
        .during("read what was found of an object")?;
        rows.iter().map(|row| Columns::new(row, "finding").text("id")).collect()
    }

    /// Forgets some of what was resolved first.
    async fn make_room(&mut self, cluster: &ClusterName) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM findings WHERE id IN (SELECT id FROM findings WHERE cluster = $1 \
             AND state = 'resolved' ORDER BY resolved_at LIMIT 1000)",
        )
        .bind(cluster.as_str())
        .execute(self.conn())
        .await
        .during("make room for findings")?;
        Ok(done.rows_affected())
    }

    async fn put(
        &mut self,
        looked: &Looked,
        finding: &NewFinding,
        mark: ScanMark,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let object = &looked.object;
        let state = match finding.waiver {
            None => FindingState::Open,
            Some(_) => FindingState::Waived,
        };
        let body = Body {
            binding: finding.binding.clone(),
            check: finding.check.clone(),
            enforcement: finding.enforcement,
            message: finding.message.clone(),
            evidence: finding.evidence.clone(),
            fix: finding.fix.clone(),
            waiver: finding.waiver.clone(),
        };
        sqlx::query(
            "INSERT INTO findings (id, source, cluster, api_group, api_version, kind, namespace, name, uid, part, \
             policy, severity, state, first_seen, last_seen, resolved_at, term, scan, body) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14, NULL, $15, $16, $17) \
             ON CONFLICT (id) DO UPDATE SET api_version = excluded.api_version, \
             first_seen = CASE WHEN findings.state = 'resolved' OR findings.uid <> excluded.uid \
             THEN excluded.first_seen ELSE findings.first_seen END, \
             uid = excluded.uid, severity = excluded.severity, state = excluded.state, last_seen = excluded.last_seen, \
             resolved_at = NULL, term = excluded.term, scan = excluded.scan, body = excluded.body",
        )
        .bind(finding.id.as_str())
        .bind(looked.source.as_str())
        .bind(looked.cluster.as_str())
        .bind(object.group())
        .bind(object.api_version.as_str())
        .bind(object.kind.as_str())
        .bind(object.namespace.as_str())
        .bind(object.name.as_str())
        .bind(object.uid.as_str())
        .bind(looked.part.as_str())
        .bind(finding.policy.as_str())
        .bind(rank(finding.severity))
        .bind(state.as_str())
        .bind(key(now))
        .bind(stored(mark.term))
        .bind(stored(mark.number))
        .bind(json_text("finding", &body)?)
        .execute(self.conn())
        .await
        .during("write a finding")?;
        Ok(())
    }

    async fn resolve(&mut self, id: &str, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE findings SET state = 'resolved', resolved_at = $1 WHERE id = $2 AND state <> 'resolved'",
        )
        .bind(key(now))
        .bind(id)
        .execute(self.conn())
        .await
        .during("resolve a finding")?;
        Ok(())
    }

    fn connection(&mut self) -> &mut Connection {
        self.conn()
    }
}

fn select(filter: &FindingFilter) -> sqlx::QueryBuilder<Db> {
    let mut query = sqlx::QueryBuilder::<Db>::new("SELECT * FROM findings WHERE 1 = 1");
    let texts = [
        (" AND cluster = ", filter.cluster.clone()),
        (" AND namespace = ", filter.namespace.clone()),
        (" AND policy = ", filter.policy.clone()),
        (" AND LOWER(kind) = ", filter.kind.as_ref().map(|kind| kind.to_lowercase())),
        (" AND state = ", filter.state.map(|state| state.as_str().to_owned())),
    ];
    for (condition, text) in texts {
        if let Some(text) = text {
            query.push(condition).push_bind(text);
        }
    }
    if filter.state.is_none() {
        query.push(" AND state <> 'resolved'");
    }
    if let Some(severity) = filter.severity {
        query.push(" AND severity >= ").push_bind(rank(severity));
    }
    if let Some(since) = filter.since {
        query.push(" AND COALESCE(resolved_at, last_seen) >= ").push_bind(key(since));
    }
    if let Some(places) = &filter.places {
        query.push(" AND (1 = 0");
        for place in places {
            query.push(" OR (cluster = ").push_bind(place.cluster.clone());
            if let Some(namespaces) = &place.namespaces {
                query.push(" AND namespace IN (''");
                for namespace in namespaces.iter().filter(|namespace| !namespace.is_empty()) {
                    query.push(", ").push_bind(namespace.clone());
                }
                query.push(") AND namespace <> ''");
            }
            query.push(")");
        }
        query.push(")");
    }
    query.push(" ORDER BY severity DESC, cluster, namespace, kind, name, id LIMIT ");
    query.push_bind(i64::from(filter.limit.unwrap_or(1_000)));
    query.push(" OFFSET ").push_bind(i64::from(filter.skip));
    query
}

fn read(row: &Row) -> Result<Finding, StoreError> {
    let columns = Columns::new(row, "finding");
    let body: Body = columns.json("body")?;
    Ok(Finding {
        id: columns.parsed("id")?,
        source: columns.word("source")?,
        cluster: columns.parsed("cluster")?,
        object: FoundObject {
            api_version: columns.text("api_version")?,
            kind: columns.text("kind")?,
            namespace: columns.text("namespace")?,
            name: columns.text("name")?,
            uid: columns.text("uid")?,
        },
        part: columns.word("part")?,
        policy: columns.text("policy")?,
        binding: body.binding,
        check: body.check,
        severity: ranked(&columns)?,
        enforcement: body.enforcement,
        message: body.message,
        evidence: body.evidence,
        fix: body.fix,
        state: columns.word("state")?,
        waiver: body.waiver,
        first_seen: columns.time("first_seen")?,
        last_seen: columns.time("last_seen")?,
        resolved_at: columns.optional_time("resolved_at")?,
    })
}

/// Where a severity stands among all, the mildest first.
fn rank(severity: Severity) -> i64 {
    let at = Severity::ALL.iter().position(|each| *each == severity);
    at.and_then(|at| i64::try_from(at).ok()).unwrap_or_default()
}

fn ranked(columns: &Columns<'_>) -> Result<Severity, StoreError> {
    let at = usize::try_from(columns.count("severity")?).unwrap_or(usize::MAX);
    Severity::ALL.get(at).copied().ok_or_else(|| columns.corrupt("an unknown severity"))
}
