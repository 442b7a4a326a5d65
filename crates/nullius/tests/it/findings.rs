//! What stands in a real cluster and is not as it should be, from the scan in its pods to the command line and to reports that
//! the API server takes.

use std::time::{Duration, Instant};

use nullius_kube::SYSTEM_NAMESPACE;
use nullius_testkit::wait_until;
use serde_json::{Value, json};

use crate::{
    admission_exceptions::{Excepted, exception},
    admission_lab::Court,
    world::World,
};

/// A round over everything that other tests make, and the way to the hub.
const SEEN: Duration = Duration::from_secs(180);

fn findings(world: &World, court: &Court<'_>, state: &str) -> Vec<Value> {
    let words =
        ["findings", "list", "-c", world.cluster_name(), "-n", court.name(), "--state", state];
    let list = world.admin_json(&[&words[..], &["--limit", "1000"]].concat());
    list["items"].as_array().unwrap().clone()
}

/// The checks that are found of an object.
fn checks(found: &[Value], kind: &str, name: &str) -> Vec<String> {
    let of =
        |finding: &&Value| finding["object"]["kind"] == kind && finding["object"]["name"] == name;
    let check = |finding: &Value| {
        format!("{} {}", finding["policy"].as_str().unwrap(), finding["check"].as_str().unwrap())
    };
    found.iter().filter(of).map(check).collect()
}

fn deployment(court: &Court<'_>, replicas: u32, host_network: bool) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": court.name() },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": {
                "hostNetwork": host_network, "containers": [{ "name": "web", "image": "example.org/web:1" }] } },
        },
    })
    .to_string()
}

/// A policy of the cluster itself, for the namespace of this test alone.
fn policy(court: &Court<'_>) -> String {
    let name = court.own("few");
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
          "metadata": { "name": name },
          "spec": {
            "matchConstraints": { "resourceRules": [{ "apiGroups": ["apps"], "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"], "resources": ["deployments"] }] },
            "validations": [{ "expression": "object.spec.replicas < 1", "message": "too many replicas" }] } },
        { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
          "metadata": { "name": name },
          "spec": { "policyName": name, "validationActions": ["Audit"], "matchResources": { "namespaceSelector": {
            "matchLabels": { "kubernetes.io/metadata.name": court.name() } } } } },
    ]})
    .to_string()
}

#[test]
fn what_stands_is_found_within_seconds_and_resolved_when_it_is_mended() {
    // What other tests change of policies makes the scan look at everything again.
    let Some(world) = World::alone() else { return };
    let court = Court::open(&world, "found");
    let direct = world.direct();
    direct.apply(&policy(&court)).unwrap();
    direct.apply(&deployment(&court, 1, true)).unwrap();
    let own = format!("ValidatingAdmissionPolicy/{} validation 1", court.own("few"));
    let host = "PodSecurity/restricted hostNamespaces".to_owned();
    let mut last = Vec::new();
    let found = wait_until(SEEN, "the findings of a deployment", || {
        last = findings(&world, &court, "open");
        let checks = checks(&last, "Deployment", "web");
        (checks.contains(&own) && checks.contains(&host)).then_some(())
    });
    found.unwrap_or_else(|error| panic!("{error}: {last:#?}"));
    let by_policy = last.iter().find(|finding| finding["message"] == "too many replicas").unwrap();
    assert_eq!(by_policy["enforcement"], "audit");
    assert_eq!(by_policy["binding"], court.own("few"));
    assert!(checks(&last, "ReplicaSet", "web").is_empty(), "told at what controls it alone");
    let id = by_policy["id"].as_str().unwrap();
    let shown = world.admin(&["findings", "show", &id[..16]]);
    assert!(shown.contains("too many replicas") && shown.contains(court.name()), "{shown}");

    reports_are_taken(&world, &court);

    direct.apply(&deployment(&court, 0, false)).unwrap();
    let mended = wait_until(SEEN, "the findings to be resolved", || {
        last = findings(&world, &court, "open");
        let left = checks(&last, "Deployment", "web");
        (!left.contains(&own) && !left.contains(&host)).then_some(())
    });
    mended.unwrap_or_else(|error| panic!("{error}: {last:#?}"));
    let resolved = checks(&findings(&world, &court, "resolved"), "Deployment", "web");
    assert!(resolved.contains(&own) && resolved.contains(&host), "{resolved:?}");
    // Now that the scan stands, a change is seen by its watch, if need be after a round that the kinds of the reports began.
    direct.apply(&deployment(&court, 2, false)).unwrap();
    let changed = Instant::now();
    let again = wait_until(SEEN, "the finding to come back", || {
        checks(&findings(&world, &court, "open"), "Deployment", "web").contains(&own).then_some(())
    });
    again.unwrap();
    assert!(changed.elapsed() < Duration::from_secs(30), "{:?}", changed.elapsed());

    // What somebody accepts stands there as accepted.
    let scope = json!({ "namespaces": [court.name()], "names": ["web"] });
    let few = court.own("few");
    let accepted = exception(SYSTEM_NAMESPACE, &court.own("web"), &few, scope, 3_600);
    let accepted = Excepted::new(&world, &accepted);
    let waived = wait_until(SEEN, "the finding to be waived", || {
        let waived = findings(&world, &court, "waived");
        waived.into_iter().find(|finding| finding["message"] == "too many replicas")
    });
    assert_eq!(waived.unwrap()["waiver"]["owner"], "edge team");
    drop(accepted);
    let kubectl = ["delete", "validatingadmissionpolicy,validatingadmissionpolicybinding"];
    direct.ok(&[&kubectl[..], &[court.own("few").as_str()]].concat()).unwrap();
}

