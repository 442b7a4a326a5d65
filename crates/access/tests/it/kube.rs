//! Requests to clusters.

#![allow(clippy::unwrap_used, reason = "test")]

use nullius_access::{Caller, Obligation, review_access};
use nullius_model::{Reason, Timestamp};
use nullius_rbac::{Attributes, ResourceAttributes};
use serde_json::json;

use crate::fleet::{
    cluster, fleet, fleet_with, fleet_without, grant, judge, judge_as, lock, now, object,
    signed_in, to_group, to_user, told, user,
};

const PODS: &str = "GET /api/v1/namespaces/shop/pods";

#[test]
fn explanations_say_what_decided_and_what_to_do() {
    let fleet = fleet();
    let cases = [
        ("dana", "dev", PODS),
        ("dana", "dev", "GET /api/v1/namespaces/shop/pods/web/exec?command=sh"),
        ("op", "dev", "DELETE /apis/apps/v1/namespaces/ops/deployments/web"),
        ("op", "dev", "GET /metrics"),
        ("dana", "dev", "GET /api"),
        ("dana", "dev", "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
        ("dana", "dev", "GET /api/v1/namespaces/ops/pods"),
        ("dana", "dev", "GET /api/v1/pods"),
        ("dana", "dev", "GET /metrics"),
        ("dana", "dev", "DELETE /api/v1/nodes/n1"),
        ("viktor", "dev", "DELETE /apis/apps/v1/namespaces/shop/deployments/web"),
        ("viktor", "dev", "PUT /apis/example.org/v1/namespaces/shop/widgets/w/scale"),
        ("dana", "prod", "GET /api/v1/namespaces/shop/pods/web"),
        ("dana", "prod", "GET /version"),
        ("viktor", "prod", PODS),
        ("nobody", "dev", PODS),
        ("nobody", "elsewhere", PODS),
        ("gone", "dev", PODS),
        ("stranger", "dev", PODS),
        ("op", "dev", "POST /api/v1/namespaces/nullius-system/pods"),
        ("op", "dev", "GET /api/v1/namespaces/nullius-sessions/secrets/t"),
        ("root", "prod", "PATCH /apis/rbac.authorization.k8s.io/v1/clusterroles/nullius:ceiling"),
    ];
    let mut all = String::new();
    for (user, at, line) in cases {
        let judgement = judge(&fleet, user, at, line);
        all.push_str(&format!("{user} at {at}: {line}\n{}\n\n", told(&judgement)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn nothing_counts_before_session_person_and_locks() {
    let locked = lock("l1", "User", "dana");
    let fleet_locked = fleet_with(&[locked, lock("l2", "Cluster", "dev")]);
    let mut ended = signed_in("dana");
    ended.expires_at = now();
    let reason = |judgement: nullius_access::Judgement| judgement.reason();
    assert_eq!(reason(judge_as(&fleet_locked, &ended, "dev", PODS)), Reason::SessionEnded);
    assert_eq!(reason(judge(&fleet_locked, "gone", "dev", PODS)), Reason::UserGone);
    assert_eq!(reason(judge(&fleet_locked, "dana", "elsewhere", PODS)), Reason::Locked);
    assert_eq!(reason(judge(&fleet_locked, "op", "dev", PODS)), Reason::Locked);
    assert_eq!(reason(judge(&fleet_locked, "nobody", "dev", PODS)), Reason::UnknownCluster);
}

#[test]
fn every_lock_stops_what_it_names_until_it_ends() {
    let session = signed_in("dana").session;
    for (kind, target) in
        [("User", "dana"), ("Group", "devs"), ("Session", session.as_str()), ("Cluster", "dev")]
    {
        let fleet = fleet_with(&[lock("l", kind, target)]);
        let judgement = judge(&fleet, "dana", "dev", PODS);
        assert_eq!(judgement.reason(), Reason::Locked, "{kind}");
        assert_eq!(judgement.explanation.rule.as_deref(), Some("Lock/l"));
        let discovery = judge(&fleet, "dana", "dev", "GET /api");
        assert_eq!(discovery.reason(), Reason::Locked, "{kind}");
    }
    let until = |end: &str| {
        let spec = json!({ "target": { "kind": "User", "name": "dana" }, "expires": end, "message": "lost laptop" });
        judge(&fleet_with(&[object("Lock", "l", spec)]), "dana", "dev", PODS)
    };
    let held = until("2026-03-01T12:00:01Z");
    assert_eq!(held.explanation.sentence, "user `dana` is locked: lost laptop");
    assert!(until("2026-03-01T12:00:00Z").is_allowed());
}

#[test]
fn a_group_that_only_the_session_remembers_still_locks_and_gives_nothing() {
    let mut left = signed_in("viktor");
    left.groups.insert("devs".parse().unwrap());
    assert!(!judge_as(&fleet(), &left, "dev", "POST /api/v1/namespaces/shop/pods").is_allowed());
    let locked = fleet_with(&[lock("l", "Group", "devs")]);
    assert_eq!(judge_as(&locked, &left, "dev", PODS).reason(), Reason::Locked);
}

#[test]
fn a_cluster_that_is_not_ones_own_looks_like_one_that_does_not_exist() {
    let fleet = fleet_with(&[lock("l", "Cluster", "prod")]);
    let hidden = judge(&fleet, "viktor", "prod", PODS);
    let missing = judge(&fleet, "viktor", "none", PODS);
    assert_eq!(told(&hidden).replace("prod", "none"), told(&missing));
    assert_eq!(hidden.permission, None);
}

#[test]
fn what_belongs_to_nullius_is_refused_to_everybody() {
    let fleet = fleet_with(&[grant(
        "all",
        json!({ "subjects": to_user("eve"), "role": "everything", "clusters": { "names": ["dev"] } }),
    )]);
    for refused in [
        "POST /api/v1/namespaces/nullius-sessions/serviceaccounts",
        "POST /api/v1/namespaces/nullius-sessions/serviceaccounts/s/token",
        "PATCH /api/v1/namespaces/nullius-system/secrets/k",
        "GET /api/v1/namespaces/nullius-system/secrets",
        "GET /api/v1/namespaces/nullius-system/secrets?watch=1",
        "GET /api/v1/watch/namespaces/nullius-system/secrets",
        "GET /api/v1/namespaces/nullius-system/pods/agent/exec?command=sh",
        "GET /api/v1/namespaces/nullius-system/pods/agent/proxy/x",
        "GET /api/v1/namespaces/nullius-system/services/agent/proxy/",
        "POST /apis/apps/v1/namespaces/nullius-system/deployments",
        "GET /api/v1/secrets",
        "POST /api/v1/nodes/n1/proxy/run/nullius-system/agent/agent?cmd=id",
        "DELETE /api/v1/namespaces/nullius-sessions",
        "PUT /api/v1/namespaces/nullius-sessions/finalize",
        "POST /apis/rbac.authorization.k8s.io/v1/namespaces/nullius-sessions/rolebindings",
        "DELETE /apis/rbac.authorization.k8s.io/v1/clusterrolebindings/nullius:provisioner",
        "DELETE /apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        "PATCH /apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/nullius-sessions",
        "DELETE /apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
    ] {
        let judgement = judge(&fleet, "eve", "dev", refused);
        assert_eq!(judgement.reason(), Reason::ProtectedNamespace, "{refused}");
    }
    for allowed in [
        "GET /api/v1/namespaces/nullius-system/pods",
        "GET /api/v1/namespaces/nullius-system/pods/agent/log",
        "GET /api/v1/namespaces/nullius-sessions",
        "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/nullius:ceiling",
        "DELETE /apis/rbac.authorization.k8s.io/v1/clusterroles/mine",
        "POST /api/v1/namespaces/shop/serviceaccounts/web/token",
    ] {
        assert!(judge(&fleet, "eve", "dev", allowed).is_allowed(), "{allowed}");
    }
}

#[test]
fn everyone_with_a_live_grant_may_look_around_and_nobody_else() {
    let fleet = fleet();
    for open in [
        "GET /version",
        "GET /version/",
        "GET /healthz",
        "GET /api",
        "GET /apis/apps/v1/",
        "GET /openapi/v3/apis/apps/v1?hash=x",
        "POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        "POST /apis/authentication.k8s.io/v1/selfsubjectreviews",
    ] {
        let judgement = judge(&fleet, "viktor", "dev", open);
        assert_eq!(judgement.reason(), Reason::SignedIn, "{open}");
        assert!(judge(&fleet, "dana", "prod", open).reason() == Reason::NoGrant, "{open}");
        assert!(judge(&fleet, "nobody", "dev", open).reason() == Reason::UnknownCluster, "{open}");
    }
    for closed in [
        "POST /version",
        "GET /metrics",
        "GET /healthz/etcd",
        "GET /logs/",
        "GET /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "POST /apis/authorization.k8s.io/v1/subjectaccessreviews",
        "POST /apis/authorization.k8s.io/v1/namespaces/shop/localsubjectaccessreviews",
    ] {
        assert_eq!(judge(&fleet, "viktor", "dev", closed).reason(), Reason::NoGrant, "{closed}");
    }
}

#[test]
fn a_grant_in_namespaces_reaches_nothing_outside_them() {
    let fleet = fleet_with(&[grant(
        "all-in-shop",
        json!({ "subjects": to_user("viktor"), "role": "everything", "clusters": { "names": ["dev"] }, "namespaces": ["shop"] }),
    )]);
    for inside in ["GET /api/v1/namespaces/shop", "DELETE /api/v1/namespaces/shop", PODS] {
        assert!(judge(&fleet, "viktor", "dev", inside).is_allowed(), "{inside}");
    }
    for outside in [
        "GET /api/v1/configmaps",
        "GET /api/v1/nodes",
        "POST /api/v1/namespaces",
        "GET /api/v1/namespaces/ops/secrets",
        "GET /apis/rbac.authorization.k8s.io/v1/clusterroles",
        "GET /metrics",
    ] {
        assert_eq!(judge(&fleet, "viktor", "dev", outside).reason(), Reason::NoGrant, "{outside}");
    }
}

#[test]
fn a_grant_ends_for_everyone_or_some_time_after_sign_in() {
    let mut late = signed_in("viktor");
    late.signed_in_at = "2026-03-01T04:00:00Z".parse().unwrap();
    let denied = judge_as(&fleet(), &late, "dev", PODS);
    assert_eq!(denied.reason(), Reason::NoGrant);
    assert!(denied.permission.is_some());
    assert!(denied.explanation.next.unwrap().contains("sign in again with `nullius login`"));

    let allowed = judge(&fleet(), "viktor", "dev", PODS);
    let end: Timestamp = "2026-03-01T19:00:00Z".parse().unwrap();
    assert_eq!(allowed.obligations, [Obligation::Record, Obligation::Expire(end)]);
    let session_end = signed_in("dana").expires_at;
    let allowed = judge(&fleet(), "dana", "dev", PODS);
    assert!(allowed.obligations.contains(&Obligation::Expire(session_end)));
}

#[test]
fn a_dangling_reference_makes_rights_narrower() {
    for (kind, gone) in [("Role", "developer"), ("Group", "devs"), ("Cluster", "dev")] {
        let fleet = fleet_without(kind, gone);
        assert!(!judge(&fleet, "dana", "dev", PODS).is_allowed(), "{kind}");
        assert!(!fleet.problems().is_empty() || kind == "Cluster");
    }
    let broken = object("Role", "developer", json!({ "rules": [{ "verbs": ["*"] }] }));
    assert!(!judge(&fleet_with(&[broken]), "dana", "dev", PODS).is_allowed());
}

#[test]
fn protected_namespaces_of_a_stored_grant_are_left_out() {
    let fleet = fleet_with(&[grant(
        "sly",
        json!({ "subjects": to_user("viktor"), "role": "developer", "clusters": { "names": ["dev"] }, "namespaces": ["nullius-system", "shop"] }),
    )]);
    let line = "GET /api/v1/namespaces/nullius-system/configmaps";
    assert!(!judge(&fleet, "viktor", "dev", line).is_allowed());
    assert!(judge(&fleet, "viktor", "dev", "POST /api/v1/namespaces/shop/pods").is_allowed());
}

#[test]
fn a_permission_keeps_its_id_when_a_file_is_renamed_and_not_when_it_says_something_else() {
    let base = judge(&fleet(), "dana", "dev", PODS).permission.unwrap();
    let spec = json!({ "subjects": to_group("devs"), "role": "developer", "clusters": { "names": ["dev"] }, "namespaces": ["shop"] });
    let mut renamed = grant("a-new-name", spec.clone());
    renamed.metadata_mut().uid = Some("Grant-dev-shop-uid".to_owned());
    let renamed = fleet_with(&[renamed]);
    assert_eq!(judge(&renamed, "dana", "dev", PODS).permission, Some(base.clone()));

    let other = "GET /api/v1/namespaces/test/pods";
    assert_ne!(judge(&fleet(), "dana", "dev", other).permission, Some(base.clone()));
    let other_uid = fleet_with(&[grant("a-other", spec)]);
    assert_ne!(judge(&other_uid, "dana", "dev", PODS).permission, Some(base.clone()));

    let reordered = json!({ "rules": [
        { "apiGroups": [""], "resources": ["events"], "verbs": ["get"] },
        { "apiGroups": ["apps", ""], "resources": ["deployments", "pods", "configmaps", "pods/log"], "verbs": ["list", "get", "watch", "create", "update", "patch", "delete"] },
    ]});
    let reordered = fleet_with(&[object("Role", "developer", reordered)]);
    assert_eq!(judge(&reordered, "dana", "dev", PODS).permission, Some(base.clone()));
    let narrower =
        json!({ "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list"] }] });
    let narrower = fleet_with(&[object("Role", "developer", narrower)]);
    assert_ne!(judge(&narrower, "dana", "dev", PODS).permission, Some(base));
}

#[test]
fn grants_are_tried_in_order_of_their_names() {
    let spec =
        json!({ "subjects": to_user("dana"), "role": "viewer", "clusters": { "names": ["dev"] } });
    let rule = |name: &str| {
        let fleet = fleet_with(&[grant(name, spec.clone())]);
        judge(&fleet, "dana", "dev", PODS).explanation.rule.unwrap()
    };
    assert_eq!(rule("aaa"), "Grant/aaa → Role/viewer rule 1");
    assert_eq!(rule("zzz"), "Grant/dev-shop → Role/developer rule 1");
}

#[test]
fn whoever_is_asked_is_named_only_where_they_are_few() {
    let more: Vec<_> = ["a1", "a2"].iter().map(|name| user(name, &["admins"])).collect();
    let next = |fleet: &nullius_access::Snapshot| {
        judge(fleet, "viktor", "dev", "DELETE /api/v1/nodes/n").explanation.next
    };
    assert!(next(&fleet()).unwrap().starts_with("ask an admin (`eve`, `root`) for a grant"));
    assert!(next(&fleet_with(&more)).unwrap().starts_with("ask an admin for a grant"));
}

#[test]
fn a_review_says_what_a_request_would_get() {
    let fleet = fleet();
    let dana = signed_in("dana");
    let ask = |verb: &str, subresource: &str, namespace: &str| {
        let pods =
            ResourceAttributes { resource: "pods", subresource, namespace, ..Default::default() };
        let asked = Attributes::resource(verb, pods);
        review_access(&fleet, &Caller::new(&dana), &cluster("dev"), &asked, now()).is_allowed()
    };
    assert!(ask("list", "", "shop"));
    assert!(!ask("list", "", "ops"));
    assert!(!ask("list", "", ""));
    assert!(ask("create", "exec", "shop"));
    assert!(ask("get", "exec", "shop"));
    assert!(!ask("*", "", "shop"));
    assert!(!ask("create", "", "nullius-system"));
    assert!(!ask("impersonate", "", "shop"));
}

#[test]
fn text_of_a_request_cannot_break_an_explanation() {
    let judgement =
        judge(&fleet(), "viktor", "dev", "DELETE /api/v1/namespaces/shop/pods/x%60;rm%20-rf");
    let text = judgement.explanation.to_string();
    assert!(text.contains("`x';rm -rf`"), "{text}");
}
