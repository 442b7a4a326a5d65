//! What the hub keeps about clusters beside their objects: issuer keys from the join, and which sessions have
//! credentials where, so that a flush survives a crash of either side.

use std::collections::BTreeMap;

use nullius_model::{ClusterName, SessionId, Timestamp, TrustDomain};
use serde::{Deserialize, Serialize};

use crate::{
    StoreError,
    error::During as _,
    row::{Columns, Row, json_text, key, repository, stored},
};

macro_rules! provisioned {
    ($tail:literal) => {
        concat!(
            "SELECT session, cluster, generation, state, uids, changed_at FROM provisioned_sessions ",
            $tail
        )
    };
}

repository! {
    /// Reads trust in clusters and provisioned sessions.
    Clusters,
    /// Changes trust in clusters and provisioned sessions.
    ClustersMut
}

/// Whose ServiceAccount tokens the hub believes for a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTrust {
    /// The cluster.
    pub cluster: ClusterName,
    /// The issuer of its ServiceAccount tokens.
    pub issuer: String,
    /// Its keys, a JWK set as JSON.
    pub jwks: String,
    /// Where its agents run, as it declared when it joined.
    pub shape: AgentShape,
    /// When it joined.
    pub registered_at: Timestamp,
    /// When the keys last changed.
    pub changed_at: Timestamp,
}

/// Where a cluster's agents run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentShape {
    /// In pods of the cluster: their tokens are bound to these.
    InCluster,
    /// As a process beside a kubeconfig, which has no pod.
    Beside,
}

impl AgentShape {
    fn as_str(self) -> &'static str {
        match self {
            Self::InCluster => "in-cluster",
            Self::Beside => "beside",
        }
    }
}

/// Where a session's credentials in a cluster stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProvisionState {
    /// The agent was asked, or is about to be; objects may exist.
    Requested,
    /// The agent made them and named their UIDs.
    Ready,
    /// They must go; the agent has not yet said that they are gone.
    Flushing,
}

impl ProvisionState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Ready => "ready",
            Self::Flushing => "flushing",
        }
    }
}

/// A session's credentials in a cluster; the record goes when the agent has said that they are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioned {
    /// The session.
    pub session: SessionId,
    /// The cluster.
    pub cluster: ClusterName,
    /// The generation of the plan that was asked for.
    pub generation: u64,
    /// Where they stand.
    pub state: ProvisionState,
    /// UIDs of the objects made, by `Kind/namespace/name`.
    pub uids: BTreeMap<String, String>,
    /// When this last changed.
    pub changed_at: Timestamp,
}

/// An authority that was certified for a cluster's workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedAuthority {
    /// Serial number of its certificate, hexadecimal.
    pub serial: String,
    /// The cluster.
    pub cluster: ClusterName,
    /// What it speaks for.
    pub trust_domain: TrustDomain,
    /// SHA-256 of its key, hexadecimal.
    pub key_digest: String,
    /// When it was certified.
    pub certified_at: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