/// The reports are objects of the published kinds: the API server takes them, and knows each field.
fn reports_are_taken(world: &World, court: &Court<'_>) {
    let direct = world.direct();
    for (form, group, version, kind, plural) in [
        ("policyreport", "wgpolicyk8s.io", "v1alpha2", "PolicyReport", "policyreports"),
        ("openreports", "openreports.io", "v1alpha1", "Report", "reports"),
    ] {
        direct.apply(&definition(group, version, kind, plural)).unwrap();
        let words =
            ["findings", "list", "-c", world.cluster_name(), "-n", court.name(), "-o", form];
        let documents = world.admin(&words);
        assert!(documents.contains(&format!("kind: {kind}\n")), "{documents}");
        let mut last = String::new();
        let taken = wait_until(SEEN, "the reports to be taken", || {
            // A kind that was defined a moment ago is not served at once.
            direct.apply(&documents).map_err(|error| last = error.to_string()).ok()
        });
        taken.unwrap_or_else(|error| panic!("{error}: {last}"));
        let path = format!("/apis/{group}/{version}/namespaces/{}/{plural}/nullius", court.name());
        let stored = court.api.get(&path).unwrap().json().unwrap();
        let results = stored["results"].as_array().unwrap();
        assert_eq!(stored["summary"]["fail"].as_u64().unwrap(), 1, "{stored:#}");
        let failed = results.iter().find(|result| result["result"] == "fail").unwrap();
        assert_eq!(failed["message"], "too many replicas");
        assert_eq!(failed["resources"][0]["name"], "web");
        assert!(failed["timestamp"]["seconds"].as_i64().unwrap() > 0);
        assert_eq!(failed["properties"]["nullius.dev/effect"], "audit");
    }
}

/// A definition of a kind of reports with the fields, words and demands of the published one, so that a field of another name
/// would be pruned and another word refused.
fn definition(group: &str, version: &str, kind: &str, plural: &str) -> String {
    let text = json!({ "type": "string" });
    let number = json!({ "type": "integer" });
    let reference = json!({ "type": "object", "properties": {
        "apiVersion": text, "kind": text, "namespace": text, "name": text, "uid": text } });
    let result = json!({ "type": "object", "required": ["policy"], "properties": {
        "source": text, "policy": text, "rule": text, "category": text, "message": text, "scored": { "type": "boolean" },
        "severity": { "type": "string", "enum": ["critical", "high", "low", "medium", "info"] },
        "result": { "type": "string", "enum": ["pass", "fail", "warn", "error", "skip"] },
        "timestamp": { "type": "object", "required": ["nanos", "seconds"], "properties": {
            "nanos": { "type": "integer", "format": "int32" }, "seconds": { "type": "integer", "format": "int64" } } },
        "resources": { "type": "array", "items": reference },
        "properties": { "type": "object", "additionalProperties": text } } });
    let schema = json!({ "type": "object", "properties": {
        "apiVersion": text, "kind": text, "metadata": { "type": "object" }, "source": text,
        "summary": { "type": "object", "properties": {
            "pass": number, "fail": number, "warn": number, "error": number, "skip": number } },
        "results": { "type": "array", "items": result } } });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}") },
        "spec": { "group": group, "scope": "Namespaced",
            "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List") },
            "versions": [{ "name": version, "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } }] },
    })
    .to_string()
}
