//! The level of Pod Security of namespaces, lowered and raised for the sake of exceptions, and what exceptions say of it.

use http::{Request, header::CONTENT_TYPE};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use nullius_model::API_VERSION;
use serde_json::{Value, json};

use crate::{ApiServer, BASELINE, ConnectError, Credential, KubeError, Step};

/// Who writes, as the API server keeps it beside what others write.
const MANAGER: &str = "nullius-exceptions";
/// And who does where a baseline alone said the level: what is written in its stead goes with it.
const IN_BASELINES_STEAD: &str = "nullius-exceptions-for-baseline";
/// The label that says the level.
pub(crate) const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
/// So often a namespace is read again because somebody else wrote the same labels meanwhile.
const TRIES: usize = 8;

/// Labels as they are to be; `None` takes one away.
pub type Labels = Vec<(&'static str, Option<String>)>;

/// Writes labels of namespaces.
#[derive(Clone)]
pub struct NamespaceLevels {
    client: Client,
    namespaces: Api<Namespace>,
}

impl NamespaceLevels {
    /// With the credential of `agent admission`.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        Ok(Self::of(server.client(credential)?))
    }

    fn of(client: Client) -> Self {
        Self { namespaces: Api::all(client.clone()), client }
    }

    /// Writes the labels that `change` asks for of the namespace as it is now, all at once, and only while those labels are as
    /// `change` saw them: who writes anything else of a namespace is in the way of nothing. Gives the namespace as it is then; `None`
    /// where there is nothing to do, or no such namespace any more.
    pub async fn change(
        &self,
        name: &str,
        uid: &str,
        change: impl Fn(&Value) -> Option<Labels>,
    ) -> Result<Option<Value>, KubeError> {
        let step = || Step::Keep(format!("Namespace/{name}"));
        let mut last = None;
        for _ in 0..TRIES {
            let found = self.namespaces.get_opt(name).await;
            let found = found.map_err(|error| KubeError::from_kube(step(), error))?;
            let lacks = |_| KubeError::Incomplete { step: step(), what: "its form" };
            let found = found.map(serde_json::to_value).transpose().map_err(lacks)?;
            let Some(found) = found.filter(|found| found["metadata"]["uid"] == uid) else {
                return Ok(None);
            };
            let Some(labels) = change(&found) else { return Ok(None) };
            let manager = match is_of_baseline(&found) {
                true => IN_BASELINES_STEAD,
                false => MANAGER,
            };
            let request =
                Request::patch(format!("/api/v1/namespaces/{name}?fieldManager={manager}"))
                    .header(CONTENT_TYPE, "application/json-patch+json")
                    .body(patch(&found, &labels).to_string().into_bytes())
                    .map_err(|_| KubeError::Incomplete { step: step(), what: "a name" })?;
            match self.client.request::<Value>(request).await {
                Ok(written) => return Ok(Some(written)),
                Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(None),
                // The labels were others by then.
                Err(kube::Error::Api(status))
                    if status.is_conflict() || status.message.contains("testing value") =>
                {
                    last = Some(kube::Error::Api(status));
                }
                Err(error) => return Err(KubeError::from_kube(step(), error)),
            }
        }
        match last {
            Some(error) => Err(KubeError::from_kube(step(), error)),
            None => Ok(None),
        }
    }
}

/// Whether nobody but a baseline says the level of a namespace, by itself or by what was written in its stead.
pub(crate) fn is_of_baseline(namespace: &Value) -> bool {
    let managers = namespace.pointer("/metadata/managedFields").and_then(Value::as_array);
    let says = |entry: &&Value| {
        let labels = &entry["fieldsV1"]["f:metadata"]["f:labels"];
        labels.get(format!("f:{ENFORCE}")).is_some()
    };
    let mut managers = managers.into_iter().flatten().filter(says).peekable();
    managers.peek().is_some()
        && managers.all(|entry| {
            entry["manager"] == IN_BASELINES_STEAD
                || entry["manager"] == BASELINE && entry["operation"] == "Apply"
        })
}

