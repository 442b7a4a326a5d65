//! The level of Pod Security of namespaces, lowered and raised for the sake of exceptions, and what exceptions say of it.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use nullius_model::API_VERSION;
use serde_json::{Value, json};

use crate::{ApiServer, ConnectError, Credential, KubeError, Step};

/// Who writes, as the API server keeps it beside what others write.
const MANAGER: &str = "nullius-exceptions";

/// Writes labels of namespaces.
#[derive(Clone)]
pub struct NamespaceLevels {
    namespaces: Api<Namespace>,
}

impl NamespaceLevels {
    /// With the credential of `agent admission`.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        Ok(Self { namespaces: Api::all(server.client(credential)?) })
    }

    /// Writes labels, all at once, and only if the namespace is still what was read; `null` takes one away. False where somebody
    /// else wrote it since.
    pub async fn write(&self, namespace: &Value, labels: &Value) -> Result<bool, KubeError> {
        let of = |field: &str| namespace.pointer(&format!("/metadata/{field}")).cloned();
        let metadata = json!({
            "uid": of("uid"), "resourceVersion": of("resourceVersion"), "labels": labels,
        });
        let name = of("name");
        let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
        let params =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        match self.namespaces.patch(name, &params, &patch).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                Ok(false)
            }
            Err(error) => Err(KubeError::from_kube(Step::Keep(format!("Namespace/{name}")), error)),
        }
    }
}

/// Tells in the status of exceptions where they count.
#[derive(Clone)]
pub struct ExceptionStatuses {
    client: Client,
}

impl ExceptionStatuses {
    /// With the credential of `agent admission`.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        Ok(Self { client: server.client(credential)? })
    }

    /// Makes the status of an exception say this and nothing else; one that is gone is no error.
    pub async fn tell(&self, namespace: &str, name: &str, status: &Value) -> Result<(), KubeError> {
        let (group, version) = API_VERSION.split_once('/').unwrap_or(("", API_VERSION));
        let kind = GroupVersionKind::gvk(group, version, "PolicyException");
        let resource = ApiResource::from_gvk_with_plural(&kind, "policyexceptions");
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &resource);
        let patch = Patch::Merge(json!({ "status": status }));
        match api.patch_status(name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(KubeError::from_kube(
                Step::Keep(format!("PolicyException/{namespace}/{name}")),
                error,
            )),
        }
    }
}
