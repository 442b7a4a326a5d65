//! The steps of one namespace: what cannot be done is told, and is in the way of no other step.

use nullius_kube::{BASELINE_ROLES, BaselineStore, KubeError};
use nullius_policy::baseline::{BaselineKind, Plan, Step, is_as_wanted};
use serde_json::{Value, json};

use super::text;

/// What came of the steps of a namespace.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// What was done.
    pub(super) changed: Vec<String>,
    /// What could not be, and why.
    pub(super) told: Vec<String>,
}

/// Takes steps.
pub(super) struct Steps {
    store: BaselineStore,
}

impl Steps {
    pub(super) fn new(store: BaselineStore) -> Self {
        Self { store }
    }

    /// Takes all steps of a namespace, one after another.
    pub(super) async fn take(
        &self,
        namespace: &Value,
        plan: Option<&Plan>,
        steps: &[Step],
    ) -> Done {
        let mut done = Done::default();
        for step in steps {
            match self.one(namespace, plan, step).await {
                Ok(()) => done.changed.push(named(step)),
                Err(error) => done.told.push(why(step, &error)),
            }
        }
        done
    }

    async fn one(
        &self,
        namespace: &Value,
        plan: Option<&Plan>,
        step: &Step,
    ) -> Result<(), KubeError> {
        let name = text(namespace, "/metadata/name");
        match step {
            Step::Apply(kind, object) => self.apply(*kind, object).await,
            Step::Remove(kind, object) => {
                self.store.remove(kind.api_version(), kind.as_str(), name, object).await
            }
            Step::Label => {
                let labels = plan.map(|plan| json!(plan.labels_of(namespace))).unwrap_or_default();
                let notes = plan.map(|plan| json!(plan.annotations())).unwrap_or_default();
                self.store.label(namespace, &labels, &notes).await
            }
            Step::Release => self.store.label(namespace, &json!({}), &json!({})).await,
        }
    }

    async fn apply(&self, kind: BaselineKind, object: &Value) -> Result<(), KubeError> {
        let standing = match self.store.apply(object).await {
            Ok(standing) => standing,
            // A binding never changes its role: somebody put another there.
            Err(KubeError::Api { code: 422, .. }) if kind == BaselineKind::RoleBinding => {
                let (namespace, name) =
                    (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
                self.store.remove(kind.api_version(), kind.as_str(), namespace, name).await?;
                self.store.apply(object).await?
            }
            Err(error) => return Err(error),
        };
        // What others added stays when it is applied, and may allow what a baseline denies.
        match is_as_wanted(object, &standing) {
            true => Ok(()),
            false => self.store.replace(&standing, object).await,
        }
    }
}

fn named(step: &Step) -> String {
    match step {
        Step::Apply(kind, object) => {
            format!("{}/{}", kind.as_str(), text(object, "/metadata/name"))
        }
        Step::Remove(kind, name) => format!("{}/{name} removed", kind.as_str()),
        Step::Label => "labels".to_owned(),
        Step::Release => "labels removed".to_owned(),
    }
}

fn why(step: &Step, error: &KubeError) -> String {
    let told = crate::error::chain(error);
    match (step, error) {
        (Step::Apply(BaselineKind::RoleBinding, object), KubeError::Api { code: 403, .. }) => {
            let role = text(object, "/roleRef/name");
            format!(
                "{told}; to let `{role}` be bound, name it in the ClusterRole `{BASELINE_ROLES}` with the verb `bind`"
            )
        }
        _ => told,
    }
}