/// A patch that holds only while the namespace is the same and the labels are what they were.
fn patch(found: &Value, labels: &Labels) -> Value {
    let mut steps =
        vec![json!({ "op": "test", "path": "/metadata/uid", "value": found["metadata"]["uid"] })];
    let path =
        |key: &str| format!("/metadata/labels/{}", key.replace('~', "~0").replace('/', "~1"));
    let now = |key: &str| &found["metadata"]["labels"][key];
    // What is not there is tested as `null`.
    steps.extend(
        labels.iter().map(|(key, _)| json!({ "op": "test", "path": path(key), "value": now(key) })),
    );
    for (key, value) in labels {
        match value {
            Some(value) => steps.push(json!({ "op": "add", "path": path(key), "value": value })),
            None if now(key).is_null() => {}
            None => steps.push(json!({ "op": "remove", "path": path(key) })),
        }
    }
    Value::Array(steps)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::{
        collections::VecDeque,
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use bytes::Bytes;
    use http::Response;
    use http_body_util::{BodyExt as _, Full};
    use kube::client::Body;

    use super::*;

    /// Each with its method and body.
    type Requests = Arc<Mutex<Vec<(String, Value)>>>;

    /// An API server that gives these answers, one after another, and what it was asked.
    fn server(answers: Vec<(u16, Value)>) -> (NamespaceLevels, Requests) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (told, answers) = (Arc::clone(&asked), Arc::new(Mutex::new(VecDeque::from(answers))));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (told, answers) = (Arc::clone(&told), Arc::clone(&answers));
            async move {
                let method = request.method().to_string();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                told.lock().unwrap().push((method, body));
                let (code, body) = answers.lock().unwrap().pop_front().unwrap();
                let body = Full::new(Bytes::from(body.to_string()));
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        (NamespaceLevels::of(Client::new(service, "default")), asked)
    }

    fn namespace(uid: &str, level: &str) -> Value {
        json!({ "apiVersion": "v1", "kind": "Namespace",
                "metadata": { "name": "shop", "uid": uid, "labels": { "a/b": level } } })
    }

    fn status(code: u16, message: &str) -> (u16, Value) {
        let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                             "message": message, "reason": "", "code": code });
        (code, status)
    }

    fn lower(found: &Value) -> Option<Labels> {
        (found["metadata"]["labels"]["a/b"] == "high")
            .then(|| vec![("a/b", Some("low".to_owned())), ("mark", Some("high".to_owned()))])
    }

    #[tokio::test]
    async fn who_writes_the_same_labels_meanwhile_is_read_again() {
        let taken = status(422, "testing value /metadata/labels/a~1b failed: test failed");
        let (levels, asked) = server(vec![
            (200, namespace("1", "high")),
            taken,
            (200, namespace("1", "high")),
            (200, namespace("1", "low")),
        ]);
        let written = levels.change("shop", "1", lower).await.unwrap().unwrap();
        assert_eq!(written["metadata"]["labels"]["a/b"], "low");
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 4);
        assert_eq!(
            asked[3].1,
            json!([
                { "op": "test", "path": "/metadata/uid", "value": "1" },
                { "op": "test", "path": "/metadata/labels/a~1b", "value": "high" },
                { "op": "test", "path": "/metadata/labels/mark", "value": null },
                { "op": "add", "path": "/metadata/labels/a~1b", "value": "low" },
                { "op": "add", "path": "/metadata/labels/mark", "value": "high" },
            ])
        );
    }

    /// With managers of the level, each with how it wrote.
    fn managed(mut namespace: Value, managers: &[(&str, &str)]) -> Value {
        let entry = |(manager, operation): &(&str, &str)| {
            json!({ "manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
                    "fieldsV1": { "f:metadata": { "f:labels": { "f:pod-security.kubernetes.io/enforce": {} } } } })
        };
        namespace["metadata"]["managedFields"] = managers.iter().map(entry).collect();
        namespace
    }

    #[test]
    fn a_level_is_a_baselines_where_nobody_else_says_it() {
        let of =
            |managers: &[(&str, &str)]| is_of_baseline(&managed(namespace("1", "high"), managers));
        let (baseline, stead) = (("nullius-baseline", "Apply"), (IN_BASELINES_STEAD, "Update"));
        assert!(of(&[baseline]) && of(&[stead]) && of(&[baseline, stead]));
        assert!(!of(&[]) && !of(&[(MANAGER, "Update")]));
        assert!(!of(&[baseline, ("kubectl-label", "Update")]));
        assert!(!of(&[stead, ("argocd", "Apply")]));
        assert!(!of(&[("nullius-baseline", "Update")]), "anybody may call themselves so");
    }

    #[tokio::test]
    async fn another_namespace_or_another_level_is_left_alone_and_a_refusal_told() {
        for there in [namespace("2", "high"), namespace("1", "other")] {
            let (levels, asked) = server(vec![(200, there)]);
            assert_eq!(levels.change("shop", "1", lower).await.unwrap(), None);
            assert_eq!(asked.lock().unwrap().len(), 1);
        }
        let (levels, _) = server(vec![(200, namespace("1", "high")), status(403, "nobody may")]);
        let told = levels.change("shop", "1", lower).await.unwrap_err().to_string();
        assert!(told.contains("nobody may"), "{told}");
    }
}
