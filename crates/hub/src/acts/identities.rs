//! Who has which workload identity in a cluster, for those who may see its service graph: all of it, or the namespaces where they have
//! grants.

use nullius_api::{IdentityList, IdentityQuery};
use nullius_model::{ClusterName, Identity, Kind, ObjectName};

use super::mesh::GraphRefusal;
use crate::{
    Hub,
    clusters::identities::{Asked, read_place},
    record::Occasion,
};

/// Identities of one answer.
const PAGE: usize = 500;

impl Hub {
    /// The X.509-SVIDs of a cluster that are valid, a page of them.
    pub(crate) async fn list_identities(
        &self,
        identity: &Identity,
        cluster: &ClusterName,
        query: IdentityQuery,
        occasion: &Occasion,
    ) -> Result<IdentityList, GraphRefusal> {
        let namespaces = self.mesh_namespaces(identity, cluster, occasion).await?;
        let (now, snapshot) = (self.now(), self.snapshot());
        let name: Option<ObjectName> = cluster.as_str().parse().ok();
        let object = name.and_then(|name| snapshot.object(Kind::Cluster, &name));
        let uid = object.and_then(|it| it.metadata().uid.clone()).ok_or(GraphRefusal::NotForYou)?;
        let asked = Asked {
            namespaces: namespaces.as_deref(),
            namespace: query.namespace.as_ref().map(|it| it.as_str()),
            pod: query.pod.as_deref(),
            node: query.node.as_deref(),
            id: query.id.as_ref().map(|it| it.as_str()),
            after: query.after.as_deref().and_then(read_place),
            most: PAGE,
        };
        let page = self.clusters().identities.page(cluster, &uid, &asked, now);
        Ok(IdentityList {
            cluster: cluster.clone(),
            items: page.items,
            next: page.next,
            told_at: page.told_at,
            locked: snapshot.lock_on_cluster(cluster, now),
        })
    }
}
