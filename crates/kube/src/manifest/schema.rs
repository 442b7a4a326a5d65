//! Our kinds as a cluster knows them: parts of their schemas, and what no schema can say of them.
//!
//! Fields that nobody knows are kept by the API server and refused by a policy: dropped in silence they would make an object say something
//! else than was meant.

use serde_json::{Map, Value, json};

use super::{
    guards::policy,
    rights::{cluster_role, group_and_version, part_of},
};

/// One of our kinds as a cluster knows it.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) plural: &'static str,
    /// `Namespaced` or `Cluster`.
    pub(super) scope: &'static str,
    pub(super) short_names: &'static [&'static str],
    pub(super) categories: &'static [&'static str],
    pub(super) about: &'static str,
    pub(super) columns: Value,
    pub(super) spec: Value,
    pub(super) status: Value,
}

impl Kind {
    pub(super) fn definition(self) -> Value {
        let Self { name, plural, scope, short_names, categories, about, columns, spec, status } =
            self;
        let (group, version) = group_and_version();
        let mut names = json!({
            "kind": name, "listKind": format!("{name}List"),
            "plural": plural, "singular": name.to_lowercase(),
        });
        for (field, all) in [("shortNames", short_names), ("categories", categories)] {
            if !all.is_empty() {
                names[field] = all.into();
            }
        }
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.{group}"), "labels": part_of() },
            "spec": {
                "group": group,
                "scope": scope,
                "names": names,
                "versions": [{
                    "name": version, "served": true, "storage": true,
                    "subresources": { "status": {} },
                    "additionalPrinterColumns": columns,
                    "schema": { "openAPIV3Schema": {
                        "type": "object",
                        "description": about,
                        "required": ["spec"],
                        "properties": { "spec": spec, "status": status },
                    } },
                }],
            },
        })
    }
}

/// Keys of the schema in which there is no field.
pub(super) const KEEP: &str = "x-kubernetes-preserve-unknown-fields";

/// A mapping of fields, in which unknown ones are kept for the policy to see.
pub(super) fn fields(about: &str, required: &[&str], properties: Value) -> Value {
    let mut fields = json!({ "type": "object", "description": about, "properties": properties });
    fields[KEEP] = true.into();
    if !required.is_empty() {
        fields["required"] = required.into();
    }
    fields
}

pub(super) fn text(about: &str) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": 65_536, "description": about })
}

pub(super) fn truth(about: &str) -> Value {
    json!({ "type": "boolean", "description": about })
}

pub(super) fn words(about: &str, words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words, "description": about })
}

pub(super) fn list(about: &str, items: Value) -> Value {
    json!({ "type": "array", "minItems": 1, "description": about, "items": items })
}

pub(super) fn texts(about: &str) -> Value {
    list(about, json!({ "type": "string", "minLength": 1, "maxLength": 65_536 }))
}

/// A number of a status.
pub(super) fn number(about: &str) -> Value {
    json!({ "type": "integer", "format": "int64", "description": about })
}

/// Words of a status.
pub(super) fn said(about: &str) -> Value {
    json!({ "type": "string", "description": about })
}

/// The conditions of a status.
pub(super) fn conditions(about: &str) -> Value {
    json!({
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
        "description": about,
        "items": {
            "type": "object", "required": ["type", "status"],
            "properties": {
                "type": said("Which."), "status": said("True, False or Unknown."),
                "reason": said("Why, as a word."), "message": said("Why, for people."),
                "observedGeneration": number("Which version of the spec this is about."),
                "lastTransitionTime": { "type": "string", "format": "date-time", "description": "Since when." },
            },
        },
    })
}

/// Where a condition stands, for a column.
pub(super) fn condition_path(name: &str) -> String {
    format!(".status.conditions[?(@.type==\"{name}\")].status")
}

/// A policy for what is written of one of our kinds.
pub(super) fn of_ours(name: &str, plural: &str, rules: &[(String, String)]) -> Value {
    let (group, version) = group_and_version();
    let rules: Vec<(&str, &str)> =
        rules.iter().map(|(rule, told)| (rule.as_str(), told.as_str())).collect();
    policy(
        name,
        json!({ "resourceRules": [{
            "apiGroups": [group], "apiVersions": [version], "resources": [plural],
            "operations": ["CREATE", "UPDATE"], "scope": "*",
        }] }),
        &[],
        Vec::new(),
        &rules,
    )
}

/// A rule for each mapping in the schema of a spec: it has no field but those.
pub(super) fn nothing_unknown(spec: &Value) -> Vec<(String, String)> {
    let mut rules = Vec::new();
    known(spec, "spec", &|inner| inner("object.spec"), 0, &mut rules);
    rules
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

/// Whoever may look at a namespace may look at these objects of it; whoever may grant rights in it may write them, and who only changes
/// workloads may not.
pub(super) fn for_people(plural: &str) -> [Value; 2] {
    let (group, _) = group_and_version();
    let rules =
        |verbs: &[&str]| json!([{ "apiGroups": [group], "resources": [plural], "verbs": verbs }]);
    let view = rules(&["get", "list", "watch"]);
    let write = rules(&["create", "update", "patch", "delete", "deletecollection"]);
    [
        aggregated(&format!("nullius:{plural}:view"), &["view", "edit", "admin"], view),
        aggregated(&format!("nullius:{plural}:admin"), &["admin"], write),
    ]
}

fn aggregated(name: &str, to: &[&str], rules: Value) -> Value {
    let mut role = cluster_role(name, rules);
    for to in to {
        role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{to}")] =
            "true".into();
    }
    role
}

/// A schema beside the reader of the same objects.
#[cfg(test)]
pub(super) mod testing {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::collections::{BTreeMap, BTreeSet};

    use nullius_fields::Fault;
    use serde_json::{Map, Value, json};

    const ODD: &str = "qqqqqqqqqqqqqqqqqqqq";

    /// Names of fields by the place of their mapping.
    pub(in crate::manifest) type Known = BTreeMap<String, BTreeSet<String>>;

    /// The fields that a reader knows in each mapping of a spec: what it says of one that it does not know.
    pub(in crate::manifest) fn fields_known_to_a_reader(
        kind: &str,
        spec: &Value,
        read: impl Fn(&Value) -> Vec<Fault>,
    ) -> Known {
        let object = json!({
            "apiVersion": nullius_model::API_VERSION, "kind": kind,
            "metadata": { "name": "odd", "namespace": "shop" }, "spec": odd(spec),
        });
        let mut known = Known::new();
        for fault in read(&object) {
            let Some(place) = fault.field.strip_suffix(&format!(".{ODD}")) else { continue };
            let names = fault.message.strip_prefix("unknown field; known here are ").unwrap();
            let names = names.split(", ").map(|name| name.trim_matches('`').to_owned());
            known.insert(place.to_owned(), names.collect());
        }
        known
    }

    /// The fields of each mapping of a schema.
    pub(in crate::manifest) fn fields_of_a_schema(spec: &Value) -> Known {
        let mut known = Known::new();
        levels(spec, "spec", &mut known);
        known
    }

    /// A value with, in each mapping of a schema, all nested mappings and a field that nobody knows.
    fn odd(schema: &Value) -> Value {
        let mut value = Map::from_iter([(ODD.to_owned(), json!(1))]);
        for (name, property) in schema["properties"].as_object().unwrap() {
            if property["properties"].is_object() {
                value.insert(name.clone(), odd(property));
            } else if property["items"]["properties"].is_object() {
                value.insert(name.clone(), json!([odd(&property["items"])]));
            }
        }
        value.into()
    }

    fn levels(schema: &Value, path: &str, found: &mut Known) {
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
}
