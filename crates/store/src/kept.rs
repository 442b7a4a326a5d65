//! What clusters keep of other trust domains, as their agents told last.

use std::collections::BTreeMap;

use nullius_model::{ClusterName, Timestamp, TrustDomain};

use crate::{
    StoreError,
    error::During as _,
    row::{Columns, json_text, key},
    trust::{Trust, TrustMut},
};

/// What the agent of a cluster tells its nodes of other trust domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustKept {
    /// The cluster.
    pub cluster: ClusterName,
    /// The UID of its object: another one of its name is another cluster.
    pub uid: String,
    /// Digests of the bundles; none where the agent does not say.
    pub kept: Option<BTreeMap<TrustDomain, String>>,
    /// When it told last, give or take a minute.
    pub heard_at: Timestamp,
}

impl Trust<'_> {
    /// What a cluster keeps.
    pub async fn kept(&mut self, cluster: &ClusterName) -> Result<Option<TrustKept>, StoreError> {
        let row =
            sqlx::query("SELECT cluster, uid, kept, heard_at FROM trust_kept WHERE cluster = $1")
                .bind(cluster.as_str())
                .fetch_optional(&mut *self.conn)
                .await
                .during("read what a cluster keeps of other trust domains")?;
        let read = row.as_ref().map(|row| {
            let columns = Columns::new(row, "cluster's bundles of other trust domains");
            let kept = columns.optional_text("kept")?;
            Ok(TrustKept {
                cluster: columns.parsed("cluster")?,
                uid: columns.text("uid")?,
                kept: kept.map(|_| columns.json("kept")).transpose()?,
                heard_at: columns.time("heard_at")?,
            })
        });
        read.transpose()
    }
}

impl TrustMut<'_> {
    /// Notes what a cluster keeps.
    pub async fn put_kept(&mut self, kept: &TrustKept) -> Result<(), StoreError> {
        let what = "what a cluster keeps of other trust domains";
        let text = kept.kept.as_ref().map(|kept| json_text(what, kept)).transpose()?;
        sqlx::query(
            "INSERT INTO trust_kept (cluster, uid, kept, heard_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (cluster) DO UPDATE SET uid = excluded.uid, kept = excluded.kept, heard_at = excluded.heard_at",
        )
        .bind(kept.cluster.as_str())
        .bind(&kept.uid)
        .bind(text)
        .bind(key(kept.heard_at))
        .execute(&mut *self.reads.conn)
        .await
        .during("note what a cluster keeps of other trust domains")?;
        Ok(())
    }
}
