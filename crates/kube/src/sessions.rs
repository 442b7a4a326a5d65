//! A session's objects: made as planned, removed by recorded UID, found again after a crash.
//!
//! Marker, account and roles are written side by side, then bindings and the first token; the record is written
//! onto the account last, so that a session counts as standing only when all of it stands.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{join, join_all};
use k8s_openapi::api::{
    core::v1::{Secret, ServiceAccount},
    rbac::v1::{ClusterRoleBinding, RoleBinding},
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use nullius_model::{Binding, PolicyRule, SessionId, SessionPlan};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    ApiServer, ConnectError, Credential, KubeError, MintedToken, ObjectRef, SESSIONS_NAMESPACE,
    StandingSession, Step, account_name,
    names::SESSION_LABEL,
    objects::{
        account, account_ref, binding_ref, check_account, check_marker, marker, marker_ref,
        read_record, record_of,
    },
    role_object_name,
    roles::Roles,
    token::mint_bound,
};

mod bind;
mod settle;
mod survey;

use survey::{Listed, sort};

/// Makes, removes and finds the objects of sessions.
pub struct Sessions {
    provisioner: Client,
    /// Signs in with nothing; requests of a session carry their own token.
    bare: Client,
    roles: Roles,
}

/// What came of a plan.
#[derive(Debug)]
pub struct Ensured {
    /// A token, where account or bindings are new.
    pub token: Option<MintedToken>,
}

/// What came of removing a session.
#[derive(Debug, Default)]
pub struct Flushed {
    /// Objects that are gone, with their UIDs.
    pub removed: BTreeMap<ObjectRef, String>,
    /// Objects that stand under the recorded name but are others' by now; left alone.
    pub foreign: Vec<ObjectRef>,
}

/// What stands in the cluster.
#[derive(Debug, Default)]
pub struct Survey {
    /// Sessions of ours, complete or not.
    pub sessions: BTreeMap<SessionId, StandingSession>,
    /// Objects that carry our label and are not ours, and why not; left alone.
    pub foreign: Vec<(ObjectRef, &'static str)>,
    /// Roles that a session's binding names.
    pub bound_roles: BTreeSet<String>,
}

impl Sessions {
    /// With one credential for accounts and bindings, and another for roles.
    pub fn new(
        server: &ApiServer,
        provisioner: Credential,
        role_writer: Credential,
    ) -> Result<Self, ConnectError> {
        Ok(Self::with_clients(
            server.client(provisioner)?,
            server.client(role_writer)?,
            server.client(Credential::None)?,
        ))
    }

    fn with_clients(provisioner: Client, role_writer: Client, bare: Client) -> Self {
        Self { provisioner, bare, roles: Roles::new(role_writer) }
    }

    /// A record to begin a session with.
    pub fn begin(&self, session: &SessionId) -> StandingSession {
        StandingSession::empty(session.clone())
    }

    /// Makes the objects be as planned; `standing` tells what stands, also when this fails half way.
    pub async fn ensure(
        &self,
        plan: &SessionPlan,
        standing: &mut StandingSession,
    ) -> Result<Ensured, KubeError> {
        let roles: BTreeMap<String, Vec<PolicyRule>> = plan
            .bindings
            .iter()
            .map(|b| (role_object_name(&b.role, &b.rules), b.rules.clone()))
            .collect();
        let was_new = standing.objects.is_empty();
        let (written, stands) = join(self.roles.ensure(&roles), self.account(plan, standing)).await;
        stands?;
        written?;
        let (account_uid, marker_uid) = uids(standing)?;

        let wanted: BTreeMap<ObjectRef, &Binding> =
            plan.bindings.iter().map(|b| (binding_ref(&plan.session, b), b)).collect();
        self.remove_surplus(standing, &wanted).await?;
        let missing: Vec<&Binding> = wanted
            .iter()
            .filter(|(object, _)| !standing.objects.contains_key(object))
            .map(|(_, b)| *b)
            .collect();
        let name = account_name(&plan.session);
        let mint = async {
            if was_new || !missing.is_empty() {
                mint_bound(&self.provisioner, &name, &marker_uid).await.map(Some)
            } else {
                Ok(None)
            }
        };
        let (token, bound) =
            join(mint, self.bind_all(&plan.session, &account_uid, &missing, &roles)).await;
        standing
            .objects
            .extend(bound.made.iter().map(|made| (made.object.clone(), made.uid.clone())));
        if let Some(error) = bound.error {
            return Err(error);
        }
        let token = token?;
        standing.user = Some(plan.user.clone());
        standing.awaits = bound.awaits;
        standing.expires_at = Some(plan.expires_at);
        standing.generation = plan.generation;
        let settled = async {
            match &token {
                Some(token) => self.settle(&token.token, &bound.made).await,
                None => settle::Settled::Known,
            }
        };
        let (recorded, settled) = join(self.record(standing), settled).await;
        recorded?;
        if settled == settle::Settled::Unknown {
            tracing::warn!(session = %plan.session, "bind without effect so far; the next plan writes its roles anew");
            self.roles.forget(roles.into_keys());
        }
        Ok(Ensured { token })
    }

