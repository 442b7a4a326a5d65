//! Our kind `Intention` as a cluster knows it, who writes it, and the policy that refuses what a schema cannot.
//!
//! Fields that nobody knows are kept by the API server and refused by the policy: dropped in silence they would make an intention say
//! more than was meant. What only the program knows, such as whether an expression can be read, the status says; until it can be read the
//! intention counts nowhere.

use serde_json::{Map, Value, json};

use super::{
    guards::{binding_of, policy},
    rights::{cluster_role, group_and_version, part_of},
};
use crate::names::SYSTEM_NAMESPACE;

const NAME: &str = "nullius-intentions";
const PLURAL: &str = "intentions";
/// Keys of the schema in which there is no field.
const KEEP: &str = "x-kubernetes-preserve-unknown-fields";

pub(super) fn objects() -> Vec<Value> {
    let policy = strict();
    let binding = binding_of(&policy);
    vec![definition(), policy, binding, readers(), writers()]
}

fn definition() -> Value {
    let (group, version) = group_and_version();
    let condition = |name: &str| format!(".status.conditions[?(@.type==\"{name}\")].status");
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{PLURAL}.{group}"), "labels": part_of() },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "kind": "Intention", "listKind": "IntentionList",
                "plural": PLURAL, "singular": "intention", "categories": ["nullius"],
            },
            "versions": [{
                "name": version, "served": true, "storage": true,
                "subresources": { "status": {} },
                "additionalPrinterColumns": [
                    { "name": "Destination", "type": "string", "jsonPath": ".spec.destination.serviceAccount" },
                    { "name": "Accepted", "type": "string", "jsonPath": condition("Accepted") },
                    { "name": "InForce", "type": "string", "jsonPath": condition("InForce") },
                    { "name": "Mode", "type": "string", "jsonPath": ".spec.mode", "priority": 1 },
                    { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
                ],
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "description": "Who may call a workload, and with what requests; what no intention allows is denied.",
                    "required": ["spec"],
                    "properties": { "spec": spec(), "status": status() },
                } },
            }],
        },
    })
}

/// A mapping of fields, in which unknown ones are kept for the policy to see.
fn fields(about: &str, required: &[&str], properties: Value) -> Value {
    let mut fields = json!({ "type": "object", "description": about, "properties": properties });
    fields[KEEP] = true.into();
    if !required.is_empty() {
        fields["required"] = required.into();
    }
    fields
}

fn text(about: &str) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": 65_536, "description": about })
}

fn truth(about: &str) -> Value {
    json!({ "type": "boolean", "description": about })
}

fn words(about: &str, words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words, "description": about })
}

fn list(about: &str, items: Value) -> Value {
    json!({ "type": "array", "minItems": 1, "description": about, "items": items })
}

fn texts(about: &str) -> Value {
    list(about, json!({ "type": "string", "minLength": 1, "maxLength": 65_536 }))
}

fn ports(about: &str) -> Value {
    list(
        about,
        json!({ "type": "integer", "format": "int32", "minimum": 1.0, "maximum": 65_535.0 }),
    )
}

fn spec() -> Value {
    let until = json!({
        "type": "string", "format": "date-time", "description": "When that ends; after it the destination is strict.",
    });
    fields(
        "Who may call a destination.",
        &["destination"],
        json!({
            "destination": destination(),
            "sources": list(
                "Who calls, and whether they may; the most exact one that fits decides, wherever it stands.",
                source(),
            ),
            "mode": words("Whether it decides, or is only watched.", &["enforce", "shadow"]),
            "permissive": fields(
                "For how long what no rule decides is let pass.",
                &["until"],
                json!({ "until": until, "ports": ports("Ports for which that is; none stands for those of the destination.") }),
            ),
            "audit": words("What is recorded beside denials: all stands for each call that is allowed.", &["all"]),
        }),
    )
}