impl Clusters<'_> {
    /// The authorities of a cluster that have not ended, and the last one that was certified; the newest first.
    pub async fn authorities(
        &mut self,
        cluster: &ClusterName,
    ) -> Result<Vec<CertifiedAuthority>, StoreError> {
        let rows = sqlx::query(
            "SELECT serial, cluster, trust_domain, key_digest, certified_at, not_after \
             FROM workload_authorities WHERE cluster = $1 ORDER BY certified_at DESC, serial",
        )
        .bind(cluster.as_str())
        .fetch_all(&mut *self.conn)
        .await
        .during("read a cluster's authorities")?;
        rows.iter().map(read_authority).collect()
    }

    /// Authorities for a trust domain that have not ended, of whatever cluster, also one that is no more; the last to end first.
    pub async fn authorities_for(
        &mut self,
        domain: &TrustDomain,
        now: Timestamp,
    ) -> Result<Vec<CertifiedAuthority>, StoreError> {
        let rows = sqlx::query(
            "SELECT serial, cluster, trust_domain, key_digest, certified_at, not_after \
             FROM workload_authorities WHERE trust_domain = $1 AND not_after > $2 ORDER BY not_after DESC, serial",
        )
        .bind(domain.as_str())
        .bind(key(now))
        .fetch_all(&mut *self.conn)
        .await
        .during("read a trust domain's authorities")?;
        rows.iter().map(read_authority).collect()
    }

    /// The trust in a cluster, if it joined.
    pub async fn trust(
        &mut self,
        cluster: &ClusterName,
    ) -> Result<Option<ClusterTrust>, StoreError> {
        let row = sqlx::query(
            "SELECT cluster, issuer, jwks, shape, registered_at, changed_at FROM cluster_trust WHERE cluster = $1",
        )
        .bind(cluster.as_str())
        .fetch_optional(&mut *self.conn)
        .await
        .during("read a cluster's keys")?;
        row.as_ref().map(read_trust).transpose()
    }

    /// The trust in all clusters that joined.
    pub async fn all_trust(&mut self) -> Result<Vec<ClusterTrust>, StoreError> {
        let rows = sqlx::query(
            "SELECT cluster, issuer, jwks, shape, registered_at, changed_at FROM cluster_trust ORDER BY cluster",
        )
        .fetch_all(&mut *self.conn)
        .await
        .during("read the keys of clusters")?;
        rows.iter().map(read_trust).collect()
    }

    /// A session's credentials in a cluster.
    pub async fn provisioned(
        &mut self,
        session: &SessionId,
        cluster: &ClusterName,
    ) -> Result<Option<Provisioned>, StoreError> {
        let row = sqlx::query(provisioned!("WHERE session = $1 AND cluster = $2"))
            .bind(session.as_str())
            .bind(cluster.as_str())
            .fetch_optional(&mut *self.conn)
            .await
            .during("read a session's credentials")?;
        row.as_ref().map(read_provisioned).transpose()
    }

    /// All credentials of a session, in all clusters.
    pub async fn provisioned_of(
        &mut self,
        session: &SessionId,
    ) -> Result<Vec<Provisioned>, StoreError> {
        let rows = sqlx::query(provisioned!("WHERE session = $1 ORDER BY cluster"))
            .bind(session.as_str())
            .fetch_all(&mut *self.conn)
            .await
            .during("read a session's credentials")?;
        rows.iter().map(read_provisioned).collect()
    }

    /// All credentials in a cluster.
    pub async fn provisioned_in(
        &mut self,
        cluster: &ClusterName,
    ) -> Result<Vec<Provisioned>, StoreError> {
        let rows = sqlx::query(provisioned!("WHERE cluster = $1 ORDER BY session"))
            .bind(cluster.as_str())
            .fetch_all(&mut *self.conn)
            .await
            .during("read the credentials in a cluster")?;
        rows.iter().map(read_provisioned).collect()
    }

    /// All credentials that must go and are not known to be gone, in all clusters.
    pub async fn pending_flushes(&mut self) -> Result<Vec<Provisioned>, StoreError> {
        let rows = sqlx::query(provisioned!("WHERE state = $1 ORDER BY cluster, session"))
            .bind(ProvisionState::Flushing.as_str())
            .fetch_all(&mut *self.conn)
            .await
            .during("read pending flushes")?;
        rows.iter().map(read_provisioned).collect()
    }
}

