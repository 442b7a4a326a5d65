//! What of a cluster is recorded for policies: which objects, in which form, and what the record says that it holds.
//!
//! Secrets are never among them. What only an API server writes and no policy looks at is left out, so that two records of a
//! cluster that did not change are the same.

use std::collections::{BTreeMap, BTreeSet};

use nullius_model::API_VERSION;
use nullius_policy::admission_policy::Kind;
use serde_json::{Map, Value as Json, json};

use crate::state::{HOLDS, Place, State};

/// The kinds that are always recorded: what is asked of a cluster beside parameters.
const ALWAYS: [(&str, &str, &str); 10] = [
    ("v1", "Namespace", "namespaces"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings"),
    ("rbac.authorization.k8s.io/v1", "Role", "roles"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions"),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
    ),
    ("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies"),
    (
        "admissionregistration.k8s.io/v1",
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybindings",
    ),
];

/// Objects that are to be fetched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// `v1`.
    pub api_version: String,
    /// `ConfigMap`.
    pub kind: String,
    /// The plural.
    pub resource: String,
    /// In this namespace alone.
    pub namespace: Option<String>,
    /// Only the one of this name.
    pub name: Option<String>,
    /// Only those with these labels: a label selector.
    pub selector: Option<String>,
}

/// A record under way.
#[derive(Debug, Default)]
pub struct Recording {
    objects: BTreeMap<(String, String, String, String), Json>,
    holds: Vec<Json>,
    /// Definitions of kinds, by which the plurals of parameters are found.
    state: State,
}

/// Parameters that are not recorded, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum NotRecorded {
    /// Secrets never are.
    #[error("the policy `{policy}` takes Secrets as parameters, and a Secret is never recorded")]
    Secret { policy: String },
    /// Nothing says what the kind is.
    #[error(
        "the policy `{policy}` takes parameters of the kind `{kind}`, which the cluster does not have"
    )]
    Unknown { policy: String, kind: String },
}

impl Recording {
    /// What is always fetched, in this order.
    pub fn always() -> impl Iterator<Item = Wanted> {
        ALWAYS.into_iter().map(|(api_version, kind, resource)| Wanted {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            resource: resource.to_owned(),
            namespace: None,
            name: None,
            selector: None,
        })
    }

    /// Takes what was fetched: the record holds every object that was wanted.
    pub fn take(&mut self, wanted: &Wanted, objects: Vec<Json>) {
        let selector = wanted.selector.as_deref().and_then(|text| serde_json::from_str(text).ok());
        for object in objects {
            if selector.as_ref().is_none_or(|selector| State::selects(selector, &object)) {
                self.keep(object);
            }
        }
        let mut held = Map::new();
        let mut put = |name: &str, value: Json| held.insert(name.to_owned(), value);
        put("apiVersion", Json::from(wanted.api_version.as_str()));
        put("kind", Json::from(wanted.kind.as_str()));
        if let Some(namespace) = &wanted.namespace {
            put("namespace", Json::from(namespace.as_str()));
        }
        if let Some(name) = &wanted.name {
            put("name", Json::from(name.as_str()));
        }
        if let Some(selector) = selector {
            put("selector", selector);
        }
        let held = Json::Object(held);
        if !self.holds.contains(&held) {
            self.holds.push(held);
        }
    }

    /// The policies and bindings that were fetched.
    pub fn policies(&self) -> impl Iterator<Item = &Json> {
        let is_policy = |(api_version, ..): &&(String, String, String, String)| {
            api_version.starts_with("admissionregistration.k8s.io/")
        };
        self.objects.iter().filter(move |(key, _)| is_policy(key)).map(|(_, object)| object)
    }

