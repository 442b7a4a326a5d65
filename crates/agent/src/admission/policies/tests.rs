#![allow(clippy::unwrap_used, reason = "test")]
use serde_json::json;

use super::*;

#[test]
fn the_minor_version_is_read_from_what_clouds_write() {
    for (text, minor) in [("v1.36.3", 36), ("v1.34.2-gke.100", 34), ("v1.35+", 35)] {
        assert_eq!(minor_number(text), Some(minor), "{text}");
    }
}

#[test]
fn every_key_of_a_config_map_is_a_file_and_bytes_are_none_that_can_be_read() {
    let map = json!({
        "metadata": { "name": "m" }, "data": { "a.yaml": "{}" }, "binaryData": { "b": "AAAA" },
    });
    let files = files_of(&[Arc::new(map)]);
    assert_eq!(files[0], PolicyFile { name: "m/a.yaml".to_owned(), text: "{}".to_owned() });
    assert!(check(&files[1]).is_err());
}

#[test]
fn of_parameters_no_more_is_watched_than_bindings_refer_to() {
    let text = |name: &str, reference: Value| {
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": name },
            "spec": {
                "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
                "matchConstraints": { "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"],
                    "operations": ["CREATE"], "resources": ["pods"] }] },
                "validations": [{ "expression": "params == null" }],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": name },
            "spec": { "policyName": name, "validationActions": ["Deny"], "paramRef": reference },
        });
        format!("{policy}\n---\n{binding}")
    };
    let files = [
        (
            "named",
            json!({ "name": "limits", "namespace": "shop", "parameterNotFoundAction": "Deny" }),
        ),
        ("there", json!({ "name": "limits", "parameterNotFoundAction": "Deny" })),
        (
            "some",
            json!({ "selector": { "matchLabels": { "a": "b" } }, "parameterNotFoundAction": "Deny" }),
        ),
    ];
    let files = files
        .map(|(name, reference)| PolicyFile { name: name.to_owned(), text: text(name, reference) });
    let in_force = InForce::compile(&files, Version::LATEST).unwrap();
    let room = Room::default();
    let watches: Vec<_> = in_force
        .param_sources()
        .iter()
        .map(|source| {
            let what = watched(source, "configmaps", &room);
            assert_eq!(what.room, Some(room.clone()));
            (what.namespace, what.name, what.labels)
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        watches,
        [
            (None, some("limits"), None),
            (None, None, some("a=b")),
            (some("shop"), some("limits"), None),
        ]
    );
}
