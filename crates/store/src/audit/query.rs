//! Reading the trail: by filter, newest first, page by page; by place; and its checkpoints.

use nullius_audit::{ChainId, Epoch, Filter, Record, SignedCheckpoint, time_key};

use super::{Position, StoredEntry};
use crate::{
    StoreError,
    error::During as _,
    row::{Columns, Connection, Db, Row, stored},
};

/// Reads the audit trail.
pub struct Audit<'c> {
    pub(crate) conn: &'c mut Connection,
}

/// Some entries, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The entries.
    pub entries: Vec<StoredEntry>,
    /// Where the next page begins: hand it to [`Audit::list`] as `before`. `None` when there is no more.
    pub next: Option<Position>,
}

impl Audit<'_> {
    /// The entries that a filter wants, newest first, older than `before`.
    pub async fn list(
        &mut self,
        filter: &Filter,
        before: Option<Position>,
    ) -> Result<Page, StoreError> {
        let limit = usize::try_from(filter.limit()).unwrap_or(usize::MAX);
        let mut query = select_where(filter);
        if let Some(before) = before {
            query.push(" AND position < ").push_bind(before.0);
        }
        query.push(" ORDER BY position DESC LIMIT ").push_bind(i64::from(filter.limit()) + 1);
        let rows = query.build().fetch_all(&mut *self.conn).await.during("search the audit")?;
        let mut entries = rows.iter().take(limit).map(read).collect::<Result<Vec<_>, _>>()?;
        let more = rows.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| more).map(|entry| entry.position);
        Ok(Page { entries, next })
    }

    /// The entry at a place.
    pub async fn find(&mut self, position: Position) -> Result<Option<StoredEntry>, StoreError> {
        let found = self.after(Position(position.0.saturating_sub(1)), 1).await?;
        Ok(found.into_iter().find(|entry| entry.position == position))
    }

    /// Up to `limit` entries after a place, oldest first.
    pub async fn after(
        &mut self,
        position: Position,
        limit: u32,
    ) -> Result<Vec<StoredEntry>, StoreError> {
        let rows = sqlx::query(
            "SELECT position, writer, epoch, seq, prev_hash, hash, body FROM audit_entries \
             WHERE position > $1 ORDER BY position LIMIT $2",
        )
        .bind(position.0)
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .during("read the audit")?;
        rows.iter().map(read).collect()
    }

    /// The place of the newest entry; 0 when there is none.
    pub async fn head(&mut self) -> Result<Position, StoreError> {
        let row = sqlx::query("SELECT MAX(position) AS position FROM audit_entries")
            .fetch_one(&mut *self.conn)
            .await
            .during("find the end of the audit")?;
        let head = Columns::new(&row, "audit entry").optional_integer("position")?;
        Ok(Position(head.unwrap_or(0)))
    }

    /// Up to `limit` checkpoints after a number, oldest first.
    pub async fn checkpoints_after(
        &mut self,
        seq: u64,
        limit: u32,
    ) -> Result<Vec<SignedCheckpoint>, StoreError> {
        let rows = sqlx::query(
            "SELECT body, signature FROM audit_checkpoints WHERE seq > $1 ORDER BY seq LIMIT $2",
        )
        .bind(stored(seq))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .during("read audit checkpoints")?;
        rows.iter().map(read_checkpoint).collect()
    }

    /// The newest checkpoint, to be kept elsewhere as an anchor.
    pub async fn newest_checkpoint(&mut self) -> Result<Option<SignedCheckpoint>, StoreError> {
        let row =
            sqlx::query("SELECT body, signature FROM audit_checkpoints ORDER BY seq DESC LIMIT 1")
                .fetch_optional(&mut *self.conn)
                .await
                .during("read the newest audit checkpoint")?;
        row.as_ref().map(read_checkpoint).transpose()
    }
}

/// The filter as SQL; the same as [`Filter::matches`], which a test holds it to.
fn select_where(filter: &Filter) -> sqlx::QueryBuilder<Db> {
    let mut query = sqlx::QueryBuilder::new(
        "SELECT position, writer, epoch, seq, prev_hash, hash, body FROM audit_entries WHERE 1 = 1",
    );
    let (resource, subresource) = filter.resource_parts();
    let texts = [
        (" AND user_name = ", filter.user.as_deref()),
        (" AND kind = ", filter.kind.map(|kind| kind.as_str())),
        (" AND outcome = ", filter.outcome.map(|outcome| outcome.as_str())),
        (" AND cluster = ", filter.cluster.as_deref()),
        (" AND session = ", filter.session.as_deref()),
        (" AND namespace = ", filter.namespace.as_deref()),
        (" AND resource = ", resource),
        (" AND subresource = ", subresource),
        (" AND verb = ", filter.verb.as_deref()),
        (" AND target = ", filter.target.as_deref()),
        (" AND audit_id = ", filter.audit_id.as_ref().map(|id| id.as_str())),
    ];
    for (condition, text) in texts {
        if let Some(text) = text {
            query.push(condition).push_bind(text.to_owned());
        }
    }
    if let Some(since) = filter.since {
        query.push(" AND at >= ").push_bind(time_key(since));
    }
    if let Some(until) = filter.until {
        query.push(" AND at < ").push_bind(time_key(until));
    }
    query
}

pub(crate) fn read(row: &Row) -> Result<StoredEntry, StoreError> {
    let columns = Columns::new(row, "audit entry");
    Ok(StoredEntry {
        position: Position(columns.integer("position")?),
        record: Record {
            chain: ChainId {
                writer: columns.parsed("writer")?,
                epoch: Epoch(columns.count("epoch")?),
            },
            seq: columns.count("seq")?,
            prev_hash: columns.parsed("prev_hash")?,
            hash: columns.parsed("hash")?,
            body: columns.text("body")?,
        },
    })
}

pub(crate) fn read_checkpoint(row: &Row) -> Result<SignedCheckpoint, StoreError> {
    let columns = Columns::new(row, "audit checkpoint");
    Ok(SignedCheckpoint { body: columns.text("body")?, signature: columns.bytes("signature")? })
}
