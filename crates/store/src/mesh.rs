//! Calls between workloads, merged over hours, and over days once they are older: what the service graph is drawn of.
//!
//! A cluster has a bounded part of the store and a source a bounded part of its cluster's: what comes beyond is folded, with its counts, and
//! whoever asks is told that something is not known.

use nullius_model::{CallKey, Calls, ClusterName, MeshVerdict, Timestamp, Ttl};
use sha2::{Digest, Sha256};

use crate::{
    StoreError,
    error::During as _,
    row::{Columns, Db, Row, json_text, key, repository, stored},
};

repository! {
    /// Reads calls between workloads.
    Mesh,
    /// Merges calls between workloads.
    MeshMut
}

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// What is older is kept by day.
const KEEP_HOURS: Ttl = Ttl::from_secs(48 * 3_600);
/// No counter of a row grows beyond: the sum of all rows of an edge still fits 63 bits.
const COUNT_MAX: u64 = 1 << 52;

/// Which calls somebody wants to see; an absent field matches all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFilter {
    /// In this cluster.
    pub cluster: ClusterName,
    /// With an end in this namespace.
    pub namespace: Option<String>,
    /// With an end in one of these namespaces, where somebody may not see all.
    pub namespaces: Option<Vec<String>>,
    /// That were decided so.
    pub verdict: Option<MeshVerdict>,
    /// Last seen at this instant or later.
    pub since: Option<Timestamp>,
    /// How many at most.
    pub limit: u32,
}

/// How a cluster's telling stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshTold {
    /// When it told last.
    pub told_at: Timestamp,
    /// When something last happened for which calls are not all known.
    pub incomplete_at: Option<Timestamp>,
    /// What is not known, all told.
    pub losses: MeshLosses,
}

/// Calls that are not in the graph as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MeshLosses {
    /// Connections and requests that found no room before they were told.
    pub flows: u64,
    /// Denials that found no room before they were told.
    pub denials: u64,
    /// Denials that were told too fast to be written into the audit one by one.
    pub unwritten_denials: u64,
    /// Words of nodes about pods that are not theirs.
    pub disbelieved: u64,
    /// Connections and requests that are only counted with others.
    pub folded: u64,
}

impl Mesh<'_> {
    /// How long calls are kept.
    pub const RETENTION_DAYS: u32 = 90;
    /// Rows of counts that are kept of one cluster.
    pub const ROWS_OF_CLUSTER: u64 = 500_000;
    /// Different calls that are kept of one cluster.
    pub const EDGES_OF_CLUSTER: u64 = 20_000;
    /// Different calls that are kept of one source of a cluster: who calls everything at every port takes no room of others.
    pub const EDGES_OF_SOURCE: u64 = 1_000;

    /// The calls that a filter wants with their counts since then, what was refused first, and the instant from which on they are counted.
    pub async fn list(
        &mut self,
        filter: &CallFilter,
    ) -> Result<(Vec<Calls>, Option<Timestamp>), StoreError> {
        let mut query = sqlx::QueryBuilder::<Db>::new(
            "SELECT e.body AS body, MIN(c.begin_at) AS begin_at, SUM(c.connections) AS connections, \
             SUM(c.requests) AS requests, SUM(c.bytes_to_destination) AS bytes_to_destination, \
             SUM(c.bytes_to_source) AS bytes_to_source, MIN(c.first_at) AS first_at, MAX(c.last_at) AS last_at, \
             MAX(c.sample) AS sample FROM mesh_counts c JOIN mesh_edges e ON e.id = c.edge WHERE c.cluster = ",
        );
        query.push_bind(filter.cluster.as_str().to_owned());
        if let Some(since) = filter.since {
            query.push(" AND c.last_at >= ").push_bind(key(since));
        }
        if let Some(verdict) = filter.verdict {
            query.push(" AND e.verdict = ").push_bind(verdict.as_str());
        }
        let only = filter.namespace.as_ref().map(std::slice::from_ref);
        for names in [only, filter.namespaces.as_deref()].into_iter().flatten() {
            query.push(" AND (1 = 0");
            for name in names.iter().filter(|name| !name.is_empty()) {
                query.push(" OR e.source_namespace = ").push_bind(name.clone());
                query.push(" OR e.destination_namespace = ").push_bind(name.clone());
            }
            query.push(")");
        }
        query.push(
            " GROUP BY e.id, e.body, e.verdict, e.source ORDER BY CASE e.verdict WHEN 'denied' THEN 0 \
             WHEN 'shadow-denied' THEN 1 WHEN 'failed' THEN 2 ELSE 3 END, e.source, e.id LIMIT ",
        );
        query.push_bind(i64::from(filter.limit));
        let rows = query.build().fetch_all(&mut *self.conn).await.during("read calls")?;
        let begun = rows.iter().map(|row| Columns::new(row, "call").integer("begin_at"));
        let begun = begun.collect::<Result<Vec<_>, _>>()?.into_iter().min();
        let from = begun.and_then(|second| Timestamp::from_second(second).ok());
        let calls = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok((calls, from))
    }

    /// How the telling of a cluster stands; none where it never told.
    pub async fn told(&mut self, cluster: &ClusterName) -> Result<Option<MeshTold>, StoreError> {
        let row = sqlx::query("SELECT * FROM mesh_told WHERE cluster = $1")
            .bind(cluster.as_str())
            .fetch_optional(&mut *self.conn)
            .await
            .during("read how a mesh is told of")?;
        let read = |row| {
            let columns = Columns::new(row, "telling of a mesh");
            Ok(MeshTold {
                told_at: columns.time("told_at")?,
                incomplete_at: columns.optional_time("incomplete_at")?,
                losses: MeshLosses {
                    flows: columns.count("lost_flows")?,
                    denials: columns.count("lost_denials")?,
                    unwritten_denials: columns.count("unwritten_denials")?,
                    disbelieved: columns.count("disbelieved")?,
                    folded: columns.count("folded")?,
                },
            })
        };
        row.as_ref().map(read).transpose()
    }
}

