//! ClusterRoles by content, and the list of those that the provisioner may bind.
//!
//! Only role-writer's credential is used here. Kubernetes compares what it writes with what it holds, which is
//! the ceiling that was chosen in the cluster; nobody here has `escalate`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::future::{join, try_join_all};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule as KubeRule};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
};
use nullius_model::PolicyRule;
use tokio::time::Instant;

use crate::{
    BINDER, KubeError, ObjectRef, ROLE_PREFIX, Step,
    names::{MANAGED_BY, MANAGED_BY_LABEL},
    objects::{check_role, cluster_role},
};

/// How long an unused role stays, so that the next session with it starts warm.
pub(crate) const KEEP_UNUSED: Duration = Duration::from_secs(600);
const CONFLICT_ATTEMPTS: u32 = 20;

pub(crate) struct Roles {
    roles: Api<ClusterRole>,
    /// Roles that are written, listed and were compared, with their last use.
    known: Mutex<BTreeMap<String, Instant>>,
    binder: tokio::sync::Mutex<()>,
}

impl Roles {
    pub(crate) fn new(role_writer: Client) -> Self {
        Self {
            roles: Api::all(role_writer),
            known: Mutex::default(),
            binder: tokio::sync::Mutex::default(),
        }
    }

    /// Writes the roles that are not known to stand and lists them for the provisioner.
    pub(crate) async fn ensure(
        &self,
        wanted: &BTreeMap<String, Vec<PolicyRule>>,
    ) -> Result<(), KubeError> {
        let missing = self.touch(wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let names: BTreeSet<String> = missing.iter().map(|(name, _)| (*name).clone()).collect();
        let writes = try_join_all(missing.iter().map(|(name, rules)| self.write(name, rules)));
        let (written, listed) = join(writes, self.list_in_binder(&names)).await;
        written?;
        listed?;
        let now = Instant::now();
        self.known().extend(names.into_iter().map(|name| (name, now)));
        Ok(())
    }

    /// Forgets what is known to stand, so that the next `ensure` looks.
    pub(crate) fn forget(&self, names: impl IntoIterator<Item = String>) {
        let mut known = self.known();
        for name in names {
            known.remove(&name);
        }
    }

    /// Removes roles that no binding names and nobody used lately; gives their names.
    pub(crate) async fn prune(
        &self,
        bound: &BTreeSet<String>,
    ) -> Result<Vec<ObjectRef>, KubeError> {
        let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
        let listed = self.roles.list(&ours).await.map_err(KubeError::at(Step::ListRoles))?;
        let recent = self.recently_used();
        let unused = listed.items.into_iter().filter(|role| {
            let name = role.metadata.name.as_deref().unwrap_or_default();
            check_role(role).is_ok() && !bound.contains(name) && !recent.contains(name)
        });
        let unused: Vec<(String, Option<String>)> =
            unused.filter_map(|role| Some((role.metadata.name?, role.metadata.uid))).collect();
        if unused.is_empty() {
            return Ok(Vec::new());
        }
        let names: BTreeSet<String> = unused.iter().map(|(name, _)| name.clone()).collect();
        self.forget(names.iter().cloned());
        self.unlist_in_binder(&names).await?;
        for (name, uid) in unused {
            self.delete(&name, uid).await?;
        }
        Ok(names.into_iter().map(|name| ObjectRef::ClusterRole { name }).collect())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Instant>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch<'a>(
        &self,
        wanted: &'a BTreeMap<String, Vec<PolicyRule>>,
    ) -> Vec<(&'a String, &'a Vec<PolicyRule>)> {
        let now = Instant::now();
        let mut known = self.known();
        wanted
            .iter()
            .filter(|(name, _)| match known.get_mut(*name) {
                Some(used) => {
                    *used = now;
                    false
                }
                None => true,
            })
            .collect()
    }

    fn recently_used(&self) -> BTreeSet<String> {
        let recent = |used: &Instant| used.elapsed() < KEEP_UNUSED;
        self.known().iter().filter(|(_, used)| recent(used)).map(|(name, _)| name.clone()).collect()
    }

    async fn write(&self, name: &str, rules: &[PolicyRule]) -> Result<(), KubeError> {
        let step = || Step::WriteRole(name.to_owned());
        match self.roles.create(&PostParams::default(), &cluster_role(name, rules)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let standing = self.roles.get(name).await.map_err(KubeError::at(step()))?;
                check_role(&standing).map_err(|why| KubeError::Foreign {
                    object: ObjectRef::ClusterRole { name: name.to_owned() },
                    why,
                })
            }
            Err(error) => Err(KubeError::from_kube(step(), error)),
        }
    }

    async fn delete(&self, name: &str, uid: Option<String>) -> Result<(), KubeError> {
        let parameters =
            DeleteParams::default().preconditions(Preconditions { uid, resource_version: None });
        match self.roles.delete(name, &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                Ok(())
            }
            Err(error) => Err(KubeError::from_kube(Step::DeleteRole(name.to_owned()), error)),
        }
    }

    async fn list_in_binder(&self, names: &BTreeSet<String>) -> Result<(), KubeError> {
        self.change_binder(|list| list.extend(names.iter().cloned())).await
    }

    async fn unlist_in_binder(&self, names: &BTreeSet<String>) -> Result<(), KubeError> {
        self.change_binder(|list| list.retain(|name| !names.contains(name))).await
    }

    /// Reads, changes and replaces the list until nobody wrote in between.
    async fn change_binder(&self, change: impl Fn(&mut BTreeSet<String>)) -> Result<(), KubeError> {
        let _one_at_a_time = self.binder.lock().await;
        for attempt in 1.. {
            let mut binder =
                self.roles.get(BINDER).await.map_err(KubeError::at(Step::ReadBinder))?;
            let before = binder_list(&binder);
            let mut list = before.clone();
            change(&mut list);
            if list == before {
                return Ok(());
            }
            binder.rules = Some(binder_rules(list));
            match self.roles.replace(BINDER, &PostParams::default(), &binder).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status))
                    if status.is_conflict() && attempt < CONFLICT_ATTEMPTS => {}
                Err(error) => return Err(KubeError::from_kube(Step::WriteBinder, error)),
            }
        }
        Ok(())
    }
}

fn binder_list(binder: &ClusterRole) -> BTreeSet<String> {
    let names = binder.rules.iter().flatten().flat_map(|rule| rule.resource_names.iter().flatten());
    names.filter(|name| name.starts_with(ROLE_PREFIX)).cloned().collect()
}

fn binder_rules(list: BTreeSet<String>) -> Vec<KubeRule> {
    if list.is_empty() {
        // An empty list of names would mean every name.
        return Vec::new();
    }
    vec![KubeRule {
        verbs: vec!["bind".into()],
        api_groups: Some(vec!["rbac.authorization.k8s.io".into()]),
        resources: Some(vec!["clusterroles".into()]),
        resource_names: Some(list.into_iter().collect()),
        non_resource_urls: None,
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_binds_nothing_rather_than_everything() {
        assert!(binder_rules(BTreeSet::new()).is_empty());
        let one = binder_rules(["nullius:role:view-1".to_owned()].into());
        assert_eq!(one.len(), 1);
        let binder = ClusterRole { rules: Some(one), ..ClusterRole::default() };
        assert_eq!(binder_list(&binder), ["nullius:role:view-1".to_owned()].into());
    }
}
