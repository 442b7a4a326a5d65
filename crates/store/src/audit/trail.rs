//! Where the trail stands, and how events become rows: chained, several to a statement.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use nullius_audit::{
    Chain, ChainId, Checkpoint, Digest, Epoch, Facets, Head, SignedCheckpoint, Writer,
    canonical_json, fact,
};
use nullius_model::{AuditEvent, Timestamp};
use sqlx::AssertSqlSafe;

use super::{Position, SignError, Signer, StoredEntry};
use crate::{
    StoreError,
    error::During as _,
    row::{Columns, Connection, Db, stored},
};

const COLUMNS: [&str; 19] = [
    "position",
    "writer",
    "epoch",
    "seq",
    "prev_hash",
    "hash",
    "body",
    "at",
    "kind",
    "outcome",
    "user_name",
    "session",
    "cluster",
    "namespace",
    "resource",
    "subresource",
    "verb",
    "target",
    "audit_id",
];

/// Rows to a statement, the largest first; each has its text once, so that the driver prepares it once. More rows
/// would cost more: SQLite looks the name of each parameter up along a list of all of them.
static INSERTS: LazyLock<[(usize, Arc<str>); 3]> =
    LazyLock::new(|| [16, 4, 1].map(|rows| (rows, insert(rows).into())));

fn insert(rows: usize) -> String {
    // SQLite looks up a numbered placeholder by its name, one after the other; with this many, plain ones save a quarter
    // of the work. PostgreSQL wants them numbered.
    let row = format!("({})", ["?"; COLUMNS.len()].join(", "));
    let values = vec![row; rows].join(", ");
    format!("INSERT INTO audit_entries ({}) VALUES {values}", COLUMNS.join(", "))
}

/// An event as canonical JSON, with what of it is searched.
pub(crate) struct Encoded {
    body: String,
    facets: Facets,
}

impl Encoded {
    pub(crate) fn new(event: &AuditEvent) -> Result<Self, StoreError> {
        let body = canonical_json(event)
            .map_err(|error| StoreError::corrupt("audit event")(error.into()))?;
        Ok(Self { body, facets: Facets::of(event) })
    }

    /// Says in the event that its caller was told that it could not be written.
    pub(crate) fn mark_late(&mut self) {
        let Ok(mut event) = serde_json::from_str::<AuditEvent>(&self.body) else { return };
        let told = "the caller was told that the audit could not be written, and was refused";
        event.facts.insert(fact::WRITTEN_LATE.to_owned(), told.to_owned());
        if let Ok(body) = canonical_json(&event) {
            self.body = body;
        }
    }
}

/// Where the trail stands.
#[derive(Clone)]
pub(crate) struct Trail {
    chain: Chain,
    heads: BTreeMap<Writer, (Epoch, Head)>,
    last: Position,
    covered: Position,
    checkpoint: (u64, Digest),
}

impl Trail {
    /// Begins a new epoch of a writer behind everything that is there.
    pub(crate) async fn start(
        conn: &mut Connection,
        writer: Writer,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let id = ChainId { writer, epoch: Epoch(0) };
        let mut trail = Self {
            chain: Chain::genesis(id),
            heads: BTreeMap::new(),
            last: Position(0),
            covered: Position(0),
            checkpoint: (0, Digest::ZERO),
        };
        trail.load(conn).await?;
        let started = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let writer = trail.chain.id().writer.clone();
        trail.chain = match trail.heads.get(&writer) {
            None => Chain::genesis(ChainId { writer, epoch: Epoch(started) }),
            Some((previous, head)) => {
                let epoch = Epoch(started.max(previous.0.saturating_add(1)));
                Chain::following(ChainId { writer, epoch }, *head)
            }
        };
        Ok(trail)
    }

    /// Learns anew where the trail stands after a transaction whose end is not known.
    pub(crate) async fn reload(&mut self, conn: &mut Connection) -> Result<(), StoreError> {
        self.load(conn).await?;
        let id = self.chain.id().clone();
        self.chain = match self.heads.get(&id.writer) {
            None => Chain::genesis(id),
            Some((epoch, head)) if *epoch == id.epoch => Chain::resume(id, *head),
            Some((_, head)) => Chain::following(id, *head),
        };
        Ok(())
    }

