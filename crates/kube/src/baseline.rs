//! What baselines say, written into namespaces by the account `nullius-baseline`, and told in their status.

use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use nullius_model::{API_VERSION, BASELINE_LABELS, KEPT_LEVEL_LABEL};
use serde_json::{Value, json};

use crate::{
    ApiServer, ConnectError, Credential, KubeError, Step,
    admission::levels::{ENFORCE, is_of_baseline},
    dynamic::{self, Place},
};

/// Who writes, as the API server keeps it beside what others write.
const MANAGER: &str = "nullius-baseline";

/// Writes what baselines say.
#[derive(Clone)]
pub struct BaselineStore {
    client: Client,
}

impl BaselineStore {
    /// With the credential of `nullius-baseline`.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        Ok(Self { client: server.client(credential)? })
    }

    /// Applies an object of a namespace, whoever wrote its fields before; gives what stands then, in which others may have
    /// added to it.
    pub async fn apply(&self, object: &Value) -> Result<Value, KubeError> {
        let (api, name, step) = self.place(object);
        let parameters = PatchParams::apply(MANAGER).force();
        let applied = api.patch(&name, &parameters, &Patch::Apply(object)).await;
        let applied = applied.map_err(|error| at(&step, error))?;
        Ok(serde_json::to_value(applied).unwrap_or_default())
    }

    /// Makes an object that stands say this and nothing else.
    pub async fn replace(&self, standing: &Value, object: &Value) -> Result<(), KubeError> {
        let (api, name, step) = self.place(object);
        let mut whole = object.clone();
        if let Some(version) = standing.pointer("/metadata/resourceVersion") {
            whole["metadata"]["resourceVersion"] = version.clone();
        }
        let lacks = |_| KubeError::Incomplete { step: step.clone(), what: "its form" };
        let whole: DynamicObject = serde_json::from_value(whole).map_err(lacks)?;
        let parameters =
            PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let replaced = api.replace(&name, &parameters, &whole).await;
        replaced.map(|_| ()).map_err(|error| at(&step, error))
    }

    /// Takes an object away; one that is not there is no error.
    pub async fn remove(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<(), KubeError> {
        let object = json!({
            "apiVersion": api_version, "kind": kind, "metadata": { "namespace": namespace, "name": name },
        });
        let (api, name, step) = self.place(&object);
        match api.delete(&name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(at(&step, error)),
        }
    }

    /// Makes a namespace that stands have these labels and annotations, and none that were written here before.
    pub async fn label(
        &self,
        namespace: &Value,
        labels: &Value,
        annotations: &Value,
    ) -> Result<(), KubeError> {
        let let_go = self.let_go_of_level(namespace, labels).await?;
        let namespace = let_go.as_ref().unwrap_or(namespace);
        let mut metadata = json!({ "labels": labels, "annotations": annotations });
        for field in ["name", "uid"] {
            // With the uid it is never made by being labelled, nor another of its name.
            metadata[field] =
                namespace.pointer(&format!("/metadata/{field}")).cloned().unwrap_or_default();
        }
        if namespace
            .pointer("/metadata/labels")
            .and_then(|labels| labels.get(KEPT_LEVEL_LABEL))
            .is_some()
        {
            // Somebody else raises a lowered level again, and what was read before that must not undo it.
            metadata["resourceVersion"] =
                namespace.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
        }
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
        self.apply(&object).await.map(|_| ())
    }

    /// Takes the level of Pod Security away that a baseline set and no longer says, where it was lowered since: who lowered it has
    /// written it in the baseline's stead, and what is applied does not take that away. Gives the namespace as it is then.
    async fn let_go_of_level(
        &self,
        namespace: &Value,
        labels: &Value,
    ) -> Result<Option<Value>, KubeError> {
        let before = namespace.pointer("/metadata/annotations");
        let before = before.and_then(|notes| notes.get(BASELINE_LABELS)).and_then(Value::as_str);
        let was_set = before.unwrap_or_default().split(',').any(|key| key == ENFORCE);
        if !was_set || labels.get(ENFORCE).is_some() {
            return Ok(None);
        }
        let (api, name, step) = self.place(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": namespace.pointer("/metadata/name") },
        }));
        let found = api.get_opt(&name).await.map_err(|error| at(&step, error))?;
        let found = found.and_then(|found| serde_json::to_value(found).ok()).unwrap_or_default();
        let is_same = found.pointer("/metadata/uid") == namespace.pointer("/metadata/uid");
        if !is_same || !is_of_baseline(&found) {
            return Ok(None);
        }
        let metadata = json!({
            "uid": found["metadata"]["uid"], "resourceVersion": found["metadata"]["resourceVersion"],
            "labels": { ENFORCE: null },
        });
        let parameters =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let patched = api.patch(&name, &parameters, &patch).await;
        let patched = patched.map_err(|error| at(&step, error))?;
        Ok(serde_json::to_value(patched).ok())
    }

    /// Says how a baseline stands.
    pub async fn tell(&self, baseline: &str, status: &Value) -> Result<(), KubeError> {
        let object = json!({
            "apiVersion": API_VERSION, "kind": "NamespaceBaseline",
            "metadata": { "name": baseline }, "status": status,
        });
        let (api, name, step) = self.place(&object);
        // Lists and counts are told whole: nobody else writes there.
        let patch = Patch::Merge(json!({ "status": status }));
        match api.patch_status(&name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(at(&step, error)),
        }
    }

    fn place(&self, object: &Value) -> (Api<DynamicObject>, String, Step) {
        let (api, Place { kind, name, namespace }) = dynamic::place(&self.client, object);
        let within = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
        (api, name.to_owned(), Step::Keep(format!("{kind}/{within}{name}")))
    }
}

/// What the API server says no to is told as it says it: there is no ceiling here.
fn at(step: &Step, error: kube::Error) -> KubeError {
    match error {
        kube::Error::Api(status) => KubeError::Api {
            step: step.clone(),
            code: status.code,
            reason: status.reason,
            message: status.message,
        },
        source => KubeError::Unreachable { step: step.clone(), source: Box::new(source) },
    }
}
