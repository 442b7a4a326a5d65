//! The fleet that the tests share.

#![allow(clippy::unwrap_used, reason = "test")]

use std::{collections::BTreeSet, sync::LazyLock};

use nullius_access::{Caller, Judgement, Snapshot, judge_kube};
use nullius_model::{
    AnyObject, ClusterName, Factor, Identity, ObjectName, Proof, SessionId, Timestamp, UserName,
};
use nullius_rbac::RequestInfo;
use serde_json::{Value, json};

pub(crate) fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

pub(crate) fn object(kind: &str, name: &str, spec: Value) -> AnyObject {
    labelled(kind, name, json!({}), spec)
}

pub(crate) fn labelled(kind: &str, name: &str, labels: Value, spec: Value) -> AnyObject {
    let uid = format!("{kind}-{name}-uid");
    serde_json::from_value(json!({
        "apiVersion": "nullius.dev/v1alpha1",
        "kind": kind,
        "metadata": { "name": name, "uid": uid, "labels": labels },
        "spec": spec,
    }))
    .unwrap()
}

pub(crate) fn user(name: &str, groups: &[&str]) -> AnyObject {
    object("User", name, json!({ "groups": groups }))
}

pub(crate) fn grant(name: &str, spec: Value) -> AnyObject {
    object("Grant", name, spec)
}

pub(crate) fn lock(name: &str, kind: &str, target: &str) -> AnyObject {
    object("Lock", name, json!({ "target": { "kind": kind, "name": target } }))
}

pub(crate) fn to_user(name: &str) -> Value {
    json!([{ "kind": "User", "name": name }])
}

pub(crate) fn to_group(name: &str) -> Value {
    json!([{ "kind": "Group", "name": name }])
}

/// The objects of the fleet.
pub(crate) fn objects() -> Vec<AnyObject> {
    let viewer = json!({ "rules": [
        { "apiGroups": ["", "apps"], "resources": ["pods", "pods/log", "deployments", "namespaces"], "verbs": ["get", "list", "watch"] },
    ]});
    let developer = json!({ "rules": [
        { "apiGroups": ["", "apps"], "resources": ["pods", "pods/log", "deployments", "configmaps"], "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"] },
        { "apiGroups": [""], "resources": ["pods/exec", "pods/portforward"], "verbs": ["create"] },
        { "nonResourceURLs": ["/metrics"], "verbs": ["get"] },
    ]});
    let everything = json!({ "rules": [
        { "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] },
        { "nonResourceURLs": ["*"], "verbs": ["*"] },
    ]});
    vec![
        object("Group", "admins", json!({})),
        object("Group", "devs", json!({})),
        object("Group", "idle", json!({})),
        user("root", &["admins"]),
        user("eve", &["admins"]),
        user("op", &[]),
        user("app", &[]),
        user("aud", &[]),
        user("dana", &["devs"]),
        user("viktor", &[]),
        user("nobody", &["idle"]),
        object("User", "gone", json!({ "groups": ["devs"], "disabled": true })),
        labelled("Cluster", "dev", json!({ "env": "dev" }), json!({})),
        labelled("Cluster", "prod", json!({ "env": "prod" }), json!({})),
        object("Role", "viewer", viewer),
        object("Role", "developer", developer),
        object("Role", "everything", everything),
        grant("hub-admins", json!({ "subjects": to_group("admins"), "hubRole": "admin" })),
        grant("hub-op", json!({ "subjects": to_user("op"), "hubRole": "operator" })),
        grant("hub-app", json!({ "subjects": to_user("app"), "hubRole": "approver" })),
        grant("hub-aud", json!({ "subjects": to_user("aud"), "hubRole": "auditor" })),
        grant(
            "dev-shop",
            json!({ "subjects": to_group("devs"), "role": "developer", "clusters": { "names": ["dev"] }, "namespaces": ["shop", "test"] }),
        ),
        grant(
            "op-dev",
            json!({ "subjects": to_user("op"), "role": "developer", "clusters": { "matchLabels": { "env": "dev" } } }),
        ),
        grant(
            "root-prod",
            json!({ "subjects": to_user("root"), "role": "everything", "clusters": { "names": ["prod"] } }),
        ),
        grant(
            "view-dev",
            json!({ "subjects": to_user("viktor"), "role": "viewer", "clusters": { "names": ["dev"] }, "duration": "8h" }),
        ),
        grant(
            "view-prod-once",
            json!({ "subjects": to_user("dana"), "role": "viewer", "clusters": { "names": ["prod"] }, "expires": "2026-02-01T00:00:00Z" }),
        ),
    ]
}

pub(crate) fn fleet() -> Snapshot {
    Snapshot::compile(&objects(), 7)
}

/// The fleet with some objects more, or in place of those with their names.
pub(crate) fn fleet_with(more: &[AnyObject]) -> Snapshot {
    let mut all = objects();
    all.retain(|have| !more.iter().any(|new| key(new) == key(have)));
    all.extend(more.iter().cloned());
    Snapshot::compile(&all, 8)
}

pub(crate) fn fleet_without(kind: &str, name: &str) -> Snapshot {
    let mut all = objects();
    all.retain(|have| !(have.kind().as_str() == kind && have.name().as_str() == name));
    Snapshot::compile(&all, 8)
}

fn key(object: &AnyObject) -> (nullius_model::Kind, ObjectName) {
    (object.kind(), object.name().clone())
}

/// Somebody who signed in an hour ago and proved a factor five minutes ago.
pub(crate) fn signed_in(user: &str) -> Identity {
    static FLEET: LazyLock<Snapshot> = LazyLock::new(fleet);
    let user: UserName = user.parse().unwrap();
    Identity {
        groups: FLEET.groups_of(&user),
        user,
        session: SessionId::from_bits(42),
        proof: Proof {
            factors: BTreeSet::from([Factor::Password, Factor::Totp]),
            factor_at: "2026-03-01T11:55:00Z".parse().unwrap(),
        },
        signed_in_at: "2026-03-01T11:00:00Z".parse().unwrap(),
        expires_at: "2026-03-01T23:00:00Z".parse().unwrap(),
    }
}

pub(crate) fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

pub(crate) fn name(name: &str) -> ObjectName {
    name.parse().unwrap()
}

pub(crate) fn request(line: &str) -> RequestInfo {
    let (method, target) = line.split_once(' ').unwrap();
    RequestInfo::parse(method, target).unwrap()
}

pub(crate) fn judge(snapshot: &Snapshot, user: &str, at: &str, line: &str) -> Judgement {
    judge_as(snapshot, &signed_in(user), at, line)
}

pub(crate) fn judge_as(
    snapshot: &Snapshot,
    identity: &Identity,
    at: &str,
    line: &str,
) -> Judgement {
    judge_kube(snapshot, &Caller::new(identity), &cluster(at), &request(line), now())
}

/// A judgement as people and machines see it, on a few lines.
pub(crate) fn told(judgement: &Judgement) -> String {
    let verdict = if judgement.is_allowed() { "allow" } else { "deny" };
    let permission = if judgement.permission.is_some() { " with permission" } else { "" };
    let why = &judgement.explanation;
    let mut text = format!("{verdict} {}{permission}\n  {}", why.reason.as_str(), why.sentence);
    for (label, part) in [("rule", &why.rule), ("next", &why.next)] {
        if let Some(part) = part {
            text.push_str(&format!("\n  {label}: {part}"));
        }
    }
    text
}
