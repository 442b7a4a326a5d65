//! Uses of permissions, merged: one row for each (who, where, what, by which permission), with an exact count.

use std::collections::HashMap;

use nullius_model::{PermissionId, Plane, Timestamp, Use, UseKey};

use crate::{
    StoreError,
    error::During as _,
    row::{Columns, Db, Row, key, repository, stored},
};

repository! {
    /// Reads uses.
    Usage,
    /// Merges uses.
    UsageMut
}

/// Which uses somebody wants to see; an absent field matches all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UseFilter {
    /// Who, as [`nullius_model::Principal::label`].
    pub principal: Option<String>,
    /// Where: a cluster's name, or `hub`.
    pub cluster: Option<String>,
    /// By which permission.
    pub permission: Option<PermissionId>,
    /// Whether it was allowed.
    pub allowed: Option<bool>,
    /// Last seen at this instant or later.
    pub since: Option<Timestamp>,
    /// How many rows at most; 1,000 when absent.
    pub limit: Option<u32>,
}

impl Usage<'_> {
    /// How long a use is kept after it was last seen.
    pub const RETENTION_DAYS: u32 = 90;
    /// Different uses that are kept of one principal; what comes beyond is folded, see [`UseKey::folded`].
    pub const ROWS_OF_PRINCIPAL: u64 = 10_000;
    /// Different uses that are kept of what one cluster's agents told; see [`UseKey::folded_in_cluster`].
    pub const ROWS_OF_CLUSTER: u64 = 1_000_000;

    /// The uses that a filter wants, the newest first.
    pub async fn list(&mut self, filter: &UseFilter) -> Result<Vec<Use>, StoreError> {
        let mut query = sqlx::QueryBuilder::<Db>::new(
            "SELECT plane, principal, cluster, action, resource, allowed, permission, first_at, last_at, count, \
             sample FROM uses WHERE 1 = 1",
        );
        let texts = [
            (" AND principal = ", filter.principal.clone()),
            (" AND cluster = ", filter.cluster.clone()),
            (" AND permission = ", filter.permission.as_ref().map(ToString::to_string)),
        ];
        for (condition, text) in texts {
            if let Some(text) = text {
                query.push(condition).push_bind(text);
            }
        }
        if let Some(allowed) = filter.allowed {
            query.push(" AND allowed = ").push_bind(i64::from(allowed));
        }
        if let Some(since) = filter.since {
            query.push(" AND last_at >= ").push_bind(key(since));
        }
        query.push(" ORDER BY last_at DESC, principal, cluster, action, resource LIMIT ");
        query.push_bind(i64::from(filter.limit.unwrap_or(1_000)));
        let rows = query.build().fetch_all(&mut *self.conn).await.during("read uses")?;
        rows.iter().map(read).collect()
    }
}