fn destination() -> Value {
    fields(
        "Workloads that are called; all that it says must fit.",
        &[],
        json!({
            "serviceAccount": text("The service account of the pods."),
            "labels": {
                "type": "object", "minProperties": 1, "description": "Labels that the pods have, all of them.",
                "additionalProperties": { "type": "string" },
            },
            "namespace": text("Their namespace, where it is not the intention's own: only in nullius-system."),
            "any": truth("All pods of the cluster: only in nullius-system."),
            "ports": ports("Ports of the pods; none stands for all."),
        }),
    )
}

fn source() -> Value {
    let permissions = list(
        "Which requests they may send, in place of an action; the first that fits decides.",
        permission(),
    );
    fields(
        "Who calls, named in one way, and whether they may.",
        &[],
        json!({
            "spiffeId": text("A workload by its ID."),
            "serviceAccount": text("A workload by its service account, of the intention's own namespace unless another is named."),
            "namespace": text("The namespace of the service account, or all workloads of a namespace."),
            "trustDomain": text("The trust domain of service account or namespace, or all workloads of a trust domain."),
            "any": truth("All workloads of the cluster's own trust domain."),
            "ipBlock": text("Addresses, whoever has them, as 10.0.0.0/8."),
            "action": words("Whether they may.", &["allow", "deny"]),
            "permissions": permissions,
        }),
    )
}

fn permission() -> Value {
    let path = fields(
        "A path, in one of these ways.",
        &[],
        json!({
            "exact": text("The path."),
            "prefix": text("Whole segments at its beginning."),
            "regex": text("An expression for all of the path."),
        }),
    );
    let header = fields(
        "A header, in one of these ways.",
        &["name"],
        json!({
            "name": text("Its name."),
            "exact": text("The value."),
            "prefix": text("The beginning of the value."),
            "suffix": text("The end of the value."),
            "contains": text("A part of the value."),
            "regex": text("An expression for all of the value."),
            "present": truth("Whether it is there."),
            "invert": truth("Whether it is turned round."),
        }),
    );
    let claim = fields(
        "A claim of the token.",
        &["path", "values"],
        json!({
            "path": texts("Where it stands."),
            "values": list("Values of it, texts, numbers or truths: one of them.", json!({ KEEP: true })),
        }),
    );
    let jwt = fields(
        "A verified token beside the identity of the caller.",
        &["issuer"],
        json!({
            "issuer": text("Who issued it."),
            "audiences": texts("For whom it is: one of them."),
            "claims": list("What it says, all of them.", claim),
        }),
    );
    fields(
        "Requests; all that it says must fit.",
        &["action"],
        json!({
            "action": words("Whether they may be sent.", &["allow", "deny"]),
            "methods": texts("One of them."),
            "paths": list("One of them.", path),
            "hosts": texts("One of them; *.example.org stands for all below."),
            "headers": list("All of them.", header),
            "jwt": jwt,
            "when": text("An expression in CEL over source, destination, request and jwt."),
        }),
    )
}

fn status() -> Value {
    let number =
        |about: &str| json!({ "type": "integer", "format": "int64", "description": about });
    let words = |about: &str| json!({ "type": "string", "description": about });
    let time = json!({ "type": "string", "format": "date-time", "description": "Since when." });
    let refused = json!({
        "type": "array", "maxItems": 16, "x-kubernetes-list-type": "atomic",
        "description": "Nodes that refuse it; not all of them.",
        "items": {
            "type": "object", "required": ["node", "message"],
            "properties": { "node": words("The node."), "message": words("Why.") },
        },
    });
    json!({
        "type": "object",
        "description": "Whether it can be read, and where it is in force.",
        "properties": {
            "observedGeneration": number("Which version of the spec this is about."),
            "nodes": number("Nodes that have pods in the mesh which it is for."),
            "inForce": number("Nodes of these on which it is in force."),
            "conditions": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                "description": "Accepted and InForce.",
                "items": {
                    "type": "object", "required": ["type", "status"],
                    "properties": {
                        "type": words("Which."), "status": words("True, False or Unknown."),
                        "reason": words("Why, as a word."), "message": words("Why, for people."),
                        "observedGeneration": number("Which version of the spec this is about."),
                        "lastTransitionTime": time,
                    },
                },
            },
            "replicas": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "description": "What each replica of the agent hears of the nodes that are connected to it.",
                "items": {
                    "type": "object", "required": ["name"],
                    "properties": {
                        "name": words("The pod of the replica."),
                        "observedGeneration": number("Which version of the spec this is about."),
                        "inForce": number("Nodes on which it is in force."),
                        "refused": refused,
                    },
                },
            },
        },
    })
}