    /// The parameters that bindings name of policies, and those that cannot be had.
    pub fn params<'a>(
        &self,
        policies: impl Iterator<Item = &'a Json> + Clone,
    ) -> (BTreeSet<Wanted>, BTreeSet<NotRecorded>) {
        let (mut wanted, mut not) = (BTreeSet::new(), BTreeSet::new());
        let text = |object: &Json, path: &str| {
            object.pointer(path).and_then(Json::as_str).map(str::to_owned)
        };
        let kinds = policies.clone().filter_map(|policy| {
            let api_version = text(policy, "/spec/paramKind/apiVersion")?;
            let kind = text(policy, "/spec/paramKind/kind")?;
            let of = format!("{}Binding", text(policy, "/kind")?);
            Some(((of, text(policy, "/metadata/name")?), (api_version, kind)))
        });
        let kinds: BTreeMap<_, _> = kinds.collect();
        for ((_, policy), (_, kind)) in kinds.iter().filter(|(_, (version, _))| version == "v1") {
            if kind == "Secret" {
                not.insert(NotRecorded::Secret { policy: policy.clone() });
            }
        }
        for binding in policies {
            let Some(reference) = binding.pointer("/spec/paramRef") else { continue };
            let name = text(binding, "/spec/policyName").unwrap_or_default();
            let key = (text(binding, "/kind").unwrap_or_default(), name.clone());
            let Some((api_version, kind)) = kinds.get(&key) else { continue };
            if (api_version.as_str(), kind.as_str()) == ("v1", "Secret") {
                continue;
            }
            let Some(Place { resource, is_namespaced }) =
                self.state.place(&Kind::new(api_version, kind))
            else {
                let kind = format!("{api_version} {kind}");
                not.insert(NotRecorded::Unknown { policy: name, kind });
                continue;
            };
            wanted.insert(Wanted {
                api_version: api_version.clone(),
                kind: kind.clone(),
                resource: resource.resource,
                namespace: text(reference, "/namespace")
                    .filter(|name| !name.is_empty() && is_namespaced),
                name: text(reference, "/name").filter(|name| !name.is_empty()),
                selector: reference.get("selector").map(Json::to_string),
            });
        }
        (wanted, not)
    }

    /// The record: what it says of itself, then its objects in order.
    pub fn finish(self, kubernetes: &str) -> Vec<Json> {
        let mut holds = self.holds;
        holds.sort_by_key(Json::to_string);
        let head = json!({
            "apiVersion": API_VERSION, "kind": HOLDS, "kubernetes": kubernetes, "holds": holds,
        });
        std::iter::once(head).chain(self.objects.into_values()).collect()
    }

    fn keep(&mut self, object: Json) {
        let object = bare(object);
        let text =
            |path: &str| object.pointer(path).and_then(Json::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (text("/apiVersion"), text("/kind"));
        if (api_version.as_str(), kind.as_str()) == ("v1", "Secret") {
            return;
        }
        let key = (api_version, kind, text("/metadata/namespace"), text("/metadata/name"));
        if key.1 == "CustomResourceDefinition" {
            // What is wrong with a definition of a cluster is the cluster's own affair.
            let _ = self.state.add(&object);
        }
        self.objects.insert(key, object);
    }
}

