//! Our kind `NamespaceBaseline` as a cluster knows it, the account that makes what baselines say, and the policies that keep
//! everybody else from changing it.
//!
//! The account may write four kinds of objects and the labels of namespaces; policies narrow it to objects of its own names, and to
//! namespaces that baselines may be for. It binds the roles alone that administrators name in `nullius:baseline-roles`.

use nullius_model::{
    BASELINE_FROM, BASELINE_LABEL, BASELINE_LABELS, BASELINE_NAME, BASELINE_NEVER,
};
use serde_json::{Value, json};

use super::{
    guards::{binding_of, identity_variables, is_account, policy, username_is, variable},
    rights::{
        account, cluster_role, cluster_role_binding, group_and_version, part_of, role, role_binding,
    },
    schema::{Kind, condition_path},
};
use crate::names::{ADMISSION, BASELINE, BASELINE_ROLES, SYSTEM_NAMESPACE};

const ROLE: &str = "nullius:baseline";
const PLURAL: &str = "namespacebaselines";

pub(super) fn objects() -> Vec<Value> {
    let policies = [objects_kept(), namespaces_kept()];
    let mut objects = vec![definition()];
    objects.extend(policies.into_iter().flat_map(|policy| {
        let binding = binding_of(&policy);
        [policy, binding]
    }));
    objects.extend(rights());
    objects
}

fn rights() -> Vec<Value> {
    let (group, _) = group_and_version();
    let read = ["get", "list", "watch"];
    // `update` undoes what somebody added beside what was applied.
    let keep = ["get", "list", "watch", "create", "patch", "update", "delete"];
    let everywhere = json!([
        { "apiGroups": [group], "resources": [PLURAL], "verbs": read },
        { "apiGroups": [group], "resources": [format!("{PLURAL}/status")], "verbs": ["patch"] },
        { "apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch", "patch"] },
        { "apiGroups": [""], "resources": ["limitranges", "resourcequotas"], "verbs": keep },
        { "apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": keep },
        { "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"], "verbs": keep },
    ]);
    let system = json!([
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] },
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [BASELINE],
          "verbs": ["get", "update"] },
    ]);
    vec![
        account(BASELINE),
        cluster_role(ROLE, everywhere),
        cluster_role_binding(ROLE, ROLE, &[BASELINE]),
        // Without rules, which administrators write: it says which roles baselines may bind.
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": { "name": BASELINE_ROLES, "labels": part_of() },
        }),
        cluster_role_binding(BASELINE_ROLES, BASELINE_ROLES, &[BASELINE]),
        role(ROLE, SYSTEM_NAMESPACE, system),
        role_binding(ROLE, SYSTEM_NAMESPACE, BASELINE),
    ]
}

/// What baselines made is changed by their account, which writes nothing else of these kinds.
fn objects_kept() -> Value {
    let ours = |object: &str| {
        format!(
            "{object} != null && (has({object}.metadata.name) && {object}.metadata.name.startsWith('{BASELINE_NAME}') \
            || has({object}.metadata.labels) && '{BASELINE_LABEL}' in {object}.metadata.labels)"
        )
    };
    let whole = |object: &str| {
        format!(
            "{object}.metadata.name.startsWith('{BASELINE_NAME}') && has({object}.metadata.labels) \
            && '{BASELINE_LABEL}' in {object}.metadata.labels"
        )
    };
    let concerns =
        format!("{} || {} || {}", username_is(BASELINE), ours("object"), ours("oldObject"));
    let shape = format!(
        "!variables.baseline || !(request.namespace in {}) && (request.operation == 'DELETE' ? {} : {})",
        never(),
        whole("oldObject"),
        whole("object")
    );
    let mut variables = identity_variables();
    variables.push(variable("baseline", &is_account(BASELINE)));
    let rule = |group: &str, resources: &[&str]| {
        json!({
            "apiGroups": [group], "apiVersions": ["*"], "resources": resources,
            "operations": ["CREATE", "UPDATE", "DELETE"], "scope": "Namespaced",
        })
    };
    policy(
        "nullius-baseline-objects",
        json!({ "resourceRules": [
            rule("", &["limitranges", "resourcequotas"]),
            rule("networking.k8s.io", &["networkpolicies"]),
            rule("rbac.authorization.k8s.io", &["rolebindings"]),
        ] }),
        &[("of-a-baseline", &concerns)],
        variables,
        &[
            (
                "variables.baseline || variables.controller || variables.guardian",
                "a NamespaceBaseline keeps this object as it is: its annotation `nullius.dev/baselines` says which; change that",
            ),
            (&shape, "baselines write objects of their own and nothing else"),
        ],
    )
}

