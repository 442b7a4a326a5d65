//! What holds for any object.

use nullius_kinds::{Form, Table, normalize};
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

/// JSON of any shape with the names of fields that exist.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(vec![
            "",
            "a",
            "1Gi",
            "1e999999999",
            "2026-01-02T03:04:05Z",
            "RollingUpdate",
            "ClientIP",
            "é\u{0}"
        ])
        .prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let name = select(vec![
        "spec",
        "metadata",
        "status",
        "template",
        "containers",
        "initContainers",
        "resources",
        "limits",
        "requests",
        "cpu",
        "memory",
        "volumes",
        "ports",
        "strategy",
        "rollingUpdate",
        "type",
        "labels",
        "name",
        "data",
        "stringData",
        "metrics",
        "behavior",
        "annotations",
        "podIP",
        "podIPs",
        "x",
    ]);
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6).prop_map(|map| map
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

fn kind() -> impl Strategy<Value = (&'static str, &'static str)> {
    let kinds: Vec<_> =
        Table::builtin().kinds().map(|kind| (kind.api_version, kind.name)).collect();
    select(kinds)
}

proptest! {
    #[test]
    fn any_object_is_read_or_refused_and_stays_as_it_is_when_it_was_read((api_version, kind) in kind(), value in value()) {
        let mut object = match value {
            Value::Object(fields) => Value::Object(fields),
            other => json!({ "spec": other }),
        };
        object["apiVersion"] = json!(api_version);
        object["kind"] = json!(kind);
        match normalize(&object) {
            Ok(read) => {
                prop_assert_eq!(read.form, Form::Builtin);
                let twice = normalize(&read.object).unwrap();
                prop_assert!(twice.dropped.is_empty());
                prop_assert_eq!(normalize(&twice.object).unwrap().object, twice.object);
            }
            Err(faults) => prop_assert!(faults.iter().any(|fault| !fault.is_dropped())),
        }
    }

    #[test]
    fn kinds_of_others_pass_as_they_are(value in value()) {
        let object = json!({ "apiVersion": "example.com/v1", "kind": "Widget", "spec": value });
        let read = normalize(&object).unwrap();
        prop_assert_eq!(read.form, Form::AsWritten);
        prop_assert_eq!(read.object, object);
    }
}

#[test]
fn a_flood_of_faults_is_told_in_part_and_hides_no_refusal() {
    let mut spec: serde_json::Map<_, _> =
        (0..20_000).map(|n| (format!("a{n}"), Value::Null)).collect();
    spec.insert("replicas".to_owned(), json!("many"));
    let faults = normalize(&json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": spec }))
        .unwrap_err();
    assert_eq!(faults.len(), 501);
    assert_eq!(faults.iter().filter(|fault| !fault.is_dropped()).count(), 1);
}
