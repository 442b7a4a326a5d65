//! Our kind `PolicyException` as a cluster knows it, and the policy that bounds how long one lasts.
//!
//! A schema cannot compare an end with when the object was made, a policy can. What only the program knows, such as the form of
//! paths, it says where the exception would count.

use serde_json::{Value, json};

use super::{
    rights::{group_and_version, part_of},
    schema::Kind,
};

/// How long an exception lasts at most, in the unit of expressions.
const MOST: &str = "2160h";
const NAME: &str = "nullius-policy-exceptions";
const PLURAL: &str = "policyexceptions";

pub(super) fn objects() -> Vec<Value> {
    vec![definition(), policy(), binding()]
}

fn definition() -> Value {
    let columns = json!([
        { "name": "Owner", "type": "string", "jsonPath": ".spec.owner" },
        { "name": "Expires", "type": "string", "jsonPath": ".spec.expires" },
        { "name": "Reason", "type": "string", "jsonPath": ".spec.reason", "priority": 1 },
    ]);
    Kind {
        name: "PolicyException",
        plural: PLURAL,
        scope: "Namespaced",
        short_names: &["polex"],
        categories: &[],
        about: "Accepts what policies find wrong with some objects: somebody answers for it, with a reason, until an end.",
        columns,
        spec: spec(),
        status: status(),
    }
    .definition()
}

fn spec() -> Value {
    let text = |about: &str| json!({ "type": "string", "minLength": 1, "maxLength": 4_096, "description": about });
    json!({
        "type": "object",
        "required": ["owner", "reason", "expires", "rules", "scope"],
        "properties": {
            "owner": text("Who answers for it: a team, a person."),
            "reason": text("Why it must be."),
            "expires": {
                "type": "string", "format": "date-time",
                "description": "When it ends; at most 90 days after it was made.",
            },
            "rules": {
                "type": "array", "minItems": 1, "maxItems": 64,
                "description": "What is accepted.",
                "items": {
                    "type": "object",
                    "required": ["policy"],
                    "properties": {
                        "policy": text("The name of a ValidatingAdmissionPolicy, or PodSecurity."),
                        "checks": texts("The message or the expression of validations, or the ids of checks of PodSecurity; none stands for all."),
                    },
                },
            },
            "scope": scope(),
        },
    })
}

fn status() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    json!({
        "type": "object",
        "description": "Where it counts for the Pod Security that API servers enforce by themselves.",
        "properties": {
            "observedGeneration": { "type": "integer", "format": "int64", "description": "Which version of the spec this is about." },
            "message": text("What of it counts nowhere, and why."),
            "podSecurity": {
                "type": "array", "description": "Namespaces that it is for; not all of them.",
                "items": {
                    "type": "object", "required": ["namespace"],
                    "properties": {
                        "namespace": text("The namespace."),
                        "inForceSince": {
                            "type": "string", "format": "date-time", "description": "Since when it counts there.",
                        },
                        "message": text("Why it does not count there."),
                    },
                },
            },
        },
    })
}

fn scope() -> Value {
    json!({
        "type": "object",
        "description": "The objects that it is for, and what in them. In names a `*` stands for any text.",
        "x-kubernetes-validations": [{
            "rule": "has(self.namespaces) && size(self.namespaces) > 0 || has(self.names) && size(self.names) > 0",
            "message": "say for which objects: `namespaces`, or `names` of objects without one",
        }],
        "properties": {
            "namespaces": texts("Namespaces; none stands for objects that are in no namespace."),
            "kinds": texts("Kinds; none stands for all."),
            "names": texts("Names of objects; none stands for all."),
            "containers": texts("Names of containers of any of the three lists."),
            "images": texts("Images of containers."),
            "values": {
                "type": "array", "maxItems": 64,
                "description": "Values of fields.",
                "items": {
                    "type": "object",
                    "required": ["path", "values"],
                    "properties": {
                        "path": {
                            "type": "string", "minLength": 1, "maxLength": 1_024,
                            "description": "The field, counted from the pod in kinds that make pods, else from the object.",
                        },
                        "values": {
                            "type": "array", "minItems": 1, "maxItems": 256,
                            "description": "The values; of a list its items.",
                            "items": { "x-kubernetes-preserve-unknown-fields": true },
                        },
                    },
                },
            },
        },
    })
}

fn texts(about: &str) -> Value {
    json!({
        "type": "array", "maxItems": 256, "x-kubernetes-list-type": "set", "description": about,
        "items": { "type": "string", "minLength": 1, "maxLength": 4_096 },
    })
}

fn policy() -> Value {
    let (group, version) = group_and_version();
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": NAME, "labels": part_of() },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [group], "apiVersions": [version], "resources": [PLURAL], "operations": ["CREATE", "UPDATE"],
                // What the API server would fill in stands here, so that applying it again changes nothing.
                "scope": "*",
            }] },
            "validations": [{
                "expression": format!(
                    "timestamp(object.spec.expires) <= timestamp(object.metadata.creationTimestamp) + duration('{MOST}')"
                ),
                "message": "an exception lasts 90 days at most; make it again when it is still needed",
            }],
        },
    })
}

fn binding() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": NAME, "labels": part_of() },
        "spec": { "policyName": NAME, "validationActions": ["Deny"] },
    })
}
