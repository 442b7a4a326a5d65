//! The webhook configurations: which requests the API server holds back, and whom it asks.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    core::v1::ConfigMap,
};
use kube::{Api, Resource, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::replicas;
use crate::{
    ADMISSION_STATUS, ADMISSION_WEBHOOKS, AGENT_ADMISSION, ApiServer, ConnectError, Credential,
    KubeError, POD_SECURITY_WEBHOOK, SESSIONS_NAMESPACE, SYSTEM_NAMESPACE, Step,
};

/// How long an API server waits for an answer.
const TIMEOUT_SECONDS: u8 = 10;
/// The label that every namespace has, with its own name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Namespaces that no policy of the webhook is for: nodes, cluster and agent must always come up again.
pub const EXCLUDED_NAMESPACES: [&str; 4] =
    ["kube-node-lease", "kube-system", SESSIONS_NAMESPACE, SYSTEM_NAMESPACE];

/// One entry of a webhook configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookEntry {
    /// The first part of its name.
    pub name: String,
    /// The path, with the part that strangers do not know.
    pub path: String,
    /// For which requests, `rules` of the API.
    pub rules: Vec<Value>,
    /// `Fail` or `Ignore`.
    pub failure_policy: &'static str,
    /// The only namespaces that it is for; none stands for all but the [excluded](EXCLUDED_NAMESPACES).
    pub namespaces: Option<Vec<String>>,
    /// Further expressions about labels of namespaces.
    pub namespace_labels: Vec<Value>,
    /// Expressions about labels of the objects.
    pub object_labels: Vec<Value>,
    /// Conditions of requests, each with its name.
    pub conditions: Vec<(&'static str, String)>,
}

/// What the API server is to know.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Registration {
    /// The entry by which exceptions from Pod Security count, where there is one; it stands by itself.
    pub pod_security: Option<WebhookEntry>,
    /// Entries that validate.
    pub validating: Vec<WebhookEntry>,
    /// Entries that mutate.
    pub mutating: Vec<WebhookEntry>,
    /// The authorities by which the webhook is recognised, PEM.
    pub authorities_pem: String,
}

/// What did not stand already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// The entry of Pod Security.
    pub pod_security: bool,
    /// Anything else.
    pub policies: bool,
}

/// Reads and writes the configurations.
#[derive(Clone)]
pub struct RegistrationStore {
    validating: Api<ValidatingWebhookConfiguration>,
    mutating: Api<MutatingWebhookConfiguration>,
}

impl RegistrationStore {
    /// With the credential of `agent admission`.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        let client = server.client(credential)?;
        Ok(Self { validating: Api::all(client.clone()), mutating: Api::all(client) })
    }

    /// Makes the configurations say this and nothing else; says what was written.
    pub async fn write(&self, registration: &Registration) -> Result<Written, KubeError> {
        let authorities = STANDARD.encode(&registration.authorities_pem);
        let webhooks = |entries: &[WebhookEntry], kind: Kind| -> Vec<Value> {
            entries.iter().map(|entry| webhook(entry, kind, &authorities)).collect()
        };
        let pod_security = webhooks(registration.pod_security.as_slice(), Kind::Validating);
        let validating = webhooks(&registration.validating, Kind::Validating);
        let mutating = webhooks(&registration.mutating, Kind::Mutating);
        let told = |error| without_paths(error, registration);
        // Each is tried: what is in the way of one policy is in the way of no other.
        let apart = put(&self.validating, POD_SECURITY_WEBHOOK, pod_security).await.map_err(told);
        let mutates = put(&self.mutating, ADMISSION_WEBHOOKS, mutating).await.map_err(told);
        let validates = put(&self.validating, ADMISSION_WEBHOOKS, validating).await.map_err(told);
        let apart = match apart {
            // Who joined before there was such a configuration does without it.
            Err(KubeError::Api { code: 403 | 404, .. }) if registration.pod_security.is_none() => {
                Ok(false)
            }
            apart => apart,
        };
        Ok(Written { policies: mutates? | validates?, pod_security: apart? })
    }
}

