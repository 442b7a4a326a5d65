//! Writing a session's bindings, side by side.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join_all;
use k8s_openapi::{
    api::rbac::v1::{ClusterRoleBinding, RoleBinding, RoleRef, Subject},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Resource, api::PostParams};
use nullius_model::{Binding, Namespace, PolicyRule, SessionId};
use serde::{Serialize, de::DeserializeOwned};

use super::Sessions;
use crate::{
    KubeError, ObjectRef, Step,
    names::ACCOUNT_UID_ANNOTATION,
    objects::{AnyBinding, binding, binding_ref, check_binding},
    role_object_name,
};

/// The API server's authorizer learns of a new `bind` right by watch: it is asked again after so many milliseconds.
const LAG_MILLIS: [u64; 9] = [2, 4, 8, 16, 32, 64, 128, 256, 512];

/// A binding that stands now.
pub(super) struct Made {
    pub(super) object: ObjectRef,
    pub(super) uid: String,
    pub(super) resource_version: u64,
    pub(super) binding: Binding,
}

/// What came of all.
#[derive(Default)]
pub(super) struct Bound {
    pub(super) made: Vec<Made>,
    /// Namespaces that do not exist: a binding there waits.
    pub(super) awaits: BTreeSet<Namespace>,
    pub(super) error: Option<KubeError>,
}

enum Outcome {
    Made(Made),
    Awaits(Namespace),
}

impl Sessions {
    pub(super) async fn bind_all(
        &self,
        session: &SessionId,
        account_uid: &str,
        missing: &[&Binding],
        roles: &BTreeMap<String, Vec<PolicyRule>>,
    ) -> Bound {
        let writes =
            missing.iter().map(|wanted| self.bind_one(session, account_uid, wanted, roles));
        let mut bound = Bound::default();
        for outcome in join_all(writes).await {
            match outcome {
                Ok(Outcome::Made(made)) => bound.made.push(made),
                Ok(Outcome::Awaits(namespace)) => {
                    bound.awaits.insert(namespace);
                }
                Err(error) => bound.error = Some(error),
            }
        }
        bound
    }

    async fn bind_one(
        &self,
        session: &SessionId,
        account_uid: &str,
        wanted: &Binding,
        roles: &BTreeMap<String, Vec<PolicyRule>>,
    ) -> Result<Outcome, KubeError> {
        let object = binding_ref(session, wanted);
        for (attempt, lag) in LAG_MILLIS.into_iter().enumerate() {
            let written = match binding(session, account_uid, wanted) {
                AnyBinding::Cluster(new) => {
                    let api: Api<ClusterRoleBinding> = Api::all(self.provisioner.clone());
                    self.write(&api, &new, session, account_uid, wanted).await
                }
                AnyBinding::Namespaced(new) => {
                    let namespace = new.metadata.namespace.clone().unwrap_or_default();
                    let api: Api<RoleBinding> =
                        Api::namespaced(self.provisioner.clone(), &namespace);
                    self.write(&api, &new, session, account_uid, wanted).await
                }
            };
            let error = match written {
                Ok(made) => return Ok(Outcome::Made(made)),
                Err(error) => error,
            };
            if let Some(namespace) = wanted.namespace.as_ref().filter(|_| is_away(&error)) {
                return Ok(Outcome::Awaits(namespace.clone()));
            }
            if !matches!(error, KubeError::Refused { .. }) {
                return Err(error);
            }
            tracing::debug!(%object, attempt, "wait for the right to bind");
            if attempt == 2 {
                // Perhaps another replica pruned the role that we believed to stand.
                let role = role_object_name(&wanted.role, &wanted.rules);
                self.roles.forget([role]);
                self.roles.ensure(roles).await?;
            }
            if attempt + 1 == LAG_MILLIS.len() {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(lag)).await;
        }
        Err(KubeError::Incomplete { step: Step::Create(object), what: "an end" })
    }

    async fn write<K>(
        &self,
        api: &Api<K>,
        new: &K,
        session: &SessionId,
        account_uid: &str,
        wanted: &Binding,
    ) -> Result<Made, KubeError>
    where
        K: Resource + AnyBound + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
    {
        let object = binding_ref(session, wanted);
        let standing = match api.create(&PostParams::default(), new).await {
            Ok(made) => made,
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let name = new.meta().name.as_deref().unwrap_or_default();
                let found =
                    api.get(name).await.map_err(KubeError::at(Step::Read(object.clone())))?;
                check_ours(&found, new, session, account_uid)
                    .map_err(|why| KubeError::Foreign { object: object.clone(), why })?;
                found
            }
            Err(error) => return Err(KubeError::from_kube(Step::Create(object), error)),
        };
        let meta = standing.meta();
        let uid = meta
            .uid
            .clone()
            .ok_or(KubeError::Incomplete { step: Step::Create(object.clone()), what: "a UID" })?;
        let resource_version =
            meta.resource_version.as_deref().and_then(|rv| rv.parse().ok()).unwrap_or(0);
        Ok(Made { object, uid, resource_version, binding: wanted.clone() })
    }
}

/// The two kinds of binding, alike.
trait AnyBound {
    fn parts(&self) -> (&ObjectMeta, &RoleRef, Option<&Vec<Subject>>);
}

impl AnyBound for ClusterRoleBinding {
    fn parts(&self) -> (&ObjectMeta, &RoleRef, Option<&Vec<Subject>>) {
        (&self.metadata, &self.role_ref, self.subjects.as_ref())
    }
}

impl AnyBound for RoleBinding {
    fn parts(&self) -> (&ObjectMeta, &RoleRef, Option<&Vec<Subject>>) {
        (&self.metadata, &self.role_ref, self.subjects.as_ref())
    }
}

fn check_ours(
    found: &impl AnyBound,
    wanted: &impl AnyBound,
    session: &SessionId,
    account_uid: &str,
) -> Result<(), &'static str> {
    let (metadata, role_ref, subjects) = found.parts();
    if check_binding(metadata, role_ref, subjects)? != *session {
        return Err("it belongs to another session");
    }
    if role_ref.name != wanted.parts().1.name {
        return Err("it binds another role");
    }
    let notes = metadata.annotations.as_ref();
    let made_for = notes.and_then(|all| all.get(ACCOUNT_UID_ANNOTATION));
    if made_for.is_some_and(|uid| uid == account_uid) {
        Ok(())
    } else {
        Err("its record does not name the UID of the session's account")
    }
}

/// The namespace does not exist, or is going.
fn is_away(error: &KubeError) -> bool {
    match error {
        KubeError::Api { code: 404, .. } => true,
        KubeError::Api { code: 403, message, .. } => {
            message.contains("because it is being terminated")
        }
        _ => false,
    }
}
