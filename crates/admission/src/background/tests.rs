#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
use nullius_model::Enforcement;
use serde_json::json;

use super::*;

fn namespace(name: &str, labels: &Json) -> Json {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "uid": name, "labels": labels } })
}

fn policy(expression: &str) -> (String, String) {
    let text = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
          "metadata": { "name": "few" },
          "spec": { "matchConstraints": { "resourceRules": [{ "apiGroups": ["apps"], "apiVersions": ["v1"],
              "operations": ["CREATE", "UPDATE"], "resources": ["deployments"] }] },
            "validations": [{ "expression": expression, "message": "too many" }] } },
        { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
          "metadata": { "name": "few-here" }, "spec": { "policyName": "few", "validationActions": ["Warn"] } },
    ]});
    ("policies".to_owned(), text.to_string())
}

fn standards(policies: Vec<(String, String)>, labels: &Json) -> Standards {
    let namespaces = vec![namespace("shop", labels)];
    let measures = Measures { policies, namespaces, minor: 36, ..Measures::default() };
    Standards::new(&measures, "2026-01-01T00:00:00Z".parse().unwrap())
}

fn good_pod() -> Json {
    json!({ "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [{ "name": "c", "image": "i:1", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }] })
}

fn metadata(uid: &str, version: u32, owner: Option<(&str, &str)>) -> Json {
    let mut metadata = json!({ "namespace": "shop", "name": uid, "uid": uid, "resourceVersion": version.to_string() });
    if let Some((kind, owner)) = owner {
        metadata["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": owner, "controller": true }]);
    }
    metadata
}

fn deployment(version: u32, replicas: u32, pod: &Json) -> Json {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("web", version, None),
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "a": "b" } },
            "template": { "metadata": { "labels": { "a": "b" } }, "spec": pod } } })
}

fn replica_set(pod: &Json) -> Json {
    json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata("web-1", 1, Some(("Deployment", "web"))),
        "spec": { "selector": { "matchLabels": { "a": "b" } },
            "template": { "metadata": { "labels": { "a": "b" } }, "spec": pod } } })
}

fn pod(uid: &str, version: u32, spec: &Json, owner: Option<(&str, &str)>) -> Json {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata(uid, version, owner), "spec": spec })
}

fn checks(told: &Told) -> Vec<&str> {
    told.found.iter().map(|found| found.check.as_str()).collect()
}

#[test]
fn an_object_is_judged_once_for_each_version_and_resolved_when_it_is_mended_or_gone() {
    let mut scan =
        Background::new(standards(vec![policy("object.spec.replicas <= 3")], &json!({})));
    scan.begin();
    let seen = scan.sees(&deployment(1, 5, &good_pod()));
    let [told] = seen.told.as_slice() else { panic!("{seen:?}") };
    assert_eq!((told.object.name.as_str(), told.part), ("web", FoundPart::Object));
    let [found] = told.found.as_slice() else { panic!("{told:?}") };
    assert_eq!(found.policy, "ValidatingAdmissionPolicy/few");
    assert_eq!((found.binding.as_str(), found.check.as_str()), ("few-here", "validation 1"));
    assert_eq!((found.message.as_str(), found.enforcement), ("too many", Enforcement::Warn));
    assert_eq!(found.evidence, ["spec.replicas"]);

    assert!(scan.knows("web", "1"));
    let again = scan.sees(&deployment(1, 5, &good_pod()));
    assert_eq!((again.told.len(), again.stands.as_deref()), (0, Some("web")));
    let mended = scan.sees(&deployment(2, 1, &good_pod()));
    assert!(mended.told[0].found.is_empty(), "nothing is left of it: {mended:?}");
    let quiet = scan.sees(&deployment(3, 2, &good_pod()));
    assert_eq!(quiet, Seen::default(), "of what is well nothing is told");

    scan.sees(&deployment(4, 9, &good_pod()));
    let gone = scan.gone("web");
    assert!(gone[0].found.is_empty() && gone[0].object.name == "web", "{gone:?}");
    assert!(scan.gone("web").is_empty());
}

#[test]
fn other_policies_judge_everything_anew_and_the_same_ones_nothing() {
    let few = || vec![policy("object.spec.replicas <= 3")];
    let mut scan = Background::new(standards(few(), &json!({})));
    scan.begin();
    scan.sees(&deployment(1, 5, &good_pod()));
    scan.judge_by(standards(few(), &json!({})));
    assert!(scan.knows("web", "1"));
    scan.judge_by(standards(vec![policy("object.spec.replicas <= 9")], &json!({})));
    assert!(!scan.knows("web", "1"));
    let mended = scan.sees(&deployment(1, 5, &good_pod()));
    assert!(mended.told[0].found.is_empty(), "the policy no longer says it");
    scan.judge_by(standards(few(), &json!({ "pod-security.kubernetes.io/enforce": "baseline" })));
    assert!(!scan.knows("web", "1"), "a label of the namespace is part of it");
}