/// What an API server says of a path that it does not take is no matter of logs.
fn without_paths(error: KubeError, registration: &Registration) -> KubeError {
    let KubeError::Api { step, code, reason, mut message } = error else { return error };
    let Registration { pod_security, validating, mutating, .. } = registration;
    for entry in pod_security.iter().chain(validating).chain(mutating) {
        message = message.replace(&entry.path, "/…");
    }
    KubeError::Api { step, code, reason, message }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Validating,
    Mutating,
}

/// Every field that the API server would fill in is there, so that what is written can be compared with what stands.
fn webhook(entry: &WebhookEntry, kind: Kind, authorities: &str) -> Value {
    let mut selected =
        vec![json!({ "key": NAME_LABEL, "operator": "NotIn", "values": EXCLUDED_NAMESPACES })];
    selected.extend(
        entry
            .namespaces
            .iter()
            .map(|names| json!({ "key": NAME_LABEL, "operator": "In", "values": names })),
    );
    selected.extend(entry.namespace_labels.iter().cloned());
    let objects = match entry.object_labels.as_slice() {
        [] => json!({}),
        labels => json!({ "matchExpressions": labels }),
    };
    let mut webhook = json!({
        "name": format!("{}.admission.nullius.dev", entry.name),
        "clientConfig": {
            "caBundle": authorities,
            "service": {
                "namespace": SYSTEM_NAMESPACE, "name": AGENT_ADMISSION, "port": 443, "path": entry.path,
            },
        },
        "rules": entry.rules,
        "failurePolicy": entry.failure_policy,
        "matchPolicy": "Equivalent",
        "namespaceSelector": { "matchExpressions": selected },
        "objectSelector": objects,
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
        "admissionReviewVersions": ["v1"],
    });
    if !entry.conditions.is_empty() {
        let conditions = entry.conditions.iter();
        let conditions =
            conditions.map(|(name, expression)| json!({ "name": name, "expression": expression }));
        webhook["matchConditions"] = conditions.collect();
    }
    if kind == Kind::Mutating {
        webhook["reinvocationPolicy"] = json!("IfNeeded");
    }
    webhook
}

async fn put<K>(api: &Api<K>, name: &str, webhooks: Vec<Value>) -> Result<bool, KubeError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let found = api.get(name).await;
    let found = found.map_err(KubeError::at(Step::ReadRegistration))?;
    let lacks = |_| KubeError::Incomplete { step: Step::ReadRegistration, what: "its form" };
    let mut object = serde_json::to_value(&found).map_err(lacks)?;
    let standing = object.get("webhooks").cloned().unwrap_or_else(|| json!([]));
    let wanted = Value::Array(webhooks);
    if standing == wanted {
        return Ok(false);
    }
    object["webhooks"] = wanted;
    let object: K = serde_json::from_value(object).map_err(lacks)?;
    let written = api.replace(name, &PostParams::default(), &object).await;
    written.map_err(KubeError::at(Step::WriteRegistration))?;
    Ok(true)
}

/// The ConfigMap in which people read what is in force.
#[derive(Clone)]
pub struct StatusStore {
    maps: Api<ConfigMap>,
}

impl StatusStore {
    /// With the credential of `agent admission`.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        Ok(Self { maps: Api::namespaced(server.client(credential)?, SYSTEM_NAMESPACE) })
    }

    /// Says this beside what replicas say; nothing is written where it is said already.
    pub async fn write(&self, data: Vec<(String, String)>) -> Result<(), KubeError> {
        let found = self.maps.get(ADMISSION_STATUS).await;
        let mut found = found.map_err(KubeError::at(Step::WriteStatus))?;
        let mut data = data.into_iter().collect();
        replicas::keep(found.data.as_ref(), &mut data);
        let data = Some(data);
        if found.data == data {
            return Ok(());
        }
        found.data = data;
        let written = self.maps.replace(ADMISSION_STATUS, &PostParams::default(), &found).await;
        written.map(|_| ()).map_err(KubeError::at(Step::WriteStatus))
    }
}
