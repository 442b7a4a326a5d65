//! Admission policies over requests and facts that stand in the tests.

mod excepting;
mod load;
mod matching;
mod mutating;
mod params;
mod properties;
mod validating;

use std::{collections::BTreeMap, sync::Arc};

use nullius_policy::admission_policy::{
    Decision, Detail, Equivalent, Evaluation, Existence, Facts, Kind, Kinds, Need, ParamQuery,
    Pick, PolicySet, Request, Resource, Version,
    authz::{AccessCheck, Authorizer, Subject, Target, Verdict},
    evaluate_excepting,
    shape::Schemas,
};
use nullius_policy::exception::Exception;
use serde_json::{Value as Json, json};

/// What a test knows of kinds: some of Kubernetes', and `Limit`, which is defined by a person.
struct Known {
    schemas: Schemas,
}

impl Kinds for Known {
    fn existence(&self, kind: &Kind) -> Existence {
        match (kind.api_version().as_str(), kind.kind.as_str()) {
            ("v1", "ConfigMap") => Existence::Namespaced,
            ("example.com/v1", "Limit") => Existence::Cluster,
            ("example.com/v1", "Secretive") => Existence::Unknown,
            _ => Existence::Absent,
        }
    }

    fn equivalents(&self, resource: &Resource, _: &str) -> Vec<Equivalent> {
        if resource.resource != "horizontalpodautoscalers" {
            return Vec::new();
        }
        let version = |version: &str| Equivalent {
            resource: Resource { version: version.to_owned(), ..resource.clone() },
            kind: Kind::new(&format!("autoscaling/{version}"), "HorizontalPodAutoscaler"),
        };
        vec![version("v1"), version("v2")]
    }

    fn converted(&self, object: &Json, to: &Kind) -> Option<Json> {
        let mut object = object.clone();
        object["apiVersion"] = json!(to.api_version());
        object["converted"] = json!(true);
        Some(object)
    }

    fn schemas(&self, kind: &Kind) -> Option<&Schemas> {
        self.schemas.knows(kind).then_some(&self.schemas)
    }

    fn normalized(&self, object: Json, _: &Kind) -> Result<Json, String> {
        match object.pointer("/spec/nonsense") {
            Some(_) => Err("strict decoding error: unknown field \"spec.nonsense\"".to_owned()),
            None => Ok(object),
        }
    }
}

/// Who may delete pods in `shop`, and nothing else.
struct Rules;

impl Authorizer for Rules {
    fn answer(&self, check: &AccessCheck) -> Option<Verdict> {
        let Target::Resource(target) = &check.target else { return None };
        let is_known = check.subject == Subject::Requester && target.resource == "pods";
        Some(if is_known && check.verb == "delete" {
            Verdict::Allow { reason: format!("in {}", target.namespace) }
        } else {
            Verdict::Deny { reason: String::new() }
        })
    }
}

/// A request, policies, and what is known.
struct Bench {
    set: PolicySet,
    request: Request,
    namespaces: BTreeMap<String, Option<Arc<Json>>>,
    params: BTreeMap<ParamQuery, Vec<Json>>,
    known: Known,
    interrupt: Option<fn() -> bool>,
    detail: Detail,
}

fn yaml(text: &str) -> Json {
    serde_yaml_ng::from_str(text).unwrap()
}

impl Bench {
    /// A pod that is made in `shop`, under policies and bindings of a YAML text.
    fn new(policies: &str) -> Self {
        Self::of_version(policies, Version::minor(36))
    }

