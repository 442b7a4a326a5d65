//! Policies that an API server refuses, and the fields that it names.

use std::collections::BTreeSet;

use nullius_policy::admission_policy::{PolicySet, Version};
use nullius_testkit::{Profile, shared};
use serde_json::{Value as Json, json};

use super::{API, over, plural_path};

/// What each policy has that is not said otherwise.
fn base(kind: &str) -> Json {
    let constraints = json!({ "resourceRules": [
        { "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] },
    ]});
    match kind {
        "ValidatingAdmissionPolicy" => {
            json!({ "matchConstraints": constraints, "validations": [{ "expression": "true" }] })
        }
        "MutatingAdmissionPolicy" => json!({
            "matchConstraints": constraints, "reinvocationPolicy": "Never",
            "mutations": [{ "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": "Object{}" } }],
        }),
        "ValidatingAdmissionPolicyBinding" => {
            json!({ "policyName": "p", "validationActions": ["Deny"] })
        }
        _ => json!({ "policyName": "p" }),
    }
}

fn cases() -> Vec<(&'static str, Json)> {
    serde_yaml_ng::from_str::<Vec<(String, Json)>>(include_str!("faults.yaml"))
        .unwrap()
        .into_iter()
        .map(|(kind, spec)| match kind.as_str() {
            "validating" => ("ValidatingAdmissionPolicy", spec),
            "mutating" => ("MutatingAdmissionPolicy", spec),
            "validating-binding" => ("ValidatingAdmissionPolicyBinding", spec),
            _ => ("MutatingAdmissionPolicyBinding", spec),
        })
        .collect()
}

#[test]
fn wrong_policies_are_refused_in_the_api_servers_words() {
    let Some(cluster) = shared(Profile::ControlPlane) else { return };
    let api = cluster.api().unwrap();
    let mut different = Vec::new();
    for (kind, spec) in cases() {
        let object = json!({
            "apiVersion": API, "kind": kind, "metadata": { "name": "wrong.example" }, "spec": over(base(kind), &spec),
        });
        let answer = api.post(&format!("{}?dryRun=All", plural_path(&object)), &object).unwrap();
        let body = answer.json().unwrap();
        let causes = body["details"]["causes"].as_array().cloned().unwrap_or_default();
        let text = |cause: &Json, field: &str| cause[field].as_str().unwrap_or_default().to_owned();
        let theirs: BTreeSet<(String, String)> =
            causes.iter().map(|cause| (text(cause, "field"), text(cause, "message"))).collect();
        let mut set = PolicySet::new(Version::minor(36));
        let ours: BTreeSet<(String, String)> = match set.add(&object) {
            Ok(_) => BTreeSet::new(),
            Err(faults) => faults.into_iter().map(|fault| (fault.field, fault.message)).collect(),
        };
        if ours != theirs {
            different.push(format!(
                "{kind} {spec}\n  theirs ({}): {theirs:#?}\n  ours: {ours:#?}",
                answer.status
            ));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}
