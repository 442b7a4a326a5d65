//! What the hub knows of a cluster beside its spec: written when it joins and when agents come and go, completed
//! with what is true this moment when somebody reads it.

use std::sync::Arc;

use nullius_model::{
    AnyObject, Ceiling, ClusterCondition, ClusterName, ClusterStatus, ConditionStatus, Kind,
};
use nullius_store::StoreError;

use super::{commands::AgentState, seen::Write};
use crate::{Hub, lock::lock};

impl Hub {
    /// Notes that an agent came or went: at once, or together with what follows soon.
    pub(super) async fn cluster_seen(self: &Arc<Self>, cluster: &ClusterName) {
        let what = lock(&self.clusters().seen).take(cluster, self.now());
        match what {
            Write::Now => self.write_seen(cluster).await,
            Write::Never => {}
            Write::After(wait) => {
                let (hub, cluster) = (Arc::downgrade(self), cluster.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    let Some(hub) = hub.upgrade() else { return };
                    lock(&hub.clusters().seen).settle(&cluster, hub.now());
                    hub.write_seen(&cluster).await;
                });
            }
        }
    }

    async fn write_seen(&self, cluster: &ClusterName) {
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
            let reachable = self.clusters().is_reachable(&name);
            let state = self.clusters().state_of(&name);
            status.conditions = conditions(&name, &cluster.spec.ceiling, reachable, state);
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

/// What is true of a cluster this moment, from what its agents said.
fn conditions(
    cluster: &ClusterName,
    ceiling: &Ceiling,
    reachable: bool,
    state: Option<AgentState>,
) -> Vec<ClusterCondition> {
    use ConditionStatus::{False, True, Unknown};
    let condition = |kind: &str, status, reason: &str, message: String| ClusterCondition {
        kind: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message,
    };
    let reachable = match (reachable, &state) {
        (true, _) => {
            condition("Reachable", True, "TunnelStands", "requests have a way".to_owned())
        }
        (false, None) => condition("Reachable", False, "NoAgent", "no agent is connected; see `kubectl -n nullius-system get pods` in the cluster".to_owned()),
        (false, Some(_)) => condition("Reachable", False, "NoTunnel", "`agent control` is connected but no `agent proxy`, so requests have no way; see `kubectl -n nullius-system get pods` in the cluster".to_owned()),
    };
    let nobody_says = || "no `agent control` is connected that could say".to_owned();
    let guarded = match state.as_ref().map(|state| &state.unguarded) {
        Some(None) => condition(
            "Guarded",
            True,
            "PoliciesRefuse",
            "the admission policies of the join manifest are in force".to_owned(),
        ),
        Some(Some(why)) => condition("Guarded", False, "PolicyMissing", why.clone()),
        None => condition("Guarded", Unknown, "NoAgent", nobody_says()),
    };
    let ceiling = match state.map(|state| state.ceiling) {
        None => condition("CeilingAsSpecified", Unknown, "NoAgent", nobody_says()),
        Some(real) => match ceiling_differs(cluster, ceiling, real.as_deref()) {
            None => condition(
                "CeilingAsSpecified",
                True,
                "Same",
                format!("the ceiling is `{}`", ceiling.cluster_role()),
            ),
            Some(why) => condition("CeilingAsSpecified", False, "Differs", why),
        },
    };
    vec![reachable, guarded, ceiling]
}

/// Why the ceiling that stands in the cluster is not the one of its object, where it is not.
fn ceiling_differs(cluster: &ClusterName, wanted: &Ceiling, real: Option<&str>) -> Option<String> {
    let wanted = wanted.cluster_role();
    match real {
        Some(real) if real == wanted => None,
        Some(real) => Some(format!(
            "the ceiling in cluster `{cluster}` is `{real}`, its object says `{wanted}`: Kubernetes does not let a \
             binding change its role, so run `kubectl delete clusterrolebinding nullius:ceiling` there and apply the \
             join manifest again, or `nullius edit cluster {cluster}`"
        )),
        None => Some(format!(
            "cluster `{cluster}` has no ceiling: its binding `nullius:ceiling` is gone or binds somebody else; apply \
             the join manifest again"
        )),
    }
}

/// Why no session is made in a cluster: it allows more than its object says. Less, Kubernetes itself refuses.
pub(super) fn ceiling_refusal(
    cluster: &ClusterName,
    wanted: &Ceiling,
    real: Option<&str>,
) -> Option<String> {
    const KNOWN: [&str; 4] = ["view", "edit", "admin", "cluster-admin"];
    let rank = |name: &str| KNOWN.iter().position(|known| *known == name);
    let is_lower = real.is_none_or(|real| {
        rank(real).zip(rank(wanted.cluster_role())).is_some_and(|(a, b)| a <= b)
    });
    if is_lower { None } else { ceiling_differs(cluster, wanted, real) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn told(reachable: bool, state: Option<AgentState>) -> Vec<String> {
        let conditions = conditions(&"dev".parse().unwrap(), &Ceiling::default(), reachable, state);
        let text = |c: ClusterCondition| format!("{}={:?} {}", c.kind, c.status, c.reason);
        conditions.into_iter().map(text).collect()
    }

    #[test]
    fn a_cluster_says_whether_it_can_be_reached_and_what_bounds_it() {
        let fine = AgentState { ceiling: Some("admin".into()), ..AgentState::default() };
        assert_eq!(
            told(true, Some(fine.clone())),
            [
                "Reachable=True TunnelStands",
                "Guarded=True PoliciesRefuse",
                "CeilingAsSpecified=True Same"
            ]
        );
        assert_eq!(
            told(false, Some(AgentState { unguarded: Some("no".into()), ceiling: None, term: 0 })),
            [
                "Reachable=False NoTunnel",
                "Guarded=False PolicyMissing",
                "CeilingAsSpecified=False Differs"
            ]
        );
        assert_eq!(
            told(false, None),
            [
                "Reachable=False NoAgent",
                "Guarded=Unknown NoAgent",
                "CeilingAsSpecified=Unknown NoAgent"
            ]
        );
    }

    #[test]
    fn a_cluster_that_allows_more_than_its_object_says_gets_no_sessions() {
        let refusal = |wanted: &str, real: Option<&str>| {
            let wanted = Ceiling::try_from(wanted.to_owned()).unwrap();
            ceiling_refusal(&"dev".parse().unwrap(), &wanted, real)
        };
        for (wanted, real) in [
            ("admin", Some("admin")),
            ("admin", Some("view")),
            ("cluster-admin", Some("edit")),
            ("mine", Some("mine")),
            ("admin", None),
        ] {
            assert_eq!(refusal(wanted, real), None, "{wanted} {real:?}");
        }
        for (wanted, real) in
            [("view", "admin"), ("admin", "cluster-admin"), ("mine", "admin"), ("admin", "mine")]
        {
            let why = refusal(wanted, Some(real)).unwrap();
            assert!(why.contains("kubectl delete clusterrolebinding nullius:ceiling"), "{why}");
        }
    }
}
