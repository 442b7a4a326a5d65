//! What is said of expressions that do not fit the kinds of their rules, beside what the API server's own checker says.

use std::time::Duration;

use nullius_admission::State;
use nullius_policy::admission_policy::{PolicySet, Version};
use nullius_testkit::{Api, Profile, shared, wait_until};
use serde_json::{Value, json};

/// Policies, one a line, each with what Kubernetes 1.36 writes into its `status.typeChecking`.
const KUBERNETES: &str = include_str!("type_check.jsonl");

/// Names of types that the API server makes anew each time.
fn without_made_names(warning: &str) -> String {
    let mut text = String::new();
    for part in warning.split_inclusive(['\'', '(', ',', ' ', ')']) {
        let word = part.trim_end_matches(['\'', '(', ',', ' ', ')']);
        let made = word.split('.').next().unwrap_or_default();
        let digits = made.bytes().rev().take_while(u8::is_ascii_digit).count();
        let is_type = digits >= 6 || word.contains('/') && word.contains('.');
        text.push_str(if is_type { "TYPE" } else { word });
        text.push_str(&part[word.len()..]);
    }
    text
}

#[test]
fn warnings_are_those_of_the_api_server() {
    for line in KUBERNETES.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let mut policy = case["policy"].clone();
        policy["apiVersion"] = json!("admissionregistration.k8s.io/v1");
        policy["kind"] = json!("ValidatingAdmissionPolicy");
        let name = policy["metadata"]["name"].clone();
        assert_eq!(ours(&State::default(), &policy), theirs(&case["warnings"]), "{name}");
    }
}

/// What we say of a policy, by field.
fn ours(state: &State, policy: &Value) -> Vec<(String, String)> {
    let mut set = PolicySet::new(Version::minor(36));
    set.add(policy).unwrap_or_else(|faults| panic!("{faults:?}"));
    let told = state.type_warnings(&set).into_iter();
    told.map(|told| (told.field, without_made_names(&told.warning))).collect()
}

/// What an API server says of one.
fn theirs(warnings: &Value) -> Vec<(String, String)> {
    let told = |told: &Value| {
        let text = |field: &str| told[field].as_str().unwrap().to_owned();
        (text("fieldRef"), without_made_names(&text("warning")))
    };
    warnings.as_array().into_iter().flatten().map(told).collect()
}

/// A kind of a group with a field of every type.
fn definition(group: &str) -> Value {
    let text = json!({ "type": "string" });
    let item =
        json!({ "type": "object", "properties": { "port": { "type": "integer" }, "name": text } });
    let properties = json!({
        "size": { "type": "integer" }, "ratio": { "type": "number" }, "on": { "type": "boolean" },
        "text": text, "data": { "type": "string", "format": "byte" },
        "when": { "type": "string", "format": "date-time" },
        "length": { "type": "string", "format": "duration" },
        "any": { "x-kubernetes-int-or-string": true },
        "raw": { "x-kubernetes-preserve-unknown-fields": true },
        "open": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
        "tags": { "type": "object", "additionalProperties": text },
        "ports": { "type": "array", "items": item },
        "by": { "type": "object", "additionalProperties": item },
        "in": text, "max-size": { "type": "integer" }, "a.b": text,
        "inner": { "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("widgets.{group}") },
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": { "kind": "Widget", "plural": "widgets", "singular": "widget" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                "type": "object", "properties": { "spec": { "type": "object", "properties": properties } },
            } } }],
        },
    })
}

const EXPRESSIONS: [&str; 28] = [
    "object.spec.size > 1",
    "object.spec.size == 'a'",
    "object.spec.ratio == 1",
    "object.spec.on == 'yes'",
    "object.spec.text == 1",
    "object.spec.data == 'a'",
    "object.spec.when == 'a'",
    "object.spec.length == 'a'",
    "object.spec.any > 3 && object.spec.any == 'a'",
    "object.spec.raw.a == 1",
    "object.spec.open.a == 1",
    "object.spec.tags['a'] == 1",
    "object.spec.tags.all(key, key > 1)",
    "object.spec.ports.all(each, each.port > 1 && each.name == 2)",
    "object.spec.by['a'].nope == 1",
    "object.spec.__in__ == 1",
    "object.spec.max__dash__size == 'a'",
    "object.spec.a__dot__b == 1",
    "object.spec.nope == 1",
    "object.nope == 1",
    "object.kind == 1",
    "object.metadata.name == 1",
    "object.metadata.labels['a'] == 1",
    "object.metadata.nope == 1",
    "object.spec.inner.metadata.name == 1",
    "object.spec.inner.kind == 1",
    "object.spec.inner.spec.a == 1",
    "oldObject.spec.size == 'a' || object.spec == oldObject.spec",
];

/// What goes when the test ends.
struct Made<'a>(&'a Api, Vec<String>);

impl Drop for Made<'_> {
    fn drop(&mut self) {
        for path in &self.1 {
            let _ = self.0.delete(path);
        }
    }
}

/// What the controllers of a cluster take to see a new kind.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn of_kinds_that_a_cluster_defines_it_is_said_what_its_api_server_says() {
    let Some(cluster) = shared(Profile::ControlPlane) else { return };
    let namespace = cluster.namespace("types").unwrap();
    let (api, group) = (cluster.api().unwrap(), format!("{}.example.com", namespace.name()));
    let (definition, mut made) = (definition(&group), Made(&api, Vec::new()));
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    api.create(definitions, &definition).unwrap();
    made.1.push(format!("{definitions}/widgets.{group}"));
    let mut state = State::default();
    state.add(&definition).unwrap();
    let validations: Vec<Value> =
        EXPRESSIONS.iter().map(|text| json!({ "expression": text })).collect();
    let rule = json!({ "apiGroups": [group], "apiVersions": ["v1"], "operations": ["*"], "resources": ["widgets"] });
    let policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let mut count = 0;
    let told = wait_until(PATIENCE, "the types to be checked", || {
        // A policy is checked once: one that came before the kind was seen stays without a word.
        count += 1;
        let name = format!("types-{count}.{group}");
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": name },
            "spec": { "matchConstraints": { "resourceRules": [rule] }, "validations": validations },
        });
        api.create(policies, &policy).unwrap();
        let path = format!("{policies}/{name}");
        made.1.push(path.clone());
        let checked = wait_until(Duration::from_secs(60), "the controller", || {
            let found = api.get(&path).ok()?.json().ok()?;
            found["status"].get("observedGeneration")?;
            Some(found["status"]["typeChecking"]["expressionWarnings"].clone())
        });
        Some((policy, checked.ok().filter(|told| !told.is_null())?))
    });
    let (policy, warnings) = told.unwrap();
    assert_eq!(ours(&state, &policy), theirs(&warnings));
    assert!(warnings.as_array().unwrap().len() > 15, "{warnings:#}");
}
