//! Properties that hold for every fleet, request and change.

#![allow(clippy::unwrap_used, reason = "test")]

use nullius_access::{Caller, Judgement, Snapshot, judge_kube, plan};
use nullius_model::{AnyObject, Reason};
use nullius_rbac::{RequestInfo, Scope, first_match};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use crate::fleet::{cluster, fleet_with, grant, lock, now, signed_in, to_group, to_user};

const ROLES: [&str; 4] = ["viewer", "developer", "everything", "missing"];

prop_compose! {
    fn any_grant()(
        role in select(&ROLES[..]),
        subject in select(vec![to_user("dana"), to_user("viktor"), to_group("devs"), to_group("none")]),
        clusters in select(vec![
            json!({ "names": ["dev"] }),
            json!({ "names": ["prod", "dev"] }),
            json!({ "matchLabels": { "env": "prod" } }),
            json!({}),
        ]),
        namespaces in select(vec![Value::Null, json!(["shop"]), json!(["ops", "shop"]), json!(["nullius-system"])]),
        life in select(vec![Value::Null, json!("30m"), json!("8h")]),
        expires in select(vec![Value::Null, json!("2026-03-01T11:00:00Z"), json!("2026-03-02T00:00:00Z")]),
    ) -> Value {
        json!({ "subjects": subject, "role": role, "clusters": clusters, "namespaces": namespaces, "duration": life, "expires": expires })
    }
}

fn any_line() -> impl Strategy<Value = String> {
    let method = select(vec!["GET", "POST", "PUT", "PATCH", "DELETE"]);
    let path = select(vec![
        "/api/v1/pods",
        "/api/v1/namespaces/shop/pods",
        "/api/v1/namespaces/shop/pods/web",
        "/api/v1/namespaces/shop/pods/web/exec",
        "/api/v1/namespaces/ops/secrets/k",
        "/api/v1/namespaces/ops",
        "/api/v1/namespaces",
        "/api/v1/nodes/n",
        "/api/v1/namespaces/nullius-system/pods",
        "/api/v1/namespaces/nullius-system/secrets",
        "/apis/apps/v1/namespaces/ops/deployments?watch=1",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/x",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/nullius:x",
        "/metrics",
        "/version",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    ]);
    (method, path).prop_map(|(method, path)| format!("{method} {path}"))
}

fn numbered(specs: &[Value]) -> Vec<AnyObject> {
    specs.iter().enumerate().map(|(n, spec)| grant(&format!("g{n}"), spec.clone())).collect()
}

fn ask(snapshot: &Snapshot, user: &str, at: &str, line: &str) -> (Judgement, RequestInfo) {
    let (method, target) = line.split_once(' ').unwrap();
    let request = RequestInfo::parse(method, target).unwrap();
    let identity = signed_in(user);
    let judgement = judge_kube(snapshot, &Caller::new(&identity), &cluster(at), &request, now());
    (judgement, request)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn a_grant_more_never_takes_and_one_less_never_gives(
        specs in vec(any_grant(), 1..5),
        user in select(vec!["dana", "viktor", "op", "nobody"]),
        at in select(vec!["dev", "prod"]),
        lines in vec(any_line(), 1..8),
    ) {
        let all = numbered(&specs);
        let more = fleet_with(&all);
        let fewer = fleet_with(&all[1..]);
        for line in lines {
            let with_fewer = ask(&fewer, user, at, &line).0.is_allowed();
            let with_more = ask(&more, user, at, &line).0.is_allowed();
            prop_assert!(!with_fewer || with_more, "{line}");
        }
    }

    #[test]
    fn a_lock_always_denies(
        specs in vec(any_grant(), 0..5),
        (kind, target) in select(vec![("User", "dana"), ("Group", "devs"), ("Cluster", "dev")]),
        lines in vec(any_line(), 1..8),
    ) {
        let mut all = numbered(&specs);
        all.push(lock("l", kind, target));
        let fleet = fleet_with(&all);
        for line in lines {
            prop_assert_eq!(ask(&fleet, "dana", "dev", &line).0.reason(), Reason::Locked);
        }
    }

    #[test]
    fn grants_in_namespaces_never_reach_beyond_them(
        specs in vec(any_grant(), 1..5),
        lines in vec(any_line(), 1..8),
    ) {
        let mut specs = specs;
        for spec in &mut specs {
            if spec["namespaces"].is_null() {
                spec["namespaces"] = json!(["ops"]);
            }
        }
        let fleet = fleet_with(&numbered(&specs));
        for line in lines {
            let (judgement, request) = ask(&fleet, "dana", "dev", &line);
            if judgement.is_allowed() && request.attributes().namespace().is_empty() {
                prop_assert_eq!(judgement.reason(), Reason::SignedIn, "{}", line);
            }
        }
    }

    #[test]
    fn what_a_grant_allows_lies_within_the_plan(
        specs in vec(any_grant(), 0..5),
        user in select(vec!["dana", "viktor", "op"]),
        at in select(vec!["dev", "prod"]),
        lines in vec(any_line(), 1..8),
    ) {
        let fleet = fleet_with(&numbered(&specs));
        let bound = plan(&fleet, &signed_in(user), &cluster(at), now());
        for line in lines {
            let (judgement, request) = ask(&fleet, user, at, &line);
            let asked = request.attributes();
            let within = bound.iter().any(|binding| {
                let scope = binding.namespace.as_ref();
                let scope = scope.map_or(Scope::Cluster, |name| Scope::Namespace(name.as_str()));
                first_match(&binding.rules, scope, &asked).is_some()
            });
            if judgement.reason() == Reason::GrantMatched {
                prop_assert!(within, "{line}");
                prop_assert!(judgement.permission.is_some());
            }
            if judgement.reason() == Reason::NoGrant {
                prop_assert!(!within, "{line}");
            }
        }
    }
}