impl MeshMut<'_> {
    /// Adds calls to those known, each to the hour in which it was last seen. Gives how many were folded.
    pub async fn merge(
        &mut self,
        cluster: &ClusterName,
        calls: &[Calls],
    ) -> Result<u64, StoreError> {
        let mut room = Room { rows: None, edges: None };
        let mut folded = 0_u64;
        for it in calls {
            let hour = it.last.as_second().div_euclid(HOUR) * HOUR;
            let id = edge_id(cluster, &it.key)?;
            if self.add(&id, hour, HOUR, it).await? {
                continue;
            }
            let to = self.keep(cluster, &id, &it.key, &mut room).await?;
            if to.is_folded() {
                folded = folded.saturating_add(it.connections.max(it.requests));
            }
            let id = edge_id(cluster, &to)?;
            self.insert(cluster, &id, hour, it).await?;
        }
        Ok(folded)
    }

    /// Notes that a cluster told of its mesh, and what it could not tell.
    pub async fn note(
        &mut self,
        cluster: &ClusterName,
        losses: MeshLosses,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let MeshLosses { flows, denials, unwritten_denials, disbelieved, folded } = losses;
        let is_whole = [flows, denials, disbelieved, folded].iter().all(|count| *count == 0);
        let incomplete_at = (!is_whole).then(|| key(now));
        let before = self.told(cluster).await?.map(|told| told.losses).unwrap_or_default();
        let sum = |before: u64, more: u64| stored(before.saturating_add(more));
        sqlx::query(
            "INSERT INTO mesh_told (cluster, told_at, incomplete_at, lost_flows, lost_denials, unwritten_denials, \
             disbelieved, folded) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (cluster) DO UPDATE SET \
             told_at = excluded.told_at, incomplete_at = COALESCE(excluded.incomplete_at, mesh_told.incomplete_at), \
             lost_flows = excluded.lost_flows, lost_denials = excluded.lost_denials, \
             unwritten_denials = excluded.unwritten_denials, disbelieved = excluded.disbelieved, folded = excluded.folded",
        )
        .bind(cluster.as_str())
        .bind(key(now))
        .bind(incomplete_at)
        .bind(sum(before.flows, flows))
        .bind(sum(before.denials, denials))
        .bind(sum(before.unwritten_denials, unwritten_denials))
        .bind(sum(before.disbelieved, disbelieved))
        .bind(sum(before.folded, folded))
        .execute(self.conn())
        .await
        .during("note how a mesh is told of")?;
        Ok(())
    }

    /// Merges hours that are old into days, and forgets what is older than [`Mesh::RETENTION_DAYS`].
    pub async fn prune(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let keep = Ttl::from_secs(Mesh::RETENTION_DAYS * 86_400);
        let oldest = keep.before(now).as_second();
        let of_hours = KEEP_HOURS.before(now).as_second().div_euclid(DAY) * DAY;
        sqlx::query(
            "INSERT INTO mesh_counts (edge, cluster, begin_at, span, connections, requests, bytes_to_destination, \
             bytes_to_source, first_at, last_at, sample) \
             SELECT edge, cluster, begin_at - begin_at % $1, $1, \
             CASE WHEN SUM(connections) > $4 THEN $4 ELSE SUM(connections) END, \
             CASE WHEN SUM(requests) > $4 THEN $4 ELSE SUM(requests) END, \
             CASE WHEN SUM(bytes_to_destination) > $4 THEN $4 ELSE SUM(bytes_to_destination) END, \
             CASE WHEN SUM(bytes_to_source) > $4 THEN $4 ELSE SUM(bytes_to_source) END, MIN(first_at), MAX(last_at), MAX(sample) \
             FROM mesh_counts WHERE span = $2 AND begin_at < $3 GROUP BY edge, cluster, begin_at - begin_at % $1 \
             ON CONFLICT (edge, begin_at, span) DO UPDATE SET \
             connections = CASE WHEN mesh_counts.connections + excluded.connections > $4 THEN $4 \
             ELSE mesh_counts.connections + excluded.connections END, \
             requests = CASE WHEN mesh_counts.requests + excluded.requests > $4 THEN $4 \
             ELSE mesh_counts.requests + excluded.requests END, \
             bytes_to_destination = CASE WHEN mesh_counts.bytes_to_destination + excluded.bytes_to_destination > $4 THEN $4 \
             ELSE mesh_counts.bytes_to_destination + excluded.bytes_to_destination END, \
             bytes_to_source = CASE WHEN mesh_counts.bytes_to_source + excluded.bytes_to_source > $4 THEN $4 \
             ELSE mesh_counts.bytes_to_source + excluded.bytes_to_source END, \
             first_at = CASE WHEN excluded.first_at < mesh_counts.first_at THEN excluded.first_at ELSE mesh_counts.first_at END, \
             last_at = CASE WHEN excluded.last_at > mesh_counts.last_at THEN excluded.last_at ELSE mesh_counts.last_at END",
        )
        .bind(DAY)
        .bind(HOUR)
        .bind(of_hours)
        .bind(stored(COUNT_MAX))
        .execute(self.conn())
        .await
        .during("merge hours of calls into days")?;
        sqlx::query("DELETE FROM mesh_counts WHERE span = $1 AND begin_at < $2")
            .bind(HOUR)
            .bind(of_hours)
            .execute(self.conn())
            .await
            .during("forget hours of calls")?;
        let done = sqlx::query("DELETE FROM mesh_counts WHERE begin_at < $1")
            .bind(oldest - DAY)
            .execute(self.conn())
            .await
            .during("forget old calls")?;
        sqlx::query(
            "DELETE FROM mesh_edges WHERE NOT EXISTS (SELECT 1 FROM mesh_counts WHERE edge = id)",
        )
        .execute(self.conn())
        .await
        .during("forget calls that are gone")?;
        Ok(done.rows_affected())
    }

    /// Forgets all calls of a cluster.
    pub async fn forget(&mut self, cluster: &ClusterName) -> Result<u64, StoreError> {
        let mut gone = 0;
        for sql in [
            "DELETE FROM mesh_counts WHERE cluster = $1",
            "DELETE FROM mesh_edges WHERE cluster = $1",
            "DELETE FROM mesh_told WHERE cluster = $1",
        ] {
            let done = sqlx::query(sql).bind(cluster.as_str()).execute(self.conn()).await;
            gone += done.during("forget the calls of a cluster")?.rows_affected();
        }
        Ok(gone)
    }

    /// Adds to a row that is there; false where none is.
    async fn add(
        &mut self,
        edge: &str,
        begin: i64,
        span: i64,
        it: &Calls,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE mesh_counts SET \
             connections = CASE WHEN connections + $4 > $10 THEN $10 ELSE connections + $4 END, \
             requests = CASE WHEN requests + $5 > $10 THEN $10 ELSE requests + $5 END, \
             bytes_to_destination = CASE WHEN bytes_to_destination + $6 > $10 THEN $10 ELSE bytes_to_destination + $6 END, \
             bytes_to_source = CASE WHEN bytes_to_source + $7 > $10 THEN $10 ELSE bytes_to_source + $7 END, \
             sample = CASE WHEN $9 >= last_at THEN $11 ELSE sample END, \
             first_at = CASE WHEN $8 < first_at THEN $8 ELSE first_at END, \
             last_at = CASE WHEN $9 > last_at THEN $9 ELSE last_at END \
             WHERE edge = $1 AND begin_at = $2 AND span = $3",
        )
        .bind(edge)
        .bind(begin)
        .bind(span)
        .bind(bounded(it.connections))
        .bind(bounded(it.requests))
        .bind(bounded(it.bytes_to_destination))
        .bind(bounded(it.bytes_to_source))
        .bind(key(it.first))
        .bind(key(it.last))
        .bind(stored(COUNT_MAX))
        .bind(it.sample.as_str())
        .execute(self.conn())
        .await
        .during("merge calls")?;
        Ok(done.rows_affected() > 0)
    }

    async fn insert(
        &mut self,
        cluster: &ClusterName,
        edge: &str,
        begin: i64,
        it: &Calls,
    ) -> Result<(), StoreError> {
        // What is folded may be there already.
        if self.add(edge, begin, HOUR, it).await? {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO mesh_counts (edge, cluster, begin_at, span, connections, requests, bytes_to_destination, \
             bytes_to_source, first_at, last_at, sample) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(edge)
        .bind(cluster.as_str())
        .bind(begin)
        .bind(HOUR)
        .bind(bounded(it.connections))
        .bind(bounded(it.requests))
        .bind(bounded(it.bytes_to_destination))
        .bind(bounded(it.bytes_to_source))
        .bind(key(it.first))
        .bind(key(it.last))
        .bind(it.sample.as_str())
        .execute(self.conn())
        .await
        .during("write calls")?;
        Ok(())
    }

    /// Makes sure that an edge stands for calls, and gives which: their own while there is room.
    async fn keep(
        &mut self,
        cluster: &ClusterName,
        id: &str,
        wanted: &CallKey,
        room: &mut Room,
    ) -> Result<CallKey, StoreError> {
        let rows = match room.rows {
            Some(rows) => rows,
            None => {
                self.count(
                    "SELECT COUNT(*) AS n FROM mesh_counts WHERE cluster = $1",
                    cluster,
                    None,
                )
                .await?
            }
        };
        let is_known = self.is_known(id).await?;
        let edges = match room.edges {
            Some(edges) => edges,
            None => {
                self.count("SELECT COUNT(*) AS n FROM mesh_edges WHERE cluster = $1", cluster, None)
                    .await?
            }
        };
        *room = Room { rows: Some(rows.saturating_add(1)), edges: Some(edges) };
        if rows >= Mesh::ROWS_OF_CLUSTER || (!is_known && edges >= Mesh::EDGES_OF_CLUSTER) {
            return self.put(cluster, wanted.folded()).await;
        }
        if is_known {
            return Ok(wanted.clone());
        }
        let source = wanted.source.label();
        let of_source = "SELECT COUNT(*) AS n FROM mesh_edges WHERE cluster = $1 AND source = $2";
        if self.count(of_source, cluster, Some(&source)).await? >= Mesh::EDGES_OF_SOURCE {
            return self.put(cluster, wanted.folded_of_source()).await;
        }
        room.edges = Some(edges.saturating_add(1));
        self.put(cluster, wanted.clone()).await
    }

    async fn put(&mut self, cluster: &ClusterName, edge: CallKey) -> Result<CallKey, StoreError> {
        sqlx::query(
            "INSERT INTO mesh_edges (id, cluster, source, source_namespace, destination_namespace, verdict, body) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
        )
        .bind(edge_id(cluster, &edge)?)
        .bind(cluster.as_str())
        .bind(edge.source.label())
        .bind(edge.source.namespace.as_str())
        .bind(edge.destination.namespace.as_str())
        .bind(edge.verdict.as_str())
        .bind(json_text("call", &edge)?)
        .execute(self.conn())
        .await
        .during("write an edge of the service graph")?;
        Ok(edge)
    }

    async fn is_known(&mut self, id: &str) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM mesh_edges WHERE id = $1").bind(id);
        let row = row.fetch_optional(self.conn()).await;
        Ok(row.during("look up an edge of the service graph")?.is_some())
    }

    async fn count(
        &mut self,
        sql: &'static str,
        cluster: &ClusterName,
        source: Option<&str>,
    ) -> Result<u64, StoreError> {
        let mut query = sqlx::query(sql).bind(cluster.as_str());
        if let Some(source) = source {
            query = query.bind(source);
        }
        let row = query.fetch_one(self.conn()).await.during("count calls")?;
        Columns::new(&row, "call").count("n")
    }
}

/// How much a cluster has, counted once a merge.
struct Room {
    rows: Option<u64>,
    edges: Option<u64>,
}

fn bounded(count: u64) -> i64 {
    stored(count.min(COUNT_MAX))
}

/// A hash over cluster and key.
fn edge_id(cluster: &ClusterName, of: &CallKey) -> Result<String, StoreError> {
    let mut hash = Sha256::new();
    hash.update(b"nullius mesh edge 1\n");
    hash.update(cluster.as_str());
    hash.update(b"\n");
    hash.update(json_text("call", of)?);
    Ok(hex::encode(&hash.finalize()[..16]))
}

fn read(row: &Row) -> Result<Calls, StoreError> {
    let columns = Columns::new(row, "call");
    Ok(Calls {
        key: columns.json("body")?,
        connections: columns.count("connections")?,
        requests: columns.count("requests")?,
        bytes_to_destination: columns.count("bytes_to_destination")?,
        bytes_to_source: columns.count("bytes_to_source")?,
        first: columns.time("first_at")?,
        last: columns.time("last_at")?,
        sample: columns.text("sample")?,
    })
}