/// Which labels of a namespace are of baselines, and what they say, is changed by their account alone.
fn namespaces_kept() -> Value {
    let noted = |object: &str| {
        let has = |key: &str| {
            format!(
                "{object} != null && has({object}.metadata.annotations) && '{key}' in {object}.metadata.annotations"
            )
        };
        format!("{} || {}", has(BASELINE_FROM), has(BASELINE_LABELS))
    };
    let concerns =
        format!("{} || {} || {}", username_is(BASELINE), noted("object"), noted("oldObject"));
    let fields = |object: &str, field: &str| {
        format!(
            "{object} != null && has({object}.metadata.{field}) ? {object}.metadata.{field} : {{}}"
        )
    };
    let note = |notes: &str, key: &str| format!("variables.{notes}[?'{key}'].orValue('')");
    let is_kept = |key: &str| format!("{} == {}", note("notes", key), note("oldNotes", key));
    let unchanged = format!(
        "{} && {} && {}.split(',').all(key, variables.labels[?key] == variables.oldLabels[?key])",
        is_kept(BASELINE_FROM),
        is_kept(BASELINE_LABELS),
        note("oldNotes", BASELINE_LABELS)
    );
    let shape = format!("!variables.baseline || !(object.metadata.name in {})", never());
    let mut variables = identity_variables();
    variables.extend([
        variable("baseline", &is_account(BASELINE)),
        // Another policy says what of a namespace it may change.
        variable("admission", &is_account(ADMISSION)),
        variable("labels", &fields("object", "labels")),
        variable("oldLabels", &fields("oldObject", "labels")),
        variable("notes", &fields("object", "annotations")),
        variable("oldNotes", &fields("oldObject", "annotations")),
    ]);
    let who = format!(
        "variables.baseline || variables.admission || variables.controller || variables.guardian || {unchanged}"
    );
    policy(
        "nullius-baseline-namespaces",
        json!({ "resourceRules": [{
            "apiGroups": [""], "apiVersions": ["*"], "resources": ["namespaces"],
            "operations": ["CREATE", "UPDATE"], "scope": "*",
        }] }),
        &[("of-a-baseline", &concerns)],
        variables,
        &[
            (
                &who,
                "a NamespaceBaseline keeps these labels as they are: the annotation `nullius.dev/baselines` says which; change that",
            ),
            (&shape, "no baseline is for this namespace"),
        ],
    )
}

fn never() -> String {
    let names: Vec<String> = BASELINE_NEVER.iter().map(|name| format!("'{name}'")).collect();
    format!("[{}]", names.join(", "))
}

fn definition() -> Value {
    let columns = json!([
        { "name": "Ready", "type": "string", "jsonPath": condition_path("Ready") },
        { "name": "Namespaces", "type": "integer", "jsonPath": ".status.namespaces" },
        { "name": "Standing", "type": "integer", "jsonPath": ".status.standing" },
        { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
    ]);
    Kind {
        name: "NamespaceBaseline",
        plural: PLURAL,
        scope: "Cluster",
        short_names: &["nsbase"],
        categories: &[],
        about: "What the namespaces that it chooses get from the moment they are there, and keep.",
        columns,
        spec: spec(),
        status: status(),
    }
    .definition()
}

fn spec() -> Value {
    json!({
        "type": "object",
        "x-kubernetes-validations": [{
            "rule": "has(self.namespaceSelector) || has(self.names) && size(self.names) > 0",
            "message": "say for which namespaces: `namespaceSelector`, `names`, or both",
        }],
        "properties": {
            "namespaceSelector": {
                "type": "object", "description": "Labels of namespaces; an empty one selects all.",
                "properties": {
                    "matchLabels": { "type": "object", "additionalProperties": { "type": "string" } },
                    "matchExpressions": { "type": "array", "items": {
                        "type": "object", "required": ["key", "operator"],
                        "properties": {
                            "key": { "type": "string" },
                            "operator": { "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"] },
                            "values": { "type": "array", "items": { "type": "string" } },
                        },
                    } },
                },
            },
            "names": texts("Names of namespaces, in which a `*` stands for any text; with a selector, both must fit."),
            "exclude": texts("Names of namespaces that it is not for, whatever else it says."),
            "labels": {
                "type": "object", "maxProperties": 64, "description": "Labels of the namespace.",
                "additionalProperties": { "type": "string", "maxLength": 63 },
            },
            "environment": {
                "type": "string", "minLength": 1, "maxLength": 63,
                "description": "What the namespace is part of: the label nullius.dev/environment.",
            },
            "podSecurity": pod_security(),
            "networkPolicy": {
                "type": "object", "required": ["deny"],
                "description": "Which traffic is denied unless another NetworkPolicy allows it.",
                "properties": {
                    "deny": {
                        "type": "array", "minItems": 1, "maxItems": 2, "x-kubernetes-list-type": "set",
                        "items": { "type": "string", "enum": ["Ingress", "Egress"] },
                    },
                    "allowDns": {
                        "type": "boolean", "description": "Whether pods may ask the cluster's DNS though egress is denied.",
                    },
                },
            },
            "resourceQuota": {
                "type": "object", "required": ["hard"],
                "description": "What all objects of the namespace may use together.",
                "properties": { "hard": amounts("By resource, as in a ResourceQuota.") },
            },
            "limitRange": limit_range(),
            "roleBindings": role_bindings(),
        },
    })
}