impl ClustersMut<'_> {
    /// Registers issuer and keys of a cluster, in place of those before.
    pub async fn put_trust(
        &mut self,
        cluster: &ClusterName,
        issuer: &str,
        jwks: &str,
        shape: AgentShape,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO cluster_trust (cluster, issuer, jwks, shape, registered_at, changed_at) \
             VALUES ($1, $2, $3, $4, $5, $5) \
             ON CONFLICT (cluster) DO UPDATE SET issuer = excluded.issuer, jwks = excluded.jwks, \
             shape = excluded.shape, changed_at = excluded.changed_at",
        )
        .bind(cluster.as_str())
        .bind(issuer)
        .bind(jwks)
        .bind(shape.as_str())
        .bind(key(now))
        .execute(self.conn())
        .await
        .during("register a cluster's keys")?;
        Ok(())
    }

    /// Notes that an authority was certified, and forgets those that have ended by then. What a cluster had that is no more stays
    /// until then: its authority is as valid as before.
    pub async fn put_authority(
        &mut self,
        authority: &CertifiedAuthority,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM workload_authorities WHERE not_after < $1")
            .bind(key(authority.certified_at))
            .execute(self.conn())
            .await
            .during("forget authorities that have ended")?;
        sqlx::query(
            "INSERT INTO workload_authorities (serial, cluster, trust_domain, key_digest, certified_at, not_after) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&authority.serial)
        .bind(authority.cluster.as_str())
        .bind(authority.trust_domain.as_str())
        .bind(&authority.key_digest)
        .bind(key(authority.certified_at))
        .bind(key(authority.not_after))
        .execute(self.conn())
        .await
        .during("note a cluster's authority")?;
        Ok(())
    }

    /// Ends the trust in a cluster.
    pub async fn delete_trust(&mut self, cluster: &ClusterName) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM cluster_trust WHERE cluster = $1")
            .bind(cluster.as_str())
            .execute(self.conn())
            .await
            .during("delete a cluster's keys")?;
        Ok(())
    }

    /// Notes, before the agent is asked, that a session is to have credentials; `None` when they are being flushed.
    pub async fn request_provision(
        &mut self,
        session: &SessionId,
        cluster: &ClusterName,
        generation: u64,
        now: Timestamp,
    ) -> Result<Option<Provisioned>, StoreError> {
        let row = sqlx::query(
            "INSERT INTO provisioned_sessions (session, cluster, generation, state, uids, changed_at) \
             VALUES ($1, $2, $3, 'requested', '{}', $4) \
             ON CONFLICT (session, cluster) DO UPDATE SET generation = excluded.generation, \
             state = excluded.state, changed_at = excluded.changed_at \
             WHERE provisioned_sessions.state <> 'flushing' \
             AND provisioned_sessions.generation <= excluded.generation \
             RETURNING session, cluster, generation, state, uids, changed_at",
        )
        .bind(session.as_str())
        .bind(cluster.as_str())
        .bind(stored(generation))
        .bind(key(now))
        .fetch_optional(self.conn())
        .await
        .during("request a session's credentials")?;
        row.as_ref().map(read_provisioned).transpose()
    }

    /// Notes what the agent made for a generation; `None` when a newer one was asked for or they are being flushed.
    ///
    /// UIDs are added to those known, so that a late answer never hides what a flush must remove.
    pub async fn provision_ready(
        &mut self,
        session: &SessionId,
        cluster: &ClusterName,
        generation: u64,
        uids: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Option<Provisioned>, StoreError> {
        let Some(mut known) = self.provisioned(session, cluster).await? else { return Ok(None) };
        known.uids.extend(uids.iter().map(|(name, uid)| (name.clone(), uid.clone())));
        let current = known.generation == generation && known.state != ProvisionState::Flushing;
        if current {
            known.state = ProvisionState::Ready;
        }
        known.changed_at = now;
        sqlx::query(
            "UPDATE provisioned_sessions SET state = $1, uids = $2, changed_at = $3 \
             WHERE session = $4 AND cluster = $5",
        )
        .bind(known.state.as_str())
        .bind(json_text("session's credentials", &known.uids)?)
        .bind(key(now))
        .bind(session.as_str())
        .bind(cluster.as_str())
        .execute(self.conn())
        .await
        .during("note a session's credentials")?;
        Ok(current.then_some(known))
    }

    /// Notes that all credentials of a session must go, and returns them.
    pub async fn begin_flush(
        &mut self,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<Vec<Provisioned>, StoreError> {
        sqlx::query(
            "UPDATE provisioned_sessions SET state = 'flushing', changed_at = $1 \
             WHERE session = $2 AND state <> 'flushing'",
        )
        .bind(key(now))
        .bind(session.as_str())
        .execute(self.conn())
        .await
        .during("begin a flush")?;
        self.provisioned_of(session).await
    }

    /// Notes that a session's credentials in one cluster must go; `None` when there are none.
    pub async fn begin_flush_in(
        &mut self,
        session: &SessionId,
        cluster: &ClusterName,
        now: Timestamp,
    ) -> Result<Option<Provisioned>, StoreError> {
        sqlx::query(
            "UPDATE provisioned_sessions SET state = 'flushing', changed_at = $1 \
             WHERE session = $2 AND cluster = $3 AND state <> 'flushing'",
        )
        .bind(key(now))
        .bind(session.as_str())
        .bind(cluster.as_str())
        .execute(self.conn())
        .await
        .during("begin a flush")?;
        self.provisioned(session, cluster).await
    }

    /// Forgets a session's credentials in a cluster: the agent has said that they are gone. Returns the record.
    pub async fn flushed(
        &mut self,
        session: &SessionId,
        cluster: &ClusterName,
    ) -> Result<Option<Provisioned>, StoreError> {
        let row = sqlx::query(
            "DELETE FROM provisioned_sessions WHERE session = $1 AND cluster = $2 AND state = 'flushing' \
             RETURNING session, cluster, generation, state, uids, changed_at",
        )
        .bind(session.as_str())
        .bind(cluster.as_str())
        .fetch_optional(self.conn())
        .await
        .during("finish a flush")?;
        row.as_ref().map(read_provisioned).transpose()
    }

    /// Forgets everything provisioned in a cluster that is no more.
    pub async fn forget_provisioned(&mut self, cluster: &ClusterName) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM provisioned_sessions WHERE cluster = $1")
            .bind(cluster.as_str())
            .execute(self.conn())
            .await
            .during("forget the credentials in a cluster")?;
        Ok(done.rows_affected())
    }
}

fn read_trust(row: &Row) -> Result<ClusterTrust, StoreError> {
    let columns = Columns::new(row, "cluster's keys");
    Ok(ClusterTrust {
        cluster: columns.parsed("cluster")?,
        issuer: columns.text("issuer")?,
        jwks: columns.text("jwks")?,
        shape: columns.word("shape")?,
        registered_at: columns.time("registered_at")?,
        changed_at: columns.time("changed_at")?,
    })
}

fn read_authority(row: &Row) -> Result<CertifiedAuthority, StoreError> {
    let columns = Columns::new(row, "cluster's authority");
    Ok(CertifiedAuthority {
        serial: columns.text("serial")?,
        cluster: columns.parsed("cluster")?,
        trust_domain: columns.parsed("trust_domain")?,
        key_digest: columns.text("key_digest")?,
        certified_at: columns.time("certified_at")?,
        not_after: columns.time("not_after")?,
    })
}

fn read_provisioned(row: &Row) -> Result<Provisioned, StoreError> {
    let columns = Columns::new(row, "session's credentials");
    Ok(Provisioned {
        session: columns.parsed("session")?,
        cluster: columns.parsed("cluster")?,
        generation: columns.count("generation")?,
        state: columns.word("state")?,
        uids: columns.json("uids")?,
        changed_at: columns.time("changed_at")?,
    })
}