/// The object without what only an API server writes and no policy looks at.
fn bare(mut object: Json) -> Json {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let kind = object.get("kind").and_then(Json::as_str).unwrap_or_default().to_owned();
    // Expressions see namespaces and parameters whole.
    let is_seen = !ALWAYS.iter().any(|(_, other, _)| *other == kind) || kind == "Namespace";
    if let Some(Json::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove("managedFields");
        metadata.remove("resourceVersion");
        metadata.remove("selfLink");
        if !is_seen {
            for field in ["uid", "creationTimestamp", "generation"] {
                metadata.remove(field);
            }
        }
        if let Some(Json::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove(LAST_APPLIED);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    if let Some(fields) = object.as_object_mut().filter(|_| !is_seen) {
        fields.remove("status");
    }
    if kind == "CustomResourceDefinition" {
        let versions = object.pointer_mut("/spec/versions").and_then(Json::as_array_mut);
        for version in versions.into_iter().flatten() {
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                undescribed(schema);
            }
        }
        if let Some(Json::Object(client)) =
            object.pointer_mut("/spec/conversion/webhook/clientConfig")
        {
            client.remove("caBundle");
        }
    }
    object
}

/// Takes the words for people out of a schema; fields of that name stay.
fn undescribed(schema: &mut Json) {
    let Json::Object(fields) = schema else { return };
    if fields.get("description").is_some_and(Json::is_string) {
        fields.remove("description");
    }
    for (name, below) in fields.iter_mut() {
        match (name.as_str(), below) {
            ("properties" | "patternProperties" | "definitions", Json::Object(named)) => {
                named.values_mut().for_each(undescribed);
            }
            ("allOf" | "anyOf" | "oneOf", Json::Array(several)) => {
                several.iter_mut().for_each(undescribed);
            }
            ("items" | "additionalProperties" | "not", below) => undescribed(below),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn wanted(kind: &str) -> Wanted {
        Recording::always().find(|wanted| wanted.kind == kind).unwrap()
    }

    #[test]
    fn a_record_is_the_same_however_it_came_together() {
        let objects = || {
            ["b", "a"].map(|name| {
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": {
                    "name": name, "resourceVersion": "7", "managedFields": [{}], "uid": "u",
                    "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}" },
                }, "status": { "phase": "Active" } })
            })
        };
        let record = |objects: Vec<Json>| {
            let mut recording = Recording::default();
            recording.take(&wanted("Namespace"), objects);
            recording.finish("v1.36.0")
        };
        let mut other = objects().to_vec();
        other.reverse();
        assert_eq!(record(objects().to_vec()), record(other));
        assert_eq!(
            record(objects().to_vec())[..2],
            [
                json!({ "apiVersion": API_VERSION, "kind": HOLDS, "kubernetes": "v1.36.0", "holds": [{ "apiVersion": "v1", "kind": "Namespace" }] }),
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "a", "uid": "u" }, "status": { "phase": "Active" } }),
            ]
        );
    }

    #[test]
    fn a_secret_is_never_recorded_whatever_asks_for_it() {
        let policy = json!({ "kind": "ValidatingAdmissionPolicy", "metadata": { "name": "p" }, "spec": { "paramKind": { "apiVersion": "v1", "kind": "Secret" } } });
        let binding = json!({ "kind": "ValidatingAdmissionPolicyBinding", "spec": { "policyName": "p", "paramRef": { "name": "x" } } });
        let mut recording = Recording::default();
        let (params, not) = recording.params([policy, binding].iter());
        assert!(params.is_empty());
        assert_eq!(
            not.first().unwrap().to_string(),
            "the policy `p` takes Secrets as parameters, and a Secret is never recorded"
        );
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "x" }, "data": { "a": "Yg==" } });
        recording.take(&wanted("Namespace"), vec![secret]);
        assert_eq!(recording.finish("").len(), 1);
    }

    #[test]
    fn parameters_are_those_that_bindings_name() {
        let policy = json!({ "kind": "MutatingAdmissionPolicy", "metadata": { "name": "p" }, "spec": { "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" } } });
        let binding = |kind: &str, reference: Json| json!({ "kind": kind, "spec": { "policyName": "p", "paramRef": reference } });
        let selector = json!({ "matchLabels": { "a": "b" } });
        let objects = [
            policy,
            binding("MutatingAdmissionPolicyBinding", json!({ "name": "x" })),
            binding(
                "MutatingAdmissionPolicyBinding",
                json!({ "selector": selector, "namespace": "n" }),
            ),
            binding("ValidatingAdmissionPolicyBinding", json!({ "name": "of another policy" })),
        ];
        let mut recording = Recording::default();
        let (params, _) = recording.params(objects.iter());
        let params: Vec<Wanted> = params.into_iter().collect();
        assert_eq!(params.len(), 2, "{params:?}");
        let of = |namespace: &str, label: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c", "namespace": namespace, "labels": { "a": label } } });
        recording.take(&params[1], vec![of("n", "b"), of("n", "c")]);
        let record = recording.finish("");
        assert_eq!(record.len(), 2);
        assert_eq!(
            record[0]["holds"],
            json!([{ "apiVersion": "v1", "kind": "ConfigMap", "namespace": "n", "selector": selector }])
        );
    }

    #[test]
    fn a_definition_keeps_its_fields_and_loses_the_words() {
        let mut schema = json!({ "description": "x", "properties": {
            "description": { "type": "string", "description": "y" },
            "list": { "items": { "description": "z", "anyOf": [{ "description": "w" }] } },
        } });
        undescribed(&mut schema);
        assert_eq!(
            schema,
            json!({ "properties": { "description": { "type": "string" }, "list": { "items": { "anyOf": [{}] } } } })
        );
    }
}
