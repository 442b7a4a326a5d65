//! Which numbered batch each agent told last, so that one that comes again is not counted twice.

use nullius_model::{ClusterName, InstanceId, Timestamp};

use crate::{
    StoreError,
    error::During as _,
    row::{Columns, key, repository, stored},
};

/// Instances of a cluster that are remembered; of more the oldest are forgotten.
const INSTANCES: u32 = 200;

repository! {
    /// Reads which batches agents told.
    Reports,
    /// Takes batches of agents.
    ReportsMut
}

/// What a numbered batch is to those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchTurn {
    /// It is to be counted; so many numbers before it never came.
    New { missing: u64 },
    /// It was counted before.
    Known,
    /// A newer connection of the same instance tells now.
    Stale,
}

impl Reports<'_> {
    /// How long the last number of an instance is remembered.
    pub const RETENTION_DAYS: u32 = 90;
}

impl ReportsMut<'_> {
    /// Begins a connection of an instance; false where a newer one is known.
    pub async fn begin(
        &mut self,
        cluster: &ClusterName,
        instance: &InstanceId,
        epoch: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if let Some((known, number)) = self.last(cluster, instance).await? {
            if known >= epoch {
                return Ok(false);
            }
            self.put(cluster, instance, epoch, number, now).await?;
            return Ok(true);
        }
        self.put(cluster, instance, epoch, 0, now).await?;
        self.forget_oldest(cluster).await?;
        Ok(true)
    }

    /// Takes a batch: the same transaction must hold all that is in it.
    pub async fn take(
        &mut self,
        cluster: &ClusterName,
        instance: &InstanceId,
        epoch: u64,
        number: u64,
        now: Timestamp,
    ) -> Result<BatchTurn, StoreError> {
        let Some((known, last)) = self.last(cluster, instance).await? else {
            return Ok(BatchTurn::Stale);
        };
        if known != epoch {
            return Ok(BatchTurn::Stale);
        }
        if number <= last {
            return Ok(BatchTurn::Known);
        }
        self.put(cluster, instance, epoch, number, now).await?;
        Ok(BatchTurn::New { missing: number - last - 1 })
    }

    async fn last(
        &mut self,
        cluster: &ClusterName,
        instance: &InstanceId,
    ) -> Result<Option<(u64, u64)>, StoreError> {
        let row = sqlx::query(
            "SELECT epoch, number FROM agent_reports WHERE cluster = $1 AND instance = $2",
        )
        .bind(cluster.as_str())
        .bind(instance.as_str())
        .fetch_optional(self.conn())
        .await
        .during("read what an agent told last")?;
        let read = |row| {
            let columns = Columns::new(row, "agent's report");
            Ok((columns.count("epoch")?, columns.count("number")?))
        };
        row.as_ref().map(read).transpose()
    }

    async fn put(
        &mut self,
        cluster: &ClusterName,
        instance: &InstanceId,
        epoch: u64,
        number: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO agent_reports (cluster, instance, epoch, number, heard_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (cluster, instance) DO UPDATE SET epoch = excluded.epoch, number = excluded.number, \
             heard_at = excluded.heard_at",
        )
        .bind(cluster.as_str())
        .bind(instance.as_str())
        .bind(stored(epoch))
        .bind(stored(number))
        .bind(key(now))
        .execute(self.conn())
        .await
        .during("note what an agent told")?;
        Ok(())
    }

    async fn forget_oldest(&mut self, cluster: &ClusterName) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM agent_reports WHERE cluster = $1 AND instance NOT IN \
             (SELECT instance FROM agent_reports WHERE cluster = $1 ORDER BY heard_at DESC, instance LIMIT $2)",
        )
        .bind(cluster.as_str())
        .bind(i64::from(INSTANCES))
        .execute(self.conn())
        .await
        .during("forget old agents")?;
        Ok(())
    }

    /// Forgets instances that told nothing since an instant; see [`Reports::RETENTION_DAYS`].
    pub async fn prune(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM agent_reports WHERE heard_at < $1")
            .bind(key(before))
            .execute(self.conn())
            .await
            .during("forget old agents")?;
        Ok(done.rows_affected())
    }
}
