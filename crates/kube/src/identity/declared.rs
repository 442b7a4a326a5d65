//! Objects of our kinds as they stand, and what is said of them in their status.

use std::sync::Arc;

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use nullius_model::API_VERSION;
use serde_json::{Value, json};

use crate::{ApiServer, ConnectError, Credential, KubeError, Step};

/// Who calls whom.
pub(super) const INTENTION: &str = "Intention";
/// Which identities pods have.
pub(super) const WORKLOAD_IDENTITY: &str = "WorkloadIdentity";
/// Who is outside of the cluster.
pub(super) const MACHINE: &str = "Machine";
/// How long the name of who writes may be at the API server.
const MANAGER_MAX: usize = 128;

/// An object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectNews {
    /// Its namespace; empty where the kind belongs to the cluster.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its UID.
    pub uid: Box<str>,
    /// Which version of its spec it is.
    pub generation: i64,
    /// The object without what does not change what it says: no status, no annotations.
    pub json: Arc<[u8]>,
    /// Its status.
    pub status: Arc<Value>,
}

impl ObjectNews {
    /// Whether its status says all of this already.
    pub fn says(&self, status: &Value) -> bool {
        let fields = status.as_object().into_iter().flatten();
        fields.into_iter().all(|(name, value)| self.status.get(name) == Some(value))
    }

    /// Keeps that it is there, and nothing of what it says.
    pub fn leave_out(&mut self) {
        self.json = Arc::default();
    }

    /// Whether what it says was not kept.
    pub fn is_left_out(&self) -> bool {
        self.json.is_empty()
    }

    pub(super) fn intention(object: DynamicObject) -> Self {
        Self::of(object, INTENTION)
    }

    pub(super) fn workload_identity(object: DynamicObject) -> Self {
        Self::of(object, WORKLOAD_IDENTITY)
    }

    pub(super) fn machine(object: DynamicObject) -> Self {
        Self::of(object, MACHINE)
    }

    fn of(object: DynamicObject, kind: &str) -> Self {
        let DynamicObject { metadata, mut data, .. } = object;
        let status = data.get_mut("status").map(Value::take).unwrap_or_default();
        let (name, namespace) =
            (metadata.name.unwrap_or_default(), metadata.namespace.unwrap_or_default());
        let uid = metadata.uid.unwrap_or_default();
        let mut object = json!({
            "apiVersion": API_VERSION, "kind": kind,
            "metadata": { "name": name, "namespace": namespace, "uid": uid },
        });
        // What else stands at the top is for whoever reads it strictly.
        if let (Some(fields), Value::Object(data)) = (object.as_object_mut(), data) {
            fields.extend(data.into_iter().filter(|(name, _)| name != "status"));
        }
        Self {
            generation: metadata.generation.unwrap_or_default(),
            json: object.to_string().into_bytes().into(),
            status: Arc::new(status),
            name: name.into(),
            namespace: namespace.into(),
            uid: uid.into(),
        }
    }
}

/// Writes how objects of one kind stand.
#[derive(Clone)]
pub struct StatusStore {
    client: Client,
    kind: &'static str,
}

impl StatusStore {
    /// Of intentions, with the credential of `agent identity`.
    pub fn intentions(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        Ok(Self { client: server.client(credential)?, kind: INTENTION })
    }

    /// Of workload identities, with the same.
    pub fn workload_identities(
        server: &ApiServer,
        credential: Credential,
    ) -> Result<Self, ConnectError> {
        Ok(Self { client: server.client(credential)?, kind: WORKLOAD_IDENTITY })
    }

    /// Of machines, with the same.
    pub fn machines(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        Ok(Self { client: server.client(credential)?, kind: MACHINE })
    }

    /// Says as somebody what that one has to say; what the same said before and does not say now is gone. An object that is not there
    /// any more is no error. Who says something of one that was made anew under its name meanwhile hears so of its watch, and says the
    /// right thing then: a status has no precondition but one that replicas would break for each other.
    pub async fn say(
        &self,
        object: &ObjectNews,
        manager: &str,
        status: Option<&Value>,
    ) -> Result<(), KubeError> {
        let ObjectNews { namespace, name, .. } = object;
        let kind = self.kind;
        let client = self.client.clone();
        let mut metadata = json!({ "name": name });
        let api: Api<DynamicObject> = match &**namespace {
            "" => Api::all_with(client, &resource(kind)),
            namespace => {
                metadata["namespace"] = namespace.into();
                Api::namespaced_with(client, namespace, &resource(kind))
            }
        };
        let mut object = json!({ "apiVersion": API_VERSION, "kind": kind, "metadata": metadata });
        if let Some(status) = status {
            object["status"] = status.clone();
        }
        let manager: String = manager.chars().take(MANAGER_MAX).collect();
        let parameters = PatchParams::apply(&manager).force();
        match api.patch_status(name, &parameters, &Patch::Apply(&object)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => {
                Err(KubeError::at(Step::Keep(format!("{kind}/{namespace}/{name}")))(error))
            }
        }
    }
}

pub(super) fn resource(kind: &str) -> ApiResource {
    let (group, version) = API_VERSION.split_once('/').unwrap_or((API_VERSION, ""));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn what_changes_nothing_that_it_says_is_left_out() {
        let object = |version: &str, status: &str, spec: Value| {
            let object = json!({
                "apiVersion": API_VERSION, "kind": INTENTION,
                "metadata": {
                    "name": "orders", "namespace": "shop", "uid": "u-1", "generation": 3,
                    "resourceVersion": version, "annotations": { "note": version },
                    "managedFields": [{ "manager": "kubectl" }],
                },
                "spec": spec,
                "status": { "message": status },
            });
            ObjectNews::intention(serde_json::from_value(object).unwrap())
        };
        let spec = json!({ "destination": { "serviceAccount": "orders" } });
        let (one, two) = (object("1", "old", spec.clone()), object("2", "new", spec));
        assert_eq!(one.json, two.json);
        assert_ne!(one.status, two.status);
        let read: Value = serde_json::from_slice(&one.json).unwrap();
        assert_eq!(
            read["metadata"],
            json!({ "name": "orders", "namespace": "shop", "uid": "u-1" })
        );
        assert_eq!(read["spec"]["destination"]["serviceAccount"], "orders");
        assert!(read.get("status").is_none());
        assert_ne!(one.json, object("2", "new", json!({})).json);
    }
}
