//! Errors in objects name the field and what to do.

#![allow(clippy::unwrap_used, reason = "test")]

use nullius_access::validate;
use nullius_model::AnyObject;
use serde_json::json;

use crate::fleet::{fleet, grant, labelled, object, objects, to_group, to_user, user};

fn errors(object: &AnyObject) -> Vec<String> {
    match validate(object, &fleet()) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn every_object_of_the_fleet_is_valid() {
    for object in objects() {
        assert_eq!(errors(&object), Vec::<String>::new());
    }
}

#[test]
fn errors_name_field_and_remedy() {
    let dev = json!({ "names": ["dev"] });
    let wrong = [
        user("dana", &["devs", "nowhere"]),
        object("User", "x", json!({ "displayName": "a\u{1b}[31m" })),
        object("Cluster", "Big", json!({})),
        object("Cluster", "short", json!({ "authorityLife": "29m" })),
        object("Cluster", "long", json!({ "authorityLife": "91d" })),
        object("Role", "a.b", json!({ "rules": [] })),
        object(
            "Role",
            "r",
            json!({ "rules": [
                { "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] },
                { "apiGroups": [""], "resources": ["pods"], "nonResourceURLs": ["/x"] },
            ]}),
        ),
        grant("g", json!({ "subjects": [] })),
        grant("g", json!({ "subjects": to_user("nemo"), "role": "none", "clusters": {} })),
        grant(
            "g",
            json!({ "subjects": to_group("nemo"), "role": "viewer", "clusters": dev, "namespaces": [] }),
        ),
        grant(
            "g",
            json!({ "subjects": to_user("dana"), "role": "viewer", "clusters": dev, "namespaces": ["nullius-sessions", "shop"] }),
        ),
        grant(
            "g",
            json!({ "subjects": to_user("dana"), "role": "viewer", "clusters": dev, "hubRole": "admin", "namespaces": ["shop"] }),
        ),
        labelled("Cluster", "c", json!({ "env": "a b", "ok.example/x": "y", "-x": "" }), json!({})),
        object(
            "Lock",
            "l",
            json!({ "target": { "kind": "User", "name": "nemo" }, "message": "x".repeat(600) }),
        ),
    ];
    let mut all = String::new();
    for object in &wrong {
        all.push_str(&format!("{} {}\n", object.kind(), object.name()));
        for error in errors(object) {
            all.push_str(&format!("  {error}\n"));
        }
    }
    insta::assert_snapshot!(all);
}