    fn of_version(policies: &str, version: Version) -> Self {
        let mut set = PolicySet::new(version);
        for document in policies.split("\n---\n").filter(|text| !text.trim().is_empty()) {
            set.add(&yaml(document)).unwrap();
        }
        let request = Request::of_review(json!({ "request": {
            "operation": "CREATE",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "name": "web",
            "namespace": "shop",
            "userInfo": { "username": "ada", "groups": ["dev"] },
            "dryRun": false,
            "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" },
            "object": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": "web", "namespace": "shop", "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "a", "image": "registry.example/a:1" }] },
            },
        }}));
        let shop = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": "shop", "labels": { "team": "sales" } },
        });
        let mut schemas = Schemas::default();
        schemas.add_openapi(&openapi());
        Self {
            set,
            request: request.unwrap(),
            namespaces: BTreeMap::from([
                ("shop".to_owned(), Some(Arc::new(shop))),
                ("gone".to_owned(), None),
            ]),
            params: BTreeMap::new(),
            known: Known { schemas },
            interrupt: None,
            detail: Detail::Values,
        }
    }

    fn with_params(
        mut self,
        kind: Kind,
        namespace: Option<&str>,
        pick: Pick,
        found: &[Json],
    ) -> Self {
        let namespace = namespace.map(str::to_owned);
        self.params.insert(ParamQuery { kind, namespace, pick }, found.to_vec());
        self
    }

    fn evaluate(&self) -> Evaluation {
        self.evaluate_excepting(&[])
    }

    fn evaluate_excepting(&self, exceptions: &[&Exception]) -> Evaluation {
        let facts = Facts {
            namespaces: self.namespaces.clone(),
            params: self.params.clone(),
            authorizer: &Rules,
            kinds: &self.known,
            interrupt: self.interrupt.as_ref().map(|interrupt| interrupt as &dyn Fn() -> bool),
            detail: self.detail,
        };
        evaluate_excepting(&self.set, &self.request, &facts, exceptions)
    }

    fn decide(&self) -> Decision {
        match self.evaluate() {
            Evaluation::Decided(decision) => *decision,
            Evaluation::Needs(needs) => panic!("needs {needs:?}"),
        }
    }

    fn needs(&self) -> Vec<Need> {
        match self.evaluate() {
            Evaluation::Decided(decision) => panic!("decided {decision:?}"),
            Evaluation::Needs(needs) => needs.into_iter().collect(),
        }
    }

    /// Code, reason and message of the refusal; none when the request passes.
    fn refusal(&self) -> Option<(u16, String, String)> {
        self.decide().refusal.map(|refusal| (refusal.code, refusal.reason, refusal.message))
    }

    /// The message of the refusal after the names of resource, policy and binding.
    fn told(&self) -> String {
        let message = self.refusal().map(|(_, _, message)| message).unwrap_or_default();
        match message.split_once("denied request: ") {
            Some((_, told)) => told.to_owned(),
            None => message,
        }
    }
}

/// A policy `p` for pods that are made, with more of its `spec`, bound by `b` to deny.
fn policy(spec: &str) -> String {
    bound(spec, "validationActions: [Deny]")
}

fn bound(spec: &str, binding: &str) -> String {
    let indented = |text: &str| text.lines().map(|line| format!("  {line}\n")).collect::<String>();
    let rules = if spec.contains("matchConstraints") {
        ""
    } else {
        "  matchConstraints:\n    resourceRules:\n    - {apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}\n"
    };
    format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {{name: p}}\nspec:\n{rules}{}\
         \n---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {{name: b}}\n\
         spec:\n  policyName: p\n{}",
        indented(spec),
        indented(binding)
    )
}

/// A mutating policy `p` for pods that are made, bound by `b`.
fn mutation(spec: &str) -> String {
    bound(spec, "")
        .replace("kind: Validating", "kind: Mutating")
        .replace("\nspec:\n  match", "\nspec:\n  reinvocationPolicy: Never\n  match")
}

/// A mutating policy of one name.
fn named_mutation(name: &str, reinvocation: &str, patch: &str) -> String {
    mutation(&format!("mutations:\n- {patch}"))
        .replace("reinvocationPolicy: Never", &format!("reinvocationPolicy: {reinvocation}"))
        .replace("{name: p}", &format!("{{name: {name}}}"))
        .replace("{name: b}", &format!("{{name: {name}}}"))
        .replace("policyName: p", &format!("policyName: {name}"))
}

fn openapi() -> Json {
    json!({ "components": { "schemas": {
        "Pod": {
            "type": "object",
            "x-kubernetes-group-version-kind": [{ "group": "", "version": "v1", "kind": "Pod" }],
            "properties": {
                "apiVersion": { "type": "string" },
                "kind": { "type": "string" },
                "metadata": { "allOf": [{ "$ref": "#/components/schemas/Meta" }] },
                "spec": { "allOf": [{ "$ref": "#/components/schemas/Spec" }] },
            },
        },
        "Meta": {
            "type": "object",
            "properties": {
                "name": { "type": "string" },
                "namespace": { "type": "string" },
                "labels": { "type": "object", "additionalProperties": { "type": "string" } },
                "annotations": { "type": "object", "additionalProperties": { "type": "string" } },
                "finalizers": {
                    "type": "array", "items": { "type": "string" }, "x-kubernetes-list-type": "set",
                },
            },
        },
        "Spec": {
            "type": "object",
            "properties": {
                "priority": { "type": "integer" },
                "hostname": { "type": "string" },
                "nodeSelector": {
                    "type": "object", "additionalProperties": { "type": "string" }, "x-kubernetes-map-type": "atomic",
                },
                "containers": {
                    "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": { "allOf": [{ "$ref": "#/components/schemas/Container" }] },
                },
            },
        },
        "Container": {
            "type": "object",
            "properties": {
                "name": { "type": "string" },
                "image": { "type": "string" },
                "command": { "type": "array", "items": { "type": "string" }, "x-kubernetes-list-type": "atomic" },
                "ports": {
                    "type": "array", "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
                    "items": {
                        "type": "object",
                        "properties": {
                            "containerPort": { "type": "integer" },
                            "protocol": { "type": "string", "default": "TCP" },
                            "name": { "type": "string" },
                        },
                    },
                },
            },
        },
    }}})
}
