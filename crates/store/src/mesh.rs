//! Calls between workloads, merged over hours, and over days once they are older: what the service graph is drawn of.
//!
//! A cluster has a bounded part of the store. Its namespaces share it ([`CallKey::payer`]): who has as many calls as would be left for others has no
//! new ones, and a source has a bounded part of its namespace's. What comes beyond is folded, with its counts and, as long as there is room, its
//! namespaces; and whoever asks is told that something is not known. What is known counts on, whoever else comes.

use std::collections::HashMap;

use nullius_model::{
    CallKey, Calls, ClusterName, MeshVerdict, PartyKind, Timestamp, Ttl, has_share,
};
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
/// Edges of a cluster beside those of [`Mesh::EDGES_OF_CLUSTER`], that stand for others of their namespaces.
const FOLDED_OF_CLUSTER: u64 = 2_000;
/// Edges of one source until ports at which nothing is decided are told apart no more.
const PORTS_OF_SOURCE: u64 = 250;

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
    /// Rows of counts that are kept of one cluster; beyond that an edge has no new hours, and counts on in its last one.
    pub const ROWS_OF_CLUSTER: u64 = 500_000;
    /// Different calls that are kept of one cluster.
    pub const EDGES_OF_CLUSTER: u64 = 20_000;
    /// Different calls that are kept of one source of a cluster.
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
             MAX(c.sample) AS sample FROM ",
        );
        let only = filter.namespace.as_ref().map(std::slice::from_ref);
        let narrow: Vec<_> = [only, filter.namespaces.as_deref()].into_iter().flatten().collect();
        // Who asks for some namespaces reads no counts of others.
        query.push(match narrow.is_empty() {
            true => "mesh_counts c JOIN mesh_edges e",
            false => "mesh_edges e CROSS JOIN mesh_counts c",
        });
        query.push(" ON e.id = c.edge WHERE c.cluster = ");
        query.push_bind(filter.cluster.as_str().to_owned());
        if let Some(since) = filter.since {
            query.push(" AND c.last_at >= ").push_bind(key(since));
        }
        if let Some(verdict) = filter.verdict {
            query.push(" AND e.verdict = ").push_bind(verdict.as_str());
        }
        for names in narrow {
            query.push(" AND e.id IN (");
            for (number, column) in ["source_namespace", "destination_namespace"].iter().enumerate()
            {
                query.push(if number == 0 { "" } else { " UNION " });
                query.push("SELECT id FROM mesh_edges WHERE cluster = ");
                query.push_bind(filter.cluster.as_str().to_owned());
                query.push(format!(" AND {column} IN ("));
                let mut list = query.separated(", ");
                names.iter().filter(|name| !name.is_empty()).for_each(|name| {
                    list.push_bind(name.clone());
                });
                query.push(")");
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
        self.merge_within(cluster, calls, Mesh::ROWS_OF_CLUSTER).await
    }

    /// The same with room for so many rows of the cluster.
    async fn merge_within(
        &mut self,
        cluster: &ClusterName,
        calls: &[Calls],
        rows: u64,
    ) -> Result<u64, StoreError> {
        let mut room = Room { most_rows: rows, ..Room::default() };
        let mut folded = 0_u64;
        for it in calls {
            let kept = self.merge_one(cluster, it, &mut room).await?;
            if kept.is_folded() {
                folded = folded.saturating_add(it.connections.max(it.requests));
            }
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
             bytes_to_source, first_at, last_at, payer, sample) \
             SELECT edge, cluster, begin_at - begin_at % $1, $1, \
             CASE WHEN SUM(connections) > $4 THEN $4 ELSE SUM(connections) END, \
             CASE WHEN SUM(requests) > $4 THEN $4 ELSE SUM(requests) END, \
             CASE WHEN SUM(bytes_to_destination) > $4 THEN $4 ELSE SUM(bytes_to_destination) END, \
             CASE WHEN SUM(bytes_to_source) > $4 THEN $4 ELSE SUM(bytes_to_source) END, MIN(first_at), MAX(last_at), MAX(payer), MAX(sample) \
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

    /// Adds to the last row of an edge; false where it has none.
    async fn add_to_last(&mut self, edge: &str, it: &Calls) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT begin_at, span FROM mesh_counts WHERE edge = $1 ORDER BY begin_at DESC, span LIMIT 1",
        )
        .bind(edge)
        .fetch_optional(self.conn())
        .await
        .during("look up calls")?;
        let Some(row) = row else { return Ok(false) };
        let columns = Columns::new(&row, "call");
        let (begin, span) = (columns.integer("begin_at")?, columns.integer("span")?);
        self.add(edge, begin, span, it).await
    }

    async fn insert(
        &mut self,
        cluster: &ClusterName,
        edge: &str,
        payer: &str,
        begin: i64,
        it: &Calls,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO mesh_counts (edge, cluster, begin_at, span, connections, requests, bytes_to_destination, \
             bytes_to_source, first_at, last_at, sample, payer) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
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
        .bind(payer)
        .execute(self.conn())
        .await
        .during("write calls")?;
        Ok(())
    }

    /// Adds calls to the first edge that can stand for them: their own while there is room. Gives which.
    async fn merge_one(
        &mut self,
        cluster: &ClusterName,
        it: &Calls,
        room: &mut Room,
    ) -> Result<CallKey, StoreError> {
        let hour = it.last.as_second().div_euclid(HOUR) * HOUR;
        for (stands, wanted) in ways(&it.key) {
            let id = edge_id(cluster, &wanted)?;
            if self.add(&id, hour, HOUR, it).await? {
                return Ok(wanted);
            }
            let payer = wanted.payer();
            self.count_room(cluster, &payer, room).await?;
            if self.is_known(&id).await? {
                if !room.has_row(&payer) && self.add_to_last(&id, it).await? {
                    return Ok(wanted);
                }
            } else if self.may_begin(cluster, &wanted, stands, room).await? {
                self.put(cluster, &wanted).await?;
                room.edge(&payer);
            } else {
                continue;
            }
            self.insert(cluster, &id, &payer, hour, it).await?;
            room.row(&payer);
            return Ok(wanted);
        }
        // The last way is always open.
        Ok(it.key.folded())
    }

    /// Whether there is room for an edge that is new.
    async fn may_begin(
        &mut self,
        cluster: &ClusterName,
        wanted: &CallKey,
        stands: Stands,
        room: &Room,
    ) -> Result<bool, StoreError> {
        let payer = wanted.payer();
        let most = match stands {
            Stands::Port => PORTS_OF_SOURCE,
            Stands::Itself => Mesh::EDGES_OF_SOURCE,
            Stands::Source => return Ok(room.has_edge(&payer)),
            Stands::Namespaces => {
                return Ok(room.edges.count < Mesh::EDGES_OF_CLUSTER + FOLDED_OF_CLUSTER);
            }
            Stands::All => return Ok(true),
        };
        if !room.has_edge(&payer) {
            return Ok(false);
        }
        let of_source = "SELECT COUNT(*) AS n FROM mesh_edges WHERE cluster = $1 AND payer = $2 AND source = $3";
        let source = wanted.source.label();
        Ok(self.count(of_source, &[cluster.as_str(), &payer, &source]).await? < most)
    }

    /// Counts once a merge what a cluster has, and what of it is somebody's.
    async fn count_room(
        &mut self,
        cluster: &ClusterName,
        payer: &str,
        room: &mut Room,
    ) -> Result<(), StoreError> {
        const ALL: [&str; 2] = [
            "SELECT COUNT(*) AS n FROM mesh_edges WHERE cluster = $1",
            "SELECT COUNT(*) AS n FROM mesh_counts WHERE cluster = $1",
        ];
        const OF_ONE: [&str; 2] = [
            "SELECT COUNT(*) AS n FROM mesh_edges WHERE cluster = $1 AND payer = $2",
            "SELECT COUNT(*) AS n FROM mesh_counts WHERE cluster = $1 AND payer = $2",
        ];
        for ((used, all), of_one) in
            [&mut room.edges, &mut room.rows].into_iter().zip(ALL).zip(OF_ONE)
        {
            if !used.is_counted {
                (used.count, used.is_counted) = (self.count(all, &[cluster.as_str()]).await?, true);
            }
            if !used.of.contains_key(payer) {
                let own = self.count(of_one, &[cluster.as_str(), payer]).await?;
                used.of.insert(payer.to_owned(), own);
            }
        }
        Ok(())
    }

    async fn put(&mut self, cluster: &ClusterName, edge: &CallKey) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO mesh_edges (id, cluster, source, source_namespace, destination_namespace, verdict, body, payer) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(edge_id(cluster, edge)?)
        .bind(cluster.as_str())
        .bind(edge.source.label())
        .bind(edge.source.namespace.as_str())
        .bind(edge.destination.namespace.as_str())
        .bind(edge.verdict.as_str())
        .bind(json_text("call", edge)?)
        .bind(edge.payer())
        .execute(self.conn())
        .await
        .during("write an edge of the service graph")?;
        Ok(())
    }

    async fn is_known(&mut self, id: &str) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM mesh_edges WHERE id = $1").bind(id);
        let row = row.fetch_optional(self.conn()).await;
        Ok(row.during("look up an edge of the service graph")?.is_some())
    }

    async fn count(&mut self, sql: &'static str, of: &[&str]) -> Result<u64, StoreError> {
        let mut query = sqlx::query(sql);
        for name in of {
            query = query.bind(*name);
        }
        let row = query.fetch_one(self.conn()).await.during("count calls")?;
        Columns::new(&row, "call").count("n")
    }
}

