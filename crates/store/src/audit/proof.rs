//! The proof that the stored trail is whole: chain, checkpoints, and every column that searches go by.

use nullius_audit::{Facets, Location, Report, SignatureCheck, SignedCheckpoint, Verifier, Why};
use sqlx::Row as _;

use super::query::{read, read_checkpoint};
use crate::{
    Store, StoreError,
    error::During as _,
    row::{Columns, Connection, Row},
};

const PAGE: i64 = 1_000;

/// A verification that could not be carried out; says nothing about the trail.
#[derive(Debug, thiserror::Error)]
#[error("the audit could not be verified")]
pub struct VerifyError(#[from] StoreError);

impl Store {
    /// Reads the whole trail once and says whether it is intact.
    ///
    /// `check` judges the signatures of checkpoints; `anchors` are checkpoints kept elsewhere, which the trail must meet.
    pub async fn verify_audit(
        &self,
        check: &SignatureCheck<'_>,
        anchors: &[SignedCheckpoint],
    ) -> Result<Report, VerifyError> {
        let mut reader = self.read().await?;
        let mut proof = Proof {
            verifier: Verifier::new(check, anchors),
            checkpoints: Checkpoints::default(),
            position: 0,
            awaited: None,
        };
        proof.feed_checkpoints(reader.audit().conn).await?;
        loop {
            let conn = reader.audit().conn;
            let rows = page(conn, proof.position).await?;
            for row in &rows {
                if !proof.take(row) {
                    return Ok(proof.verifier.finish());
                }
                proof.feed_checkpoints(conn).await?;
            }
            if rows.is_empty() {
                return Ok(proof.verifier.finish());
            }
        }
    }
}

struct Proof<'a> {
    verifier: Verifier<'a>,
    checkpoints: Checkpoints,
    position: i64,
    /// The place that the current checkpoint's row names.
    awaited: Option<(u64, i64)>,
}

#[derive(Default)]
struct Checkpoints {
    seq: i64,
    page: std::collections::VecDeque<Row>,
    exhausted: bool,
}

async fn page(conn: &mut Connection, after: i64) -> Result<Vec<Row>, StoreError> {
    sqlx::query(
        "SELECT position, writer, epoch, seq, prev_hash, hash, body, at, kind, outcome, user_name, session, \
         cluster, namespace, resource, subresource, verb, target, audit_id FROM audit_entries \
         WHERE position > $1 ORDER BY position LIMIT $2",
    )
    .bind(after)
    .bind(PAGE)
    .fetch_all(conn)
    .await
    .during("read the audit")
}

impl Proof<'_> {
    /// Takes a row; `false` when reading on makes no sense.
    fn take(&mut self, row: &Row) -> bool {
        let expected = self.position.saturating_add(1);
        let Ok(entry) = read(row) else {
            self.verifier.fault(Location::Row { position: expected }, Why::Unreadable);
            return false;
        };
        self.position = entry.position.0;
        self.verifier.record(&entry.record);
        if self.verifier.has_fault() {
            return true;
        }
        if entry.position.0 != expected {
            self.verifier.fault_at(&entry.record, Why::IndexEdited { column: "position" });
        } else if let Some(column) = edited_column(row, &entry.record.body) {
            self.verifier.fault_at(&entry.record, Why::IndexEdited { column });
        }
        if self.verifier.wants_checkpoint()
            && let Some((seq, position)) = self.awaited.take()
            && position != entry.position.0
        {
            let at = Location::Checkpoint { seq };
            self.verifier.fault(at, Why::IndexEdited { column: "position" });
        }
        true
    }

    async fn feed_checkpoints(&mut self, conn: &mut Connection) -> Result<(), StoreError> {
        while self.verifier.wants_checkpoint() && !self.verifier.has_fault() {
            let Some(row) = self.checkpoints.next(conn).await? else { return Ok(()) };
            let columns = Columns::new(&row, "audit checkpoint");
            let place =
                columns.count("seq").and_then(|seq| Ok((seq, columns.integer("position")?)));
            let (Ok((seq, position)), Ok(signed)) = (place, read_checkpoint(&row)) else {
                let seq = u64::try_from(self.checkpoints.seq).unwrap_or_default();
                self.verifier.fault(Location::Checkpoint { seq }, Why::Unreadable);
                return Ok(());
            };
            self.verifier.checkpoint(&signed);
            if signed.checkpoint().is_ok_and(|checkpoint| checkpoint.seq != seq) {
                self.verifier.fault(Location::Checkpoint { seq }, Why::CheckpointUnlinked);
            }
            if !self.verifier.wants_checkpoint() {
                self.awaited = Some((seq, position));
            }
        }
        Ok(())
    }
}

impl Checkpoints {
    async fn next(&mut self, conn: &mut Connection) -> Result<Option<Row>, StoreError> {
        if self.page.is_empty() && !self.exhausted {
            let rows = sqlx::query(
                "SELECT seq, position, body, signature FROM audit_checkpoints WHERE seq > $1 \
                 ORDER BY seq LIMIT $2",
            )
            .bind(self.seq)
            .bind(PAGE)
            .fetch_all(conn)
            .await
            .during("read audit checkpoints")?;
            self.exhausted = rows.is_empty();
            self.page = rows.into();
        }
        let Some(row) = self.page.pop_front() else { return Ok(None) };
        // A number that cannot be read ends the reading with a fault in any case.
        self.seq = row.try_get("seq").unwrap_or(i64::MAX);
        Ok(Some(row))
    }
}

/// The first column that says something else than the event does.
fn edited_column(row: &Row, body: &str) -> Option<&'static str> {
    let Ok(facets) = body.parse::<Facets>() else { return Some("body") };
    let columns = Columns::new(row, "audit entry");
    if columns.integer("at").ok() != Some(facets.at) {
        return Some("at");
    }
    let texts = [
        ("kind", Some(facets.kind)),
        ("outcome", Some(facets.outcome)),
        ("user_name", facets.user.as_deref()),
        ("session", facets.session.as_deref()),
        ("cluster", facets.cluster.as_deref()),
        ("namespace", facets.namespace.as_deref()),
        ("resource", facets.resource.as_deref()),
        ("subresource", facets.subresource.as_deref()),
        ("verb", facets.verb.as_deref()),
        ("target", facets.target.as_deref()),
        ("audit_id", Some(facets.audit_id.as_str())),
    ];
    let differs = |(column, expected): &(&'static str, Option<&str>)| {
        columns.optional_text(column).is_ok_and(|found| found.as_deref() == *expected)
    };
    texts.iter().find(|it| !differs(it)).map(|(column, _)| *column)
}