#[test]
fn pod_security_goes_by_the_labels_of_the_namespace_and_restricted_is_for_information() {
    let labels = json!({ "pod-security.kubernetes.io/enforce": "privileged",
        "pod-security.kubernetes.io/warn": "baseline", "pod-security.kubernetes.io/audit": "restricted" });
    let mut scan = Background::new(standards(Vec::new(), &labels));
    let mut spec = good_pod();
    spec["hostNetwork"] = json!(true);
    spec["securityContext"]["runAsNonRoot"] = json!(false);
    let seen = scan.sees(&pod("alone", 1, &spec, None));
    let found: Vec<_> = seen.told[0]
        .found
        .iter()
        .map(|found| (found.check.as_str(), found.enforcement, found.binding.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (
                "hostNamespaces",
                Enforcement::Warn,
                "pod-security.kubernetes.io/warn=baseline:latest"
            ),
            (
                "runAsNonRoot",
                Enforcement::Audit,
                "pod-security.kubernetes.io/audit=restricted:latest"
            ),
        ]
    );
    let mut scan = Background::new(standards(Vec::new(), &json!({})));
    let seen = scan.sees(&pod("alone", 1, &spec, None));
    assert!(seen.told[0].found.iter().all(|found| found.enforcement == Enforcement::Inform));
    assert_eq!(seen.told[0].found[0].evidence, ["spec.hostNetwork"]);
}

#[test]
fn pods_are_told_at_what_controls_them_in_the_end_and_do_not_repeat_it() {
    let mut scan = Background::new(standards(Vec::new(), &json!({})));
    let mut host = good_pod();
    host["hostNetwork"] = json!(true);
    scan.begin();
    let seen = scan.sees(&deployment(1, 1, &host));
    assert_eq!(checks(&seen.told[0]), ["hostNamespaces"]);
    assert_eq!(scan.sees(&replica_set(&host)), Seen::default(), "it has the same template");
    let of_web = Some(("ReplicaSet", "web-1"));
    // Somebody put more into the pods than their template says.
    let mut worse = host.clone();
    worse["hostPID"] = json!(true);
    worse["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    for uid in ["p1", "p2"] {
        let seen = scan.sees(&pod(uid, 1, &worse, of_web));
        if uid == "p2" {
            assert!(seen.told.is_empty(), "the same of another pod is nothing new");
            continue;
        }
        let [told] = seen.told.as_slice() else { panic!("{seen:?}") };
        assert_eq!((told.object.name.as_str(), told.object.kind.as_str()), ("web", "Deployment"));
        assert_eq!((told.part, checks(told)), (FoundPart::Pods, vec!["allowPrivilegeEscalation"]));
    }
    // What stands is told under the controller's UID.
    assert_eq!(scan.sees(&pod("p1", 1, &worse, of_web)).stands.as_deref(), Some("web"));
    assert!(scan.gone("p1").is_empty(), "the other pod still has it");
    let gone = scan.gone("p2");
    assert!(gone[0].found.is_empty() && gone[0].part == FoundPart::Pods, "{gone:?}");
}

#[test]
fn what_a_round_does_not_see_is_gone() {
    let mut scan = Background::new(standards(Vec::new(), &json!({})));
    let mut host = good_pod();
    host["hostNetwork"] = json!(true);
    scan.begin();
    scan.sees(&deployment(1, 1, &host));
    scan.sees(&pod("alone", 1, &host, None));
    assert!(scan.end().is_empty());
    scan.begin();
    scan.sees(&pod("alone", 1, &host, None));
    let gone = scan.end();
    let [told] = gone.as_slice() else { panic!("{gone:?}") };
    assert_eq!((told.object.name.as_str(), told.found.len()), ("web", 0));
}

#[test]
fn what_cannot_be_judged_is_said_once_and_hides_nothing_else() {
    let broken = ("broken".to_owned(), "apiVersion: v1\nkind: [".to_owned());
    let asks = policy("authorizer.group('').resource('pods').check('get').allowed()");
    let mut scan = Background::new(standards(vec![broken, asks], &json!({})));
    let mut host = good_pod();
    host["hostNetwork"] = json!(true);
    for version in 1..4 {
        let seen = scan.sees(&deployment(version, 1, &host));
        assert_eq!(checks(&seen.told[0]), ["hostNamespaces"]);
    }
    let faults = scan.standards().faults();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults.iter().any(|fault| fault.starts_with("broken:2: ")), "{faults:?}");
}

#[test]
fn kinds_are_looked_at_that_make_pods_or_that_a_policy_is_for_and_never_secrets() {
    let standards = standards(vec![policy("true")], &json!({}));
    for (group, resource, looked) in [
        ("apps", "deployments", true),
        ("", "pods", true),
        ("batch", "cronjobs", true),
        ("apps", "controllerrevisions", false),
        ("", "secrets", false),
        ("", "configmaps", false),
    ] {
        assert_eq!(standards.look_at(group, resource), looked, "{group}/{resource}");
    }
}

#[test]
fn what_stands_is_judged_as_it_stands_whatever_a_policy_would_change() {
    let mut mutating = policy("object.spec.replicas <= 3");
    mutating.1 = mutating.1.replace(
        "\"items\":[",
        r#""items":[{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingAdmissionPolicy",
            "metadata":{"name":"fewer"},"spec":{"matchConstraints":{"resourceRules":[{"apiGroups":["apps"],
            "apiVersions":["v1"],"operations":["CREATE"],"resources":["deployments"]}]},
            "reinvocationPolicy":"Never","mutations":[{"patchType":"ApplyConfiguration","applyConfiguration":
            {"expression":"Object{spec: Object.spec{replicas: 1}}"}}]}},
            {"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingAdmissionPolicyBinding",
            "metadata":{"name":"fewer"},"spec":{"policyName":"fewer"}},"#,
    );
    let mut scan = Background::new(standards(vec![mutating], &json!({})));
    let seen = scan.sees(&deployment(1, 5, &good_pod()));
    assert_eq!(checks(&seen.told[0]), ["validation 1"], "{:?}", scan.standards().faults());
}
