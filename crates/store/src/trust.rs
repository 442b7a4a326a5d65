//! What the hub knows of the authorities of clusters' workloads beside what it certified: how they stand, and who had them replaced.

use nullius_model::{
    AuthorityStage, ClusterName, CommandId, RotationMode, RotationProgress, Timestamp, TrustDomain,
};
use serde::{Deserialize, Serialize};

use crate::{
    StoreError,
    error::During as _,
    row::{Columns, Row, json_text, key, repository, stored},
};

/// Rotations of a cluster that are remembered.
const ROTATIONS: i64 = 20;

repository! {
    /// Reads how authorities of workloads stand.
    Trust,
    /// Changes how authorities of workloads stand.
    TrustMut
}

/// How the authority of a cluster stands, as its agent told last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustStanding {
    /// The cluster.
    pub cluster: ClusterName,
    /// The UID of its object: another one of its name is another cluster.
    pub uid: String,
    /// What it speaks for.
    pub trust_domain: TrustDomain,
    /// The number of the step, and of the bundle.
    pub sequence: u64,
    /// What was told and verified.
    pub told: ToldTrust,
    /// When it was told first.
    pub told_at: Timestamp,
}

/// What an agent told of its authorities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldTrust {
    /// When the step began by the cluster's clock.
    pub since: Timestamp,
    /// The authorities, what signs first.
    pub authorities: Vec<ToldAuthority>,
    /// The bundle of the trust domain, SPIFFE's JSON; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// Who wished for another authority, and whose wish was fulfilled last.
    pub wish: String,
    pub rotated: String,
}

/// One authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldAuthority {
    /// Where it is on its way.
    pub stage: AuthorityStage,
    /// Serial number of what the workload root signed, hexadecimal; empty while it has not.
    pub serial: String,
    /// Id of the key that signs tokens beside it.
    pub jwt_key: String,
}

/// A rotation that somebody ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustRotation {
    /// Its id, which the order has too.
    pub id: CommandId,
    /// The cluster.
    pub cluster: ClusterName,
    /// The UID of its object.
    pub uid: String,
    /// What becomes of the authority that signed.
    pub mode: RotationMode,
    /// Why, in somebody's words.
    pub reason: String,
    /// Who ordered it.
    pub ordered_by: String,
    /// When.
    pub ordered_at: Timestamp,
    /// Not given to the cluster any more after this.
    pub take_until: Timestamp,
    /// How far it is.
    pub progress: RotationProgress,
    /// Since when.
    pub changed_at: Timestamp,
}

impl Trust<'_> {
    /// How the authority of a cluster stands.
    pub async fn standing(
        &mut self,
        cluster: &ClusterName,
    ) -> Result<Option<TrustStanding>, StoreError> {
        let row = sqlx::query(
            "SELECT cluster, uid, trust_domain, sequence, standing, told_at FROM trust_standings WHERE cluster = $1",
        )
        .bind(cluster.as_str())
        .fetch_optional(&mut *self.conn)
        .await
        .during("read how an authority stands")?;
        row.as_ref().map(read_standing).transpose()
    }

    /// How the authority stands that speaks for a trust domain.
    pub async fn standing_for(
        &mut self,
        domain: &TrustDomain,
    ) -> Result<Option<TrustStanding>, StoreError> {
        let row = sqlx::query(
            "SELECT cluster, uid, trust_domain, sequence, standing, told_at FROM trust_standings \
             WHERE trust_domain = $1 ORDER BY told_at DESC LIMIT 1",
        )
        .bind(domain.as_str())
        .fetch_optional(&mut *self.conn)
        .await
        .during("read how an authority stands")?;
        row.as_ref().map(read_standing).transpose()
    }

    /// The rotations of a cluster, the last one first.
    pub async fn rotations(
        &mut self,
        cluster: &ClusterName,
    ) -> Result<Vec<TrustRotation>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, cluster, uid, mode, reason, ordered_by, ordered_at, take_until, progress, changed_at \
             FROM trust_rotations WHERE cluster = $1 ORDER BY ordered_at DESC, id",
        )
        .bind(cluster.as_str())
        .fetch_all(&mut *self.conn)
        .await
        .during("read the rotations of an authority")?;
        rows.iter().map(read_rotation).collect()
    }
}