    /// A fresh token of a standing session.
    pub async fn mint(&self, standing: &StandingSession) -> Result<MintedToken, KubeError> {
        let (_, marker_uid) = uids(standing)?;
        mint_bound(&self.provisioner, &account_name(&standing.session), &marker_uid).await
    }

    /// What the cluster knows of one session, complete or not; `None` when nothing of ours stands.
    pub async fn load(&self, session: &SessionId) -> Result<Option<StandingSession>, KubeError> {
        let name = account_name(session);
        let (accounts, secrets) = (self.accounts(), self.secrets());
        let (account, marker) = join(accounts.get_opt(&name), secrets.get_opt(&name)).await;
        let account = account.map_err(KubeError::at(Step::Read(account_ref(session))))?;
        let marker = marker.map_err(KubeError::at(Step::Read(marker_ref(session))))?;
        let mut found = sort(Listed {
            accounts: account.into_iter().collect(),
            markers: marker.into_iter().collect(),
            ..Listed::default()
        });
        match found.foreign.pop() {
            Some((object, why)) => Err(KubeError::Foreign { object, why }),
            None => Ok(found.sessions.remove(session)),
        }
    }

    /// Removes a session's objects by recorded UID: bindings, then the marker, then the account.
    pub async fn flush(&self, standing: &mut StandingSession) -> Result<Flushed, KubeError> {
        let mut flushed = Flushed::default();
        let bindings: Vec<ObjectRef> =
            standing.objects.keys().filter(|object| is_binding(object)).cloned().collect();
        self.delete_all(standing, bindings, &mut flushed).await?;
        let session = standing.session.clone();
        for last in [marker_ref(&session), account_ref(&session)] {
            if standing.objects.contains_key(&last) {
                self.delete_all(standing, vec![last], &mut flushed).await?;
            }
        }
        Ok(flushed)
    }

    /// Finds all that stands, also what a killed agent left half made.
    pub async fn survey(&self) -> Result<Survey, KubeError> {
        let ours = ListParams::default().labels(SESSION_LABEL);
        let (accounts, secrets) = (self.accounts(), self.secrets());
        let cluster: Api<ClusterRoleBinding> = Api::all(self.provisioner.clone());
        let namespaced: Api<RoleBinding> = Api::all(self.provisioner.clone());
        let (accounts, markers, cluster, namespaced) = futures::join!(
            accounts.list(&ours),
            secrets.list(&ours),
            cluster.list(&ours),
            namespaced.list(&ours)
        );
        let listed = Listed {
            accounts: accounts.map_err(KubeError::at(Step::List("session accounts")))?.items,
            markers: markers.map_err(KubeError::at(Step::List("session markers")))?.items,
            cluster: cluster.map_err(KubeError::at(Step::List("ClusterRoleBindings")))?.items,
            namespaced: namespaced.map_err(KubeError::at(Step::List("RoleBindings")))?.items,
        };
        Ok(sort(listed))
    }

    /// Removes roles that no session uses any more.
    pub async fn prune_roles(&self, survey: &Survey) -> Result<Vec<ObjectRef>, KubeError> {
        self.roles.prune(&survey.bound_roles).await
    }

    fn accounts(&self) -> Api<ServiceAccount> {
        Api::namespaced(self.provisioner.clone(), SESSIONS_NAMESPACE)
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.provisioner.clone(), SESSIONS_NAMESPACE)
    }

    /// The session's marker and account: known, made now, or left by a making whose answer was lost.
    async fn account(
        &self,
        plan: &SessionPlan,
        standing: &mut StandingSession,
    ) -> Result<(), KubeError> {
        let session = &plan.session;
        if uids(standing).is_ok() {
            return Ok(());
        }
        let marker_uid = self.marker(session, standing).await?;
        let object = account_ref(session);
        match self.accounts().create(&PostParams::default(), &account(plan, &marker_uid)).await {
            Ok(made) => {
                let uid = uid_of(made.metadata.uid, &object)?;
                standing.objects.insert(object, uid);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let name = account_name(session);
                let found = self.accounts().get_opt(&name).await;
                let found = found
                    .map_err(KubeError::at(Step::Read(object.clone())))?
                    .ok_or_else(|| vanished(&object))?;
                check_account(session, &found, Some(&marker_uid))
                    .map_err(|why| KubeError::Foreign { object, why })?;
                standing.objects.extend(read_record(session, &found, None).objects);
                Ok(())
            }
            Err(error) => Err(KubeError::from_kube(Step::Create(object), error)),
        }
    }