    /// Reads the newest checkpoint and each writer's newest entry after it.
    async fn load(&mut self, conn: &mut Connection) -> Result<(), StoreError> {
        self.heads.clear();
        self.covered = Position(0);
        self.checkpoint = (0, Digest::ZERO);
        let row = sqlx::query(
            "SELECT seq, position, body, signature FROM audit_checkpoints ORDER BY seq DESC LIMIT 1",
        )
        .fetch_optional(&mut *conn)
        .await
        .during("read the newest audit checkpoint")?;
        if let Some(row) = row {
            let columns = Columns::new(&row, "audit checkpoint");
            let signed = SignedCheckpoint {
                body: columns.text("body")?,
                signature: columns.bytes("signature")?,
            };
            let checkpoint = signed.checkpoint().map_err(|error| columns.corrupt(error))?;
            self.covered = Position(columns.integer("position")?);
            self.checkpoint = (checkpoint.seq, signed.hash());
            for (chain, head) in checkpoint.heads {
                self.heads.insert(chain.writer, (chain.epoch, head));
            }
        }
        self.last = self.covered;
        let rows = sqlx::query(
            "SELECT position, writer, epoch, seq, hash FROM audit_entries WHERE position IN \
             (SELECT MAX(position) FROM audit_entries WHERE position > $1 GROUP BY writer) \
             ORDER BY position",
        )
        .bind(self.covered.0)
        .fetch_all(&mut *conn)
        .await
        .during("read the newest audit entries")?;
        for row in &rows {
            let columns = Columns::new(row, "audit entry");
            let head = Head { seq: columns.count("seq")?, hash: columns.parsed("hash")? };
            self.heads.insert(columns.parsed("writer")?, (Epoch(columns.count("epoch")?), head));
            self.last = Position(columns.integer("position")?);
        }
        Ok(())
    }

    /// Chains events and inserts their rows in the open transaction.
    pub(crate) async fn append<'e>(
        &mut self,
        conn: &mut Connection,
        events: impl ExactSizeIterator<Item = &'e Encoded> + Clone,
    ) -> Result<Vec<Arc<StoredEntry>>, StoreError> {
        let entries: Vec<Arc<StoredEntry>> = events
            .clone()
            .map(|event| {
                let record = self.chain.append_body(event.body.clone());
                self.last = Position(self.last.0.saturating_add(1));
                Arc::new(StoredEntry { position: self.last, record })
            })
            .collect();
        let id = self.chain.id();
        self.heads.insert(id.writer.clone(), (id.epoch, self.chain.head()));
        let mut rest = entries.iter().zip(events);
        while let Some((rows, sql)) = INSERTS.iter().find(|(rows, _)| *rows <= rest.len()) {
            let mut query = sqlx::query::<Db>(AssertSqlSafe(Arc::clone(sql)));
            for (entry, event) in rest.by_ref().take(*rows) {
                let (record, facets) = (&entry.record, &event.facets);
                query = query
                    .bind(entry.position.0)
                    .bind(record.chain.writer.as_str())
                    .bind(stored(record.chain.epoch.0))
                    .bind(stored(record.seq))
                    .bind(record.prev_hash.to_string())
                    .bind(record.hash.to_string())
                    .bind(record.body.as_str())
                    .bind(facets.at)
                    .bind(facets.kind)
                    .bind(facets.outcome)
                    .bind(facets.user.as_deref())
                    .bind(facets.session.as_deref())
                    .bind(facets.cluster.as_deref())
                    .bind(facets.namespace.as_deref())
                    .bind(facets.resource.as_deref())
                    .bind(facets.subresource.as_deref())
                    .bind(facets.verb.as_deref())
                    .bind(facets.target.as_deref())
                    .bind(facets.audit_id.as_str());
            }
            query.execute(&mut *conn).await.during("append to the audit")?;
        }
        Ok(entries)
    }

    /// Makes and signs the next checkpoint over all heads.
    pub(crate) fn sign_checkpoint(
        &self,
        now: Timestamp,
        signer: &Signer,
    ) -> Result<SignedCheckpoint, SignError> {
        let (seq, previous) = self.checkpoint;
        let heads = self.heads.iter().map(|(writer, (epoch, head))| {
            (ChainId { writer: writer.clone(), epoch: *epoch }, *head)
        });
        let checkpoint =
            Checkpoint { seq: seq.saturating_add(1), at: now, previous, heads: heads.collect() };
        SignedCheckpoint::sign(&checkpoint, |bytes| signer(bytes))
    }

    /// Inserts a checkpoint made by [`Self::sign_checkpoint`] in the open transaction; returns its number.
    pub(crate) async fn insert_checkpoint(
        &mut self,
        conn: &mut Connection,
        signed: &SignedCheckpoint,
    ) -> Result<u64, StoreError> {
        let seq = self.checkpoint.0.saturating_add(1);
        sqlx::query(
            "INSERT INTO audit_checkpoints (seq, position, body, signature) VALUES ($1, $2, $3, $4)",
        )
        .bind(stored(seq))
        .bind(self.last.0)
        .bind(signed.body.as_str())
        .bind(signed.signature.as_slice())
        .execute(conn)
        .await
        .during("store an audit checkpoint")?;
        self.checkpoint = (seq, signed.hash());
        self.covered = self.last;
        Ok(seq)
    }

    /// How many entries are newer than the newest checkpoint.
    pub(crate) fn uncovered(&self) -> u64 {
        u64::try_from(self.last.0.saturating_sub(self.covered.0)).unwrap_or(0)
    }

    /// What tells whether a commit happened: the newest entry and the newest checkpoint.
    pub(crate) fn heads(&self) -> (Head, u64) {
        (self.chain.head(), self.checkpoint.0)
    }

    pub(crate) fn last_position(&self) -> Position {
        self.last
    }

    pub(crate) fn last_checkpoint(&self) -> u64 {
        self.checkpoint.0
    }
}