impl TrustMut<'_> {
    /// Keeps how an authority stands.
    pub async fn put_standing(&mut self, standing: &TrustStanding) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO trust_standings (cluster, uid, trust_domain, sequence, standing, told_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (cluster) DO UPDATE SET uid = excluded.uid, \
             trust_domain = excluded.trust_domain, sequence = excluded.sequence, standing = excluded.standing, \
             told_at = excluded.told_at",
        )
        .bind(standing.cluster.as_str())
        .bind(&standing.uid)
        .bind(standing.trust_domain.as_str())
        .bind(stored(standing.sequence))
        .bind(json_text("how an authority stands", &standing.told)?)
        .bind(key(standing.told_at))
        .execute(self.conn())
        .await
        .during("note how an authority stands")?;
        Ok(())
    }

    /// Keeps a rotation; of those of its cluster the oldest are forgotten.
    pub async fn put_rotation(&mut self, rotation: &TrustRotation) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO trust_rotations (id, cluster, uid, mode, reason, ordered_by, ordered_at, take_until, progress, changed_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
             ON CONFLICT (id) DO UPDATE SET progress = excluded.progress, changed_at = excluded.changed_at",
        )
        .bind(rotation.id.as_str())
        .bind(rotation.cluster.as_str())
        .bind(&rotation.uid)
        .bind(rotation.mode.as_str())
        .bind(&rotation.reason)
        .bind(&rotation.ordered_by)
        .bind(key(rotation.ordered_at))
        .bind(key(rotation.take_until))
        .bind(rotation.progress.as_str())
        .bind(key(rotation.changed_at))
        .execute(self.conn())
        .await
        .during("note a rotation of an authority")?;
        sqlx::query(
            "DELETE FROM trust_rotations WHERE cluster = $1 AND id NOT IN (SELECT id FROM trust_rotations \
             WHERE cluster = $1 ORDER BY ordered_at DESC, id LIMIT $2)",
        )
        .bind(rotation.cluster.as_str())
        .bind(ROTATIONS)
        .execute(self.conn())
        .await
        .during("forget old rotations of an authority")?;
        Ok(())
    }

    /// Forgets a cluster that is no more.
    pub async fn forget(&mut self, cluster: &ClusterName) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM trust_standings WHERE cluster = $1",
            "DELETE FROM trust_rotations WHERE cluster = $1",
            "DELETE FROM trust_kept WHERE cluster = $1",
        ] {
            sqlx::query(statement)
                .bind(cluster.as_str())
                .execute(self.conn())
                .await
                .during("forget a cluster's authority")?;
        }
        Ok(())
    }
}

fn read_standing(row: &Row) -> Result<TrustStanding, StoreError> {
    let columns = Columns::new(row, "cluster's trust");
    Ok(TrustStanding {
        cluster: columns.parsed("cluster")?,
        uid: columns.text("uid")?,
        trust_domain: columns.parsed("trust_domain")?,
        sequence: columns.count("sequence")?,
        told: columns.json("standing")?,
        told_at: columns.time("told_at")?,
    })
}

fn read_rotation(row: &Row) -> Result<TrustRotation, StoreError> {
    let columns = Columns::new(row, "rotation of an authority");
    Ok(TrustRotation {
        id: columns.parsed("id")?,
        cluster: columns.parsed("cluster")?,
        uid: columns.text("uid")?,
        mode: columns.word("mode")?,
        reason: columns.text("reason")?,
        ordered_by: columns.text("ordered_by")?,
        ordered_at: columns.time("ordered_at")?,
        take_until: columns.time("take_until")?,
        progress: columns.word("progress")?,
        changed_at: columns.time("changed_at")?,
    })
}