    /// The UID of the session's marker.
    ///
    /// One that stands already is taken if it is nothing but a marker of this session: it holds nothing and gives no
    /// right, so that it matters little who made it. What an account must name is its UID.
    async fn marker(
        &self,
        session: &SessionId,
        standing: &mut StandingSession,
    ) -> Result<String, KubeError> {
        let object = marker_ref(session);
        if let Some(uid) = standing.objects.get(&object) {
            return Ok(uid.clone());
        }
        let stands = match self.secrets().create(&PostParams::default(), &marker(session)).await {
            Ok(made) => made,
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let found = self.secrets().get_opt(&account_name(session)).await;
                let found = found
                    .map_err(KubeError::at(Step::Read(object.clone())))?
                    .ok_or_else(|| vanished(&object))?;
                check_marker(session, &found)
                    .map_err(|why| KubeError::Foreign { object: object.clone(), why })?;
                found
            }
            Err(error) => return Err(KubeError::from_kube(Step::Create(object), error)),
        };
        let uid = uid_of(stands.metadata.uid, &object)?;
        standing.objects.insert(object, uid.clone());
        Ok(uid)
    }

    async fn remove_surplus(
        &self,
        standing: &mut StandingSession,
        wanted: &BTreeMap<ObjectRef, &Binding>,
    ) -> Result<(), KubeError> {
        let surplus: Vec<ObjectRef> = standing
            .objects
            .keys()
            .filter(|object| is_binding(object) && !wanted.contains_key(object))
            .cloned()
            .collect();
        let mut flushed = Flushed::default();
        self.delete_all(standing, surplus, &mut flushed).await
    }

    async fn record(&self, standing: &StandingSession) -> Result<(), KubeError> {
        let object = account_ref(&standing.session);
        let uid = standing.objects.get(&object);
        // The UID in the patch is a precondition: another's account of this name is not written to.
        let patch = json!({ "metadata": { "uid": uid, "annotations": record_of(standing) } });
        let name = account_name(&standing.session);
        let accounts = self.accounts();
        accounts
            .patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .map_err(KubeError::at(Step::Record(object)))?;
        Ok(())
    }

    async fn delete_all(
        &self,
        standing: &mut StandingSession,
        objects: Vec<ObjectRef>,
        flushed: &mut Flushed,
    ) -> Result<(), KubeError> {
        let known: Vec<(ObjectRef, String)> = objects
            .into_iter()
            .filter_map(|object| {
                standing.objects.get(&object).map(|uid| (object.clone(), uid.clone()))
            })
            .collect();
        let gone = join_all(known.iter().map(|(object, uid)| self.delete(object, uid))).await;
        let mut failed = None;
        for ((object, uid), outcome) in known.into_iter().zip(gone) {
            match outcome {
                Ok(Deleted::Gone) => {
                    standing.objects.remove(&object);
                    flushed.removed.insert(object, uid);
                }
                Ok(Deleted::Foreign) => {
                    standing.objects.remove(&object);
                    flushed.foreign.push(object);
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn delete(&self, object: &ObjectRef, uid: &str) -> Result<Deleted, KubeError> {
        let client = &self.provisioner;
        match object {
            ObjectRef::ClusterRoleBinding { name } => {
                delete_one::<ClusterRoleBinding>(&Api::all(client.clone()), name, object, uid).await
            }
            ObjectRef::RoleBinding { namespace, name } => {
                let bindings = Api::<RoleBinding>::namespaced(client.clone(), namespace);
                delete_one(&bindings, name, object, uid).await
            }
            ObjectRef::Secret { name, .. } => delete_one(&self.secrets(), name, object, uid).await,
            ObjectRef::ServiceAccount { name, .. } => {
                delete_one(&self.accounts(), name, object, uid).await
            }
            // Roles are shared by sessions and go by `prune_roles`.
            ObjectRef::ClusterRole { .. } => Ok(Deleted::Foreign),
        }
    }
}

enum Deleted {
    Gone,
    Foreign,
}

async fn delete_one<K>(
    api: &Api<K>,
    name: &str,
    object: &ObjectRef,
    uid: &str,
) -> Result<Deleted, KubeError>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let only_this = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    match api.delete(name, &DeleteParams::default().preconditions(only_this)).await {
        Ok(_) => Ok(Deleted::Gone),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Deleted::Gone),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Deleted::Foreign),
        Err(error) => Err(KubeError::from_kube(Step::Delete(object.clone()), error)),
    }
}

fn is_binding(object: &ObjectRef) -> bool {
    matches!(object, ObjectRef::RoleBinding { .. } | ObjectRef::ClusterRoleBinding { .. })
}

fn uid_of(uid: Option<String>, object: &ObjectRef) -> Result<String, KubeError> {
    uid.ok_or_else(|| KubeError::Incomplete { step: Step::Create(object.clone()), what: "a UID" })
}

/// It stood a moment ago and does not any more: the next attempt makes it.
fn vanished(object: &ObjectRef) -> KubeError {
    KubeError::Incomplete { step: Step::Read(object.clone()), what: "the object" }
}

/// UIDs of account and marker.
fn uids(standing: &StandingSession) -> Result<(String, String), KubeError> {
    let uid = |object: ObjectRef| {
        standing
            .objects
            .get(&object)
            .cloned()
            .ok_or(KubeError::Incomplete { step: Step::Read(object), what: "a record of it" })
    };
    Ok((uid(account_ref(&standing.session))?, uid(marker_ref(&standing.session))?))
}

#[cfg(test)]
mod tests;