/// What a schema cannot refuse: unknown fields, and destinations beyond the namespace.
fn strict() -> Value {
    let (group, version) = group_and_version();
    let elsewhere = "an intention is for workloads of its own namespace; only those in `nullius-system` name more";
    let wide = format!(
        "object.metadata.namespace == '{SYSTEM_NAMESPACE}' || !has(object.spec.destination.any) \
        && (!has(object.spec.destination.namespace) \
            || object.spec.destination.namespace == object.metadata.namespace \
                && (has(object.spec.destination.serviceAccount) || has(object.spec.destination.labels)))"
    );
    let mut validations = vec![(wide, format!("spec.destination: {elsewhere}"))];
    known(&spec(), "spec", &|inner| inner("object.spec"), 0, &mut validations);
    let validations: Vec<(&str, &str)> =
        validations.iter().map(|(rule, told)| (rule.as_str(), told.as_str())).collect();
    policy(
        NAME,
        json!({ "resourceRules": [{
            "apiGroups": [group], "apiVersions": [version], "resources": [PLURAL],
            "operations": ["CREATE", "UPDATE"], "scope": "*",
        }] }),
        &[],
        Vec::new(),
        &validations,
    )
}

/// What a rule says of a mapping, which it knows by a name.
type Rule<'r> = &'r dyn Fn(&str) -> String;

/// A rule for each mapping of the schema: it has no field but those.
///
/// `within` writes a rule about a mapping at its place: `has` around it, and `all` where it stands in a list.
fn known(
    schema: &Value,
    path: &str,
    within: &dyn Fn(Rule<'_>) -> String,
    depth: usize,
    rules: &mut Vec<(String, String)>,
) {
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    let rule = within(&|it| format!("{it}.all(field, field in ['{}'])", names.join("', '")));
    let told = format!("{path}: unknown field; known here are `{}`", names.join("`, `"));
    rules.push((rule, told));
    for (name, property) in properties {
        if property["properties"].is_object() {
            let within = |inner: Rule<'_>| {
                within(&|it| {
                    let at = format!("{it}.{name}");
                    format!("(!has({at}) || {})", inner(&at))
                })
            };
            known(property, &format!("{path}.{name}"), &within, depth, rules);
        } else if property["items"]["properties"].is_object() {
            let item = format!("item{depth}");
            let within = |inner: Rule<'_>| {
                within(&|it| {
                    let at = format!("{it}.{name}");
                    format!("(!has({at}) || {at}.all({item}, {}))", inner(&item))
                })
            };
            known(&property["items"], &format!("{path}.{name}[]"), &within, depth + 1, rules);
        }
    }
}

/// Whoever may look at a namespace may look at its intentions.
fn readers() -> Value {
    let (group, _) = group_and_version();
    let rules = json!([
        { "apiGroups": [group], "resources": [PLURAL], "verbs": ["get", "list", "watch"] },
    ]);
    aggregated("nullius:intentions:view", &["view", "edit", "admin"], rules)
}

/// Whoever may grant rights in a namespace may say who calls its workloads; who only changes workloads may not.
fn writers() -> Value {
    let (group, _) = group_and_version();
    let verbs = ["create", "update", "patch", "delete", "deletecollection"];
    let rules = json!([{ "apiGroups": [group], "resources": [PLURAL], "verbs": verbs }]);
    aggregated("nullius:intentions:admin", &["admin"], rules)
}