/// What an edge stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// Calls at one port, of which there may be very many: nobody need answer.
    Port,
    Itself,
    Source,
    Namespaces,
    All,
}

/// The edges that can stand for calls, the most exact first.
fn ways(wanted: &CallKey) -> Vec<(Stands, CallKey)> {
    let is_of_ports =
        wanted.destination.kind == PartyKind::Outside || wanted.verdict == MeshVerdict::Failed;
    let mut ways = match is_of_ports {
        true => vec![(Stands::Port, wanted.clone()), (Stands::Itself, wanted.at_any_port())],
        false => vec![(Stands::Itself, wanted.clone())],
    };
    ways.extend([
        (Stands::Source, wanted.folded_of_source()),
        (Stands::Namespaces, wanted.folded_in_namespaces()),
        (Stands::All, wanted.folded()),
    ]);
    ways
}

/// How much a cluster has, counted once a merge.
#[derive(Debug, Default)]
struct Room {
    most_rows: u64,
    rows: Used,
    edges: Used,
}

#[derive(Debug, Default)]
struct Used {
    count: u64,
    is_counted: bool,
    of: HashMap<String, u64>,
}

impl Room {
    fn has_row(&self, payer: &str) -> bool {
        self.rows.has_one(payer, self.most_rows)
    }

    fn has_edge(&self, payer: &str) -> bool {
        self.edges.has_one(payer, Mesh::EDGES_OF_CLUSTER)
    }

    fn row(&mut self, payer: &str) {
        self.rows.add(payer);
    }

    fn edge(&mut self, payer: &str) {
        self.edges.add(payer);
    }
}

impl Used {
    /// Whether there is one more for somebody.
    fn has_one(&self, payer: &str, most: u64) -> bool {
        let own = self.of.get(payer).copied().unwrap_or_default();
        let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        has_share(number(own.saturating_add(1)), number(self.count), number(most))
    }

    fn add(&mut self, payer: &str) {
        self.count = self.count.saturating_add(1);
        if let Some(own) = self.of.get_mut(payer) {
            *own = own.saturating_add(1);
        }
    }
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

#[cfg(test)]
mod tests;