impl UsageMut<'_> {
    /// Adds uses to those known: counts add up, the first stays first, the last and its sample are the newest.
    ///
    /// A principal that does too many different things gets no further rows: nobody fills the store by asking.
    pub async fn merge(&mut self, uses: &[Use]) -> Result<(), StoreError> {
        let mut rows: HashMap<&str, u64> = HashMap::new();
        let mut rows_in: HashMap<&str, u64> = HashMap::new();
        for it in uses {
            if self.is_known(&it.key).await? {
                self.add(&it.key, it).await?;
                continue;
            }
            if matches!(it.key.plane, Plane::Admission | Plane::Rbac | Plane::Mesh) {
                let cluster = it.key.cluster.as_str();
                let known = match rows_in.get(cluster) {
                    Some(known) => *known,
                    None => self.rows_in(cluster, it.key.plane).await?,
                };
                if known >= Usage::ROWS_OF_CLUSTER {
                    rows_in.insert(cluster, known);
                    self.add(&it.key.folded_in_cluster(), it).await?;
                    continue;
                }
                rows_in.insert(cluster, known + 1);
            }
            let principal = it.key.principal.as_str();
            let known = match rows.get(principal) {
                Some(known) => *known,
                None => self.rows_of(principal).await?,
            };
            if known < Usage::ROWS_OF_PRINCIPAL {
                rows.insert(principal, known + 1);
                self.add(&it.key, it).await?;
            } else {
                rows.insert(principal, known);
                self.add(&it.key.folded(), it).await?;
            }
        }
        Ok(())
    }

    async fn is_known(&mut self, key: &UseKey) -> Result<bool, StoreError> {
        let UseKey { plane, principal, cluster, action, resource, allowed, permission } = key;
        let row = sqlx::query(
            "SELECT 1 FROM uses WHERE cluster = $1 AND principal = $2 AND action = $3 AND resource = $4 \
             AND permission = $5 AND allowed = $6 AND plane = $7",
        )
        .bind(cluster.as_str())
        .bind(principal.as_str())
        .bind(action.as_str())
        .bind(resource.as_str())
        .bind(permission.as_ref().map_or("", |id| id.as_str()))
        .bind(i64::from(*allowed))
        .bind(plane.as_str())
        .fetch_optional(self.conn())
        .await
        .during("look up a use")?;
        Ok(row.is_some())
    }

    async fn rows_of(&mut self, principal: &str) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) AS rows FROM uses WHERE principal = $1")
            .bind(principal)
            .fetch_one(self.conn())
            .await
            .during("count uses")?;
        Columns::new(&row, "use").count("rows")
    }

    async fn rows_in(&mut self, cluster: &str, plane: Plane) -> Result<u64, StoreError> {
        let row =
            sqlx::query("SELECT COUNT(*) AS rows FROM uses WHERE cluster = $1 AND plane = $2")
                .bind(cluster)
                .bind(plane.as_str())
                .fetch_one(self.conn())
                .await
                .during("count the uses of a cluster")?;
        Columns::new(&row, "use").count("rows")
    }

    async fn add(&mut self, to: &UseKey, it: &Use) -> Result<(), StoreError> {
        let UseKey { plane, principal, cluster, action, resource, allowed, permission } = to;
        sqlx::query(
            "INSERT INTO uses (plane, principal, cluster, action, resource, allowed, permission, \
             first_at, last_at, count, sample) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
             ON CONFLICT (cluster, principal, action, resource, permission, allowed, plane) DO UPDATE SET \
             sample = CASE WHEN excluded.last_at >= uses.last_at THEN excluded.sample ELSE uses.sample END, \
             first_at = CASE WHEN excluded.first_at < uses.first_at THEN excluded.first_at ELSE uses.first_at END, \
             last_at = CASE WHEN excluded.last_at > uses.last_at THEN excluded.last_at ELSE uses.last_at END, \
             count = uses.count + excluded.count",
        )
        .bind(plane.as_str())
        .bind(principal.as_str())
        .bind(cluster.as_str())
        .bind(action.as_str())
        .bind(resource.as_str())
        .bind(i64::from(*allowed))
        .bind(permission.as_ref().map_or("", |id| id.as_str()))
        .bind(key(it.first))
        .bind(key(it.last))
        .bind(stored(it.count))
        .bind(it.sample.as_str())
        .execute(self.conn())
        .await
        .during("merge uses")?;
        Ok(())
    }

    /// Forgets uses last seen before an instant; see [`Usage::RETENTION_DAYS`].
    pub async fn prune(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM uses WHERE last_at < $1")
            .bind(key(before))
            .execute(self.conn())
            .await
            .during("forget old uses")?;
        Ok(done.rows_affected())
    }
}

fn read(row: &Row) -> Result<Use, StoreError> {
    let columns = Columns::new(row, "use");
    let permission = columns.text("permission")?;
    Ok(Use {
        key: UseKey {
            plane: columns.word("plane")?,
            principal: columns.text("principal")?,
            cluster: columns.text("cluster")?,
            action: columns.text("action")?,
            resource: columns.text("resource")?,
            allowed: columns.integer("allowed")? != 0,
            permission: match permission.as_str() {
                "" => None,
                id => Some(id.parse().map_err(|error| columns.corrupt(Box::new(error)))?),
            },
        },
        first: columns.time("first_at")?,
        last: columns.time("last_at")?,
        count: columns.count("count")?,
        sample: columns.parsed("sample")?,
    })
}