fn pod_security() -> Value {
    let level = |about: &str| json!({ "type": "string", "enum": ["privileged", "baseline", "restricted"], "description": about });
    json!({
        "type": "object", "description": "Levels of the Pod Security Standards.",
        "properties": {
            "enforce": level("What breaks this level is refused."),
            "audit": level("What breaks this level is noted in the audit."),
            "warn": level("Whoever makes what breaks this level is warned."),
            "version": {
                "type": "string", "pattern": "^(latest|v1\\.(0|[1-9][0-9]*))$",
                "description": "The version of all three; none leaves it to the API server.",
            },
        },
    })
}

fn limit_range() -> Value {
    json!({
        "type": "object", "required": ["limits"],
        "description": "What one object of the namespace may use, as in a LimitRange.",
        "properties": { "limits": { "type": "array", "minItems": 1, "maxItems": 3, "items": {
            "type": "object", "required": ["type"],
            "properties": {
                "type": { "type": "string", "enum": ["Container", "Pod", "PersistentVolumeClaim"] },
                "max": amounts("The most."),
                "min": amounts("The least."),
                "default": amounts("The limit of containers that do not say one."),
                "defaultRequest": amounts("The request of containers that do not say one."),
                "maxLimitRequestRatio": amounts("How many times its request a limit may be."),
            },
        } } },
    })
}

fn role_bindings() -> Value {
    json!({
        "type": "array", "maxItems": 64,
        "description": "Who holds which role there; the ClusterRole nullius:baseline-roles says which roles may be bound.",
        "items": {
            "type": "object", "required": ["roleRef"],
            "properties": {
                "roleRef": {
                    "type": "object", "required": ["name"],
                    "properties": {
                        "kind": { "type": "string", "enum": ["ClusterRole", "Role"] },
                        "name": { "type": "string", "minLength": 1, "maxLength": 200 },
                    },
                },
                "groups": texts("Groups that hold it."),
                "users": texts("Users that hold it."),
            },
        },
    })
}

fn status() -> Value {
    let number =
        |about: &str| json!({ "type": "integer", "format": "int64", "description": about });
    let text = || json!({ "type": "string" });
    json!({
        "type": "object",
        "properties": {
            "observedGeneration": number("Which version of the spec this is about."),
            "namespaces": number("Namespaces that it is for."),
            "standing": number("Those of them that have all of it."),
            "troubles": {
                "type": "array", "description": "Where it does not stand, and why; not all of them.",
                "items": {
                    "type": "object", "required": ["namespace", "message"],
                    "properties": { "namespace": text(), "message": text() },
                },
            },
            "conditions": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object", "required": ["type", "status"],
                    "properties": {
                        "type": text(), "status": text(), "reason": text(), "message": text(),
                        "observedGeneration": number("Which version of the spec this is about."),
                        "lastTransitionTime": { "type": "string", "format": "date-time" },
                    },
                },
            },
        },
    })
}

fn texts(about: &str) -> Value {
    json!({
        "type": "array", "maxItems": 256, "x-kubernetes-list-type": "set", "description": about,
        "items": { "type": "string", "minLength": 1, "maxLength": 253 },
    })
}

fn amounts(about: &str) -> Value {
    json!({
        "type": "object", "maxProperties": 64, "description": about,
        "additionalProperties": { "x-kubernetes-int-or-string": true },
    })
}
