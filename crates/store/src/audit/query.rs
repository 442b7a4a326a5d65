//! Reading the trail: by filter, newest first, page by page; by place; and its checkpoints.

use nullius_audit::{ChainId, Epoch, Filter, Record, SignedCheckpoint, time_key};
use nullius_model::{AuditKind, AuditOutcome};

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
        let mut query = page(filter, before);
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

/// One page of what a filter wants.
fn page(filter: &Filter, before: Option<Position>) -> sqlx::QueryBuilder<Db> {
    let mut query = select_where(filter);
    if let Some(before) = before {
        query.push(" AND position < ").push_bind(before.0);
    }
    query.push(" ORDER BY position DESC LIMIT ").push_bind(i64::from(filter.limit()) + 1);
    query
}

/// The filter as SQL; the same as [`Filter::matches`], which a test holds it to.
///
/// One condition is driven by its index, which gives the entries newest first; the others are written so that no index
/// takes them up, since SQLite would guess which is narrow. Time becomes a bound of the position, whatever the clock did.
fn select_where(filter: &Filter) -> sqlx::QueryBuilder<Db> {
    let mut query = sqlx::QueryBuilder::new(
        "SELECT position, writer, epoch, seq, prev_hash, hash, body FROM audit_entries WHERE 1 = 1",
    );
    let (resource, subresource) = filter.resource_parts();
    let kind = filter.kind.map(AuditKind::as_str);
    let outcome = filter.outcome.map(AuditOutcome::as_str);
    // From the narrowest to the widest, as far as that can be said of any trail.
    let conditions = [
        ("audit_id", filter.audit_id.as_ref().map(|id| id.as_str()), Driven::ByIndex),
        ("session", filter.session.as_deref(), Driven::ByIndex),
        ("target", filter.target.as_deref(), Driven::ByIndex),
        ("kind", kind, Driven::Unless("kube-request")),
        ("subresource", subresource, Driven::ByIndex),
        ("user_name", filter.user.as_deref(), Driven::ByIndex),
        ("namespace", filter.namespace.as_deref(), Driven::ByIndex),
        ("resource", resource, Driven::ByIndex),
        ("outcome", outcome, Driven::Unless("done")),
        ("verb", filter.verb.as_deref(), Driven::ByIndex),
        ("cluster", filter.cluster.as_deref(), Driven::ByIndex),
    ];
    let mut free = true;
    for (column, text, driven) in conditions {
        let Some(text) = text else { continue };
        let by_index = match driven {
            Driven::ByIndex => free,
            Driven::Unless(most) => free && text != most,
        };
        if by_index {
            free = false;
            query.push(format!(" AND {column} = ")).push_bind(text.to_owned());
            if let Driven::Unless(most) = driven {
                // The words of the index itself, or it is not taken.
                query.push(format!(" AND {column} <> '{most}'"));
            }
        } else {
            query.push(format!(" AND ({column} || '') = ")).push_bind(text.to_owned());
        }
    }
    // The plus signs keep SQLite from going along positions in search of the first or last that fits.
    for (bound, end, at) in [(">=", "MIN", filter.since), ("<", "MAX", filter.until)] {
        let Some(at) = at.map(time_key) else { continue };
        let reach = if end == "MIN" { ">=" } else { "<=" };
        query.push(format!(" AND +at {bound} ")).push_bind(at);
        query
            .push(format!(
                " AND position {reach} (SELECT {end}(+position) FROM audit_entries WHERE at {bound} "
            ))
            .push_bind(at)
            .push(")");
    }
    query
}

/// When a condition may be the one that an index drives.
#[derive(Clone, Copy)]
enum Driven {
    /// Always.
    ByIndex,
    /// Unless it asks for this word, which most entries have and the index leaves out.
    Unless(&'static str),
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

#[cfg(test)]
mod tests;
