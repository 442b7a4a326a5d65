//! What the hub knows of a cluster beside its spec: written when it joins and when agents come and go, completed
//! with what is true this moment when somebody reads it.

use nullius_model::{AnyObject, ClusterName, ClusterStatus, Kind};
use nullius_store::StoreError;

use crate::Hub;

impl Hub {
    /// Notes that an agent came or went.
    pub(super) async fn cluster_seen(&self, cluster: &ClusterName) {
        let now = self.now();
        let version = self.clusters().kubernetes_version(cluster);
        let noted = self.change_status(cluster, |status| {
            status.last_seen = Some(now);
            if version.is_some() {
                status.kubernetes_version = version;
            }
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, cluster = %cluster, "cannot note when a cluster was seen");
        }
    }

    /// Notes that a cluster joined.
    pub(super) async fn cluster_joined(&self, cluster: &ClusterName, issuer: &str) {
        let now = self.now();
        let noted = self.change_status(cluster, |status| {
            status.joined_at = Some(now);
            status.issuer = Some(issuer.to_owned());
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, cluster = %cluster, "cannot note that a cluster joined");
        }
    }

    /// The object as somebody reads it, with the agents that are connected now.
    pub(crate) fn with_live_status(&self, mut object: AnyObject) -> AnyObject {
        if let AnyObject::Cluster(cluster) = &mut object
            && let Ok(name) = cluster.metadata.name.as_str().parse::<ClusterName>()
        {
            let status = cluster.status.get_or_insert_with(ClusterStatus::default);
            status.agents_connected = self.clusters().agents_connected(&name);
            if status.agents_connected > 0 {
                status.last_seen = Some(self.now());
            }
        }
        object
    }

    async fn change_status(
        &self,
        cluster: &ClusterName,
        change: impl FnOnce(&mut ClusterStatus),
    ) -> Result<(), StoreError> {
        let mut tx = self.store().begin().await?;
        let found = tx.objects().find(Kind::Cluster, cluster.as_str()).await?;
        let Some(AnyObject::Cluster(mut object)) = found else { return Ok(()) };
        change(object.status.get_or_insert_with(ClusterStatus::default));
        tx.objects().set_status(&AnyObject::Cluster(object)).await?;
        tx.commit().await?;
        Ok(())
    }
}