fn aggregated(name: &str, to: &[&str], rules: Value) -> Value {
    let mut role = cluster_role(name, rules);
    for to in to {
        role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{to}")] =
            "true".into();
    }
    role
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::collections::{BTreeMap, BTreeSet};

    use nullius_intention::{Home, Intention, Origin};

    use super::*;

    /// A value with, in each mapping of a schema, all nested mappings and a field that nobody knows.
    fn odd(schema: &Value) -> Value {
        let mut value = Map::from_iter([("qqqqqqqqqqqqqqqqqqqq".to_owned(), json!(1))]);
        for (name, property) in schema["properties"].as_object().unwrap() {
            if property["properties"].is_object() {
                value.insert(name.clone(), odd(property));
            } else if property["items"]["properties"].is_object() {
                value.insert(name.clone(), json!([odd(&property["items"])]));
            }
        }
        value.into()
    }

    fn levels(schema: &Value, path: &str, found: &mut BTreeMap<String, BTreeSet<String>>) {
        let properties = schema["properties"].as_object().unwrap();
        found.insert(path.to_owned(), properties.keys().cloned().collect());
        for (name, property) in properties {
            if property["properties"].is_object() {
                levels(property, &format!("{path}.{name}"), found);
            } else if property["items"]["properties"].is_object() {
                levels(&property["items"], &format!("{path}.{name}[0]"), found);
            }
        }
    }

    #[test]
    fn the_schema_has_the_fields_that_the_reader_knows_and_no_other() {
        let object = json!({
            "apiVersion": nullius_model::API_VERSION, "kind": "Intention",
            "metadata": { "name": "odd", "namespace": "shop" }, "spec": odd(&spec()),
        });
        let home = Home::of("dev.example".parse().unwrap());
        let faults = Intention::read(&object, Origin::Cluster, &home).unwrap_err();
        let mut read = BTreeMap::new();
        for fault in faults {
            let Some(place) = fault.field.strip_suffix(".qqqqqqqqqqqqqqqqqqqq") else { continue };
            let known = fault.message.strip_prefix("unknown field; known here are ").unwrap();
            let known = known.split(", ").map(|name| name.trim_matches('`').to_owned());
            read.insert(place.to_owned(), known.collect::<BTreeSet<_>>());
        }
        let mut schema = BTreeMap::new();
        levels(&spec(), "spec", &mut schema);
        assert_eq!(schema.len(), 9);
        assert_eq!(read, schema);
    }

    #[test]
    fn words_of_the_schema_are_those_of_the_reader() {
        let home = Home::of("dev.example".parse().unwrap());
        let read = |spec: Value| {
            let object = json!({
                "apiVersion": nullius_model::API_VERSION, "kind": "Intention",
                "metadata": { "name": "words", "namespace": "shop" }, "spec": spec,
            });
            Intention::read(&object, Origin::Cluster, &home).is_ok()
        };
        let spec_with = |field: &str, word: &Value| {
            let mut spec = json!({
                "destination": { "serviceAccount": "orders" },
                "sources": [{ "any": true, "action": "allow" }],
            });
            match field {
                "action" => spec["sources"][0]["action"] = word.clone(),
                field => spec[field] = word.clone(),
            }
            spec
        };
        let schema = spec();
        let of_action = &schema["properties"]["sources"]["items"]["properties"]["action"];
        for (field, words) in [
            ("mode", &schema["properties"]["mode"]["enum"]),
            ("audit", &schema["properties"]["audit"]["enum"]),
            ("action", &of_action["enum"]),
        ] {
            for word in words.as_array().unwrap() {
                assert!(read(spec_with(field, word)), "{field}: {word}");
            }
            assert!(!read(spec_with(field, &json!("other"))), "{field}");
        }
    }

    #[test]
    fn the_policy_asks_about_each_mapping_where_it_stands() {
        let policy = strict();
        let rules: Vec<&str> = policy["spec"]["validations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| rule["expression"].as_str().unwrap())
            .collect();
        assert_eq!(rules.len(), 10);
        let claims = rules.iter().find(|rule| rule.contains("['path', 'values']")).unwrap();
        assert_eq!(
            *claims,
            "(!has(object.spec.sources) || object.spec.sources.all(item0, \
             (!has(item0.permissions) || item0.permissions.all(item1, \
             (!has(item1.jwt) || (!has(item1.jwt.claims) || item1.jwt.claims.all(item2, \
             item2.all(field, field in ['path', 'values']))))))))"
        );
    }
}
