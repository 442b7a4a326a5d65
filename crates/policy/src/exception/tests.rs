#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

use serde_json::{Value as Json, json};

use super::*;
use crate::pod_security::{Level, LevelVersion, Version, evaluate, except};

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn exception(rules: &Json, scope: &Json) -> Json {
    json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "PolicyException",
        "metadata": { "name": "collector", "namespace": "exceptions" },
        "spec": { "owner": "observability", "reason": "reads the nodes' logs", "expires": "2026-08-01T00:00:00Z",
                  "rules": rules, "scope": scope },
    })
}

fn read(rules: Json, scope: Json) -> Exception {
    Exception::read(&exception(&rules, &scope), now()).unwrap()
}

/// `field: message` of each fault.
fn faults(object: &Json) -> Vec<String> {
    let faults = Exception::read(object, now()).unwrap_err();
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_wrong_with_an_exception_is_told_by_its_field() {
    let good = exception(&json!([{ "policy": "p" }]), &json!({ "namespaces": ["shop"] }));
    assert!(Exception::read(&good, now()).is_ok());
    let with = |pointer: &str, value: Json| {
        let mut object = good.clone();
        *object.pointer_mut(pointer).unwrap() = value;
        faults(&object)
    };
    let cases = [
        ("/spec/owner", json!(" "), "spec.owner: say who"),
        ("/spec/reason", json!(""), "spec.reason: say who"),
        ("/spec/rules", json!([]), "spec.rules: name the policy"),
        (
            "/spec/rules",
            json!([{ "policy": "PodSecurity", "checks": ["hostPort"] }]),
            "`hostPort` is no check",
        ),
        (
            "/spec/expires",
            json!("2026-08-30T00:00:01Z"),
            "spec.expires: an exception lasts 90 days",
        ),
        ("/spec/expires", json!("soon"), "spec.expires: "),
        ("/spec/scope", json!({}), "spec.scope: say for which objects"),
        ("/spec/scope", json!({ "namespaces": ["*"] }), "every namespace: list them"),
        ("/spec/scope", json!({ "names": ["a"], "images": ["**"] }), "it narrows nothing"),
        ("/spec/scope", json!({ "names": ["a"], "container": ["a"] }), "unknown field `container`"),
        (
            "/spec/scope",
            json!({ "names": ["a"], "values": [{ "path": "spec.volumes[0]", "values": [1] }] }),
            "spec.scope.values[0].path: `spec.volumes[0]`: an item is not named by its place",
        ),
        (
            "/spec/scope",
            json!({ "names": ["a"], "values": [{ "path": "spec..a", "values": [1] }] }),
            "the name of a field is missing",
        ),
        (
            "/spec/scope",
            json!({ "names": ["a"], "containers": ["a"], "values": [{ "path": "spec.hostPID", "values": [true] }] }),
            "it must be a field of them",
        ),
        (
            "/spec/scope",
            json!({ "names": ["a"], "values": [{ "path": "spec.hostPID", "values": [] }] }),
            "spec.scope.values[0].values: name the values",
        ),
        ("/apiVersion", json!("nullius.dev/v2"), "expected `apiVersion: nullius.dev/v1alpha1`"),
    ];
    for (pointer, value, told) in cases {
        let all = with(pointer, value);
        assert!(all.iter().any(|fault| fault.contains(told)), "{told}: {all:?}");
    }
}

#[test]
fn ninety_days_count_from_when_it_was_made_and_the_end_is_the_end() {
    let mut object = exception(&json!([{ "policy": "p" }]), &json!({ "names": ["a"] }));
    object["metadata"]["creationTimestamp"] = json!("2026-03-01T00:00:00Z");
    assert_eq!(faults(&object).len(), 1, "made again and again by an edit of its end");
    object["spec"]["expires"] = json!("2026-05-30T00:00:00Z");
    let exception = Exception::read(&object, now()).unwrap();
    assert!(exception.holds_at("2026-05-29T23:59:59Z".parse().unwrap()));
    assert!(!exception.holds_at("2026-05-30T00:00:00Z".parse().unwrap()));
}

#[test]
fn an_exception_is_for_its_objects_and_no_other() {
    let rules = json!([{ "policy": "p", "checks": ["no host ports"] }, { "policy": "q" }]);
    let scope = json!({ "namespaces": ["shop", "team-*"], "kinds": ["Pod"], "names": ["web-*"] });
    let exception = read(rules, scope);
    let is_for = |policy: &str, check: &str, kind: &str, namespace: &str, name: &str| {
        exception.is_for(policy, &[check], Subject { kind, namespace, name })
    };
    assert!(is_for("p", "no host ports", "Pod", "shop", "web-1"));
    assert!(is_for("q", "anything", "Pod", "team-a", "web-"));
    assert!(!is_for("p", "another check", "Pod", "shop", "web-1"));
    assert!(!is_for("r", "no host ports", "Pod", "shop", "web-1"));
    assert!(!is_for("q", "", "Deployment", "shop", "web-1"));
    assert!(!is_for("q", "", "Pod", "shop2", "web-1"), "another namespace");
    assert!(!is_for("q", "", "Pod", "", "web-1"), "no namespace");
    assert!(!is_for("q", "", "Pod", "shop", "db"));
    let cluster = read(json!([{ "policy": "q" }]), json!({ "names": ["edge"] }));
    let subject = |namespace| Subject { kind: "IngressClass", namespace, name: "edge" };
    assert!(cluster.is_for("q", &[], subject("")));
    assert!(!cluster.is_for("q", &[], subject("shop")), "without namespaces only what is in none");
}

fn pod(containers: &Json) -> Json {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" }, "spec": { "containers": containers } })
}

/// What is left of the baseline's complaints.
fn left(object: &Json, workload: Workload, exceptions: &[Exception]) -> (Vec<String>, Vec<String>) {
    let policy = LevelVersion { level: Level::Baseline, version: Version::Latest };
    let template = workload.read(object).unwrap().unwrap();
    let subject = Subject { kind: workload.kind(), namespace: "shop", name: "web" };
    let exceptions: Vec<&Exception> = exceptions.iter().collect();
    let evaluation = evaluate(policy, &template.pod);
    let excepted =
        except(evaluation, Version::NEWEST_KNOWN, workload, object, subject, &exceptions);
    let ids = |check: crate::pod_security::CheckId| check.as_str().to_owned();
    (
        excepted.evaluation.violations.iter().map(|each| ids(each.check)).collect(),
        excepted.accepted.iter().map(|(each, _)| ids(each.check)).collect(),
    )
}

fn of_container(name: &str) -> Exception {
    read(
        json!([{ "policy": "PodSecurity", "checks": ["privileged"] }]),
        json!({ "namespaces": ["shop"], "containers": [name] }),
    )
}

#[test]
fn one_exception_covers_a_violation_whole_and_two_never_add_up() {
    let privileged =
        |name: &str| json!({ "name": name, "securityContext": { "privileged": true } });
    let one = pod(&json!([privileged("a"), { "name": "b" }]));
    assert_eq!(
        left(&one, Workload::Pod, &[of_container("a")]),
        (vec![], vec!["privileged".into()])
    );
    assert_eq!(left(&one, Workload::Pod, &[of_container("b")]).0, ["privileged"]);
    let both = pod(&json!([privileged("a"), privileged("b")]));
    let two = [of_container("a"), of_container("b")];
    assert_eq!(left(&both, Workload::Pod, &two).0, ["privileged"]);
    let init = json!({ "apiVersion": "v1", "kind": "Pod", "spec": {
        "containers": [{ "name": "x" }], "initContainers": [privileged("a")], "ephemeralContainers": [privileged("a2")] } });
    assert_eq!(left(&init, Workload::Pod, &[of_container("a")]).0, ["privileged"]);
    assert_eq!(left(&init, Workload::Pod, &[of_container("a*")]).1, ["privileged"]);
}

#[test]
fn values_are_accepted_one_by_one_and_only_where_the_scope_says() {
    let adding = |name: &str, add: &[&str]| {
        json!({ "name": name, "image": format!("registry.example/{name}:1"),
                "securityContext": { "capabilities": { "add": add } } })
    };
    let check = "capabilities_baseline";
    let rule = json!([{ "policy": "PodSecurity", "checks": [check] }]);
    let values = json!([{ "path": "spec.containers[*].securityContext.capabilities.add", "values": ["NET_ADMIN"] }]);
    let scope =
        json!({ "namespaces": ["shop"], "images": ["registry.example/a:*"], "values": values });
    let accepted = [read(rule.clone(), scope)];
    let fine = pod(&json!([adding("a", &["NET_ADMIN"])]));
    assert_eq!(left(&fine, Workload::Pod, &accepted).1, [check]);
    let more = pod(&json!([adding("a", &["NET_ADMIN", "SYS_ADMIN"])]));
    assert_eq!(left(&more, Workload::Pod, &accepted).0, [check]);
    let elsewhere = pod(&json!([adding("a", &["NET_ADMIN"]), adding("b", &["NET_ADMIN"])]));
    assert_eq!(left(&elsewhere, Workload::Pod, &accepted).0, [check]);

    let volumes =
        json!([{ "path": "spec.volumes[*]", "values": [{ "hostPath": { "path": "/var/log" } }] }]);
    let scope = json!({ "namespaces": ["shop"], "values": volumes });
    let logs = [read(json!([{ "policy": "PodSecurity" }]), scope)];
    let workload = |paths: &[&str]| {
        let volumes: Vec<Json> = paths
            .iter()
            .enumerate()
            .map(|(index, path)| json!({ "name": format!("v{index}"), "hostPath": { "path": path, "type": "Directory" } }))
            .collect();
        json!({ "apiVersion": "apps/v1", "kind": "DaemonSet",
                "spec": { "template": { "spec": { "containers": [{ "name": "a" }], "volumes": volumes } } } })
    };
    assert_eq!(left(&workload(&["/var/log"]), Workload::DaemonSet, &logs).1, ["hostPathVolumes"]);
    assert_eq!(
        left(&workload(&["/var/log", "/"]), Workload::DaemonSet, &logs).0,
        ["hostPathVolumes"]
    );
}

#[test]
fn an_object_without_the_parts_is_not_covered() {
    let pods =
        read(json!([{ "policy": "p" }]), json!({ "namespaces": ["shop"], "containers": ["a"] }));
    assert_eq!(pods.without(&json!({ "data": {} }), None), Extent::Nothing);
    assert_eq!(pods.without(&pod(&json!([{ "name": "b" }])), Some(Workload::Pod)), Extent::Nothing);
    let key = json!([{ "path": "metadata.annotations[example.com/a]", "values": ["1"] }]);
    let annotated =
        read(json!([{ "policy": "p" }]), json!({ "namespaces": ["shop"], "values": key }));
    let object = json!({ "metadata": { "annotations": { "example.com/a": "1", "b": "2" } } });
    let rest = json!({ "metadata": { "annotations": { "b": "2" } } });
    assert_eq!(annotated.without(&object, None), Extent::Rest(rest));
}
