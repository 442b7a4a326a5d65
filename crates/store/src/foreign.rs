//! Bundles of trust domains of somebody else, as they were fetched last.

use nullius_model::{Timestamp, TrustDomain};

use crate::{
    StoreError,
    error::During as _,
    row::{Columns, key},
    trust::{Trust, TrustMut},
};

/// What came last of the bundle of another trust domain, for one `Federation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignBundle {
    /// The name of the object.
    pub federation: String,
    /// Its UID: another one of its name is another federation.
    pub uid: String,
    /// Whose it is; what was fetched for another counts no more.
    pub trust_domain: TrustDomain,
    /// Which bundle the object gave then, by its digest; empty where it gave none.
    pub given: String,
    /// The last that could be used, SPIFFE's JSON.
    pub bundle: Option<String>,
    /// The digest of the last that was refused though its server was the right one; empty where none was.
    pub refused: String,
    /// When that which counts was fetched, or was seen to be still the one.
    pub fetched_at: Option<Timestamp>,
    /// Why none came at the last try.
    pub failure: Option<String>,
    /// Since when none comes.
    pub failing_since: Option<Timestamp>,
}

impl Trust<'_> {
    /// What was fetched for a federation.
    pub async fn foreign(&mut self, federation: &str) -> Result<Option<ForeignBundle>, StoreError> {
        let row = sqlx::query(
            "SELECT federation, uid, trust_domain, given, bundle, refused, fetched_at, failure, failing_since \
             FROM foreign_bundles WHERE federation = $1",
        )
        .bind(federation)
        .fetch_optional(&mut *self.conn)
        .await
        .during("read the bundle of another trust domain")?;
        let read = row.as_ref().map(|row| {
            let columns = Columns::new(row, "bundle of another trust domain");
            Ok(ForeignBundle {
                federation: columns.text("federation")?,
                uid: columns.text("uid")?,
                trust_domain: columns.parsed("trust_domain")?,
                given: columns.text("given")?,
                bundle: columns.optional_text("bundle")?,
                refused: columns.text("refused")?,
                fetched_at: columns.optional_time("fetched_at")?,
                failure: columns.optional_text("failure")?,
                failing_since: columns.optional_time("failing_since")?,
            })
        });
        read.transpose()
    }
}

impl TrustMut<'_> {
    /// Keeps what was fetched for a federation.
    pub async fn put_foreign(&mut self, bundle: &ForeignBundle) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO foreign_bundles (federation, uid, trust_domain, given, bundle, refused, fetched_at, failure, failing_since) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (federation) DO UPDATE SET uid = excluded.uid, \
             trust_domain = excluded.trust_domain, given = excluded.given, bundle = excluded.bundle, \
             refused = excluded.refused, fetched_at = excluded.fetched_at, \
             failure = excluded.failure, failing_since = excluded.failing_since",
        )
        .bind(&bundle.federation)
        .bind(&bundle.uid)
        .bind(bundle.trust_domain.as_str())
        .bind(&bundle.given)
        .bind(&bundle.bundle)
        .bind(&bundle.refused)
        .bind(bundle.fetched_at.map(key))
        .bind(&bundle.failure)
        .bind(bundle.failing_since.map(key))
        .execute(&mut *self.reads.conn)
        .await
        .during("note the bundle of another trust domain")?;
        Ok(())
    }

    /// Forgets what was fetched for a federation that is no more.
    pub async fn forget_foreign(&mut self, federation: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM foreign_bundles WHERE federation = $1")
            .bind(federation)
            .execute(&mut *self.reads.conn)
            .await
            .during("forget the bundle of another trust domain")?;
        Ok(())
    }
}
