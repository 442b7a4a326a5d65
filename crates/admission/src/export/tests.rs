#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
use super::*;

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn policy(name: &str) -> Json {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {
            "name": name, "uid": "1", "resourceVersion": "2", "labels": { "team": "a" },
            "annotations": { LAST_APPLIED: "{}", "nullius.dev/severity": "low" },
        },
        "spec": {
            "matchConstraints": { "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["CREATE"], "resources": ["configmaps"] }] },
            "validations": [{ "expression": "has(object.data)" }],
        },
        "status": { "observedGeneration": 1 },
    })
}

fn binding(name: &str, policy: &str) -> Json {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name }, "spec": { "policyName": policy, "validationActions": ["Deny"] },
    })
}

fn exception(name: &str, spec: Json) -> Json {
    let mut whole = json!({ "owner": "a", "reason": "b", "expires": "2026-07-01T00:00:00Z",
        "rules": [{ "policy": "p" }], "scope": { "namespaces": [name] } });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({ "apiVersion": "nullius.dev/v1alpha1", "kind": "PolicyException",
        "metadata": { "name": name, "namespace": "e" }, "spec": whole })
}

fn export<'a>(objects: impl IntoIterator<Item = &'a Json>) -> Export {
    let mut export = Export::new(Version::LATEST, now());
    for object in objects {
        assert_eq!(export.add(object), Ok(Taken::Added), "{object}");
    }
    export
}

fn objects(exported: &Exported) -> Vec<Json> {
    exported.policies.iter().flat_map(|policy| policy.objects.clone()).collect()
}

fn conditions(exported: &Exported) -> Json {
    exported.policies[0].objects[0]["spec"]["matchConditions"].clone()
}

#[test]
fn what_is_whole_becomes_a_condition_and_what_is_not_is_named() {
    let parts = json!({ "scope": { "namespaces": ["c"], "containers": ["x"] } });
    let ended = json!({ "expires": "2026-05-01T00:00:00Z" });
    let elsewhere = json!({ "rules": [{ "policy": "q" }] });
    let all = [
        policy("p"),
        binding("b", "p"),
        exception("b", json!({})),
        exception("a", json!({ "rules": [{ "policy": "p" }, { "policy": "p", "checks": ["x"] }] })),
        exception("c", parts),
        exception("d", ended),
        exception("e", elsewhere),
    ];
    let exported = export(&all).finish(ExportForm::Native).unwrap();
    let read = |index: usize| Exception::read(&all[index], now()).unwrap().condition();
    let outside = format!("{} && {}", read(3), read(2));
    assert_eq!(conditions(&exported), json!([{ "name": EXPORTED, "expression": outside }]));
    let metadata = &exported.policies[0].objects[0]["metadata"];
    assert_eq!(
        *metadata,
        json!({ "name": "p", "labels": { "team": "a" }, "annotations": {
            "nullius.dev/severity": "low",
            EXPORTED: "e/a until 2026-07-01T00:00:00Z, e/b until 2026-07-01T00:00:00Z",
        } })
    );
    assert!(exported.policies[0].objects[0].get("status").is_none());
    assert_eq!(exported.left.len(), 1, "{:?}", exported.left);
    assert!(exported.left[0].contains("`e/c`") && exported.left[0].contains("`p`"));
    let notes = exported.notes.join("\n");
    assert!(notes.contains("`e/d` ended at 2026-05-01T00:00:00Z"), "{notes}");
    assert!(notes.contains("`e/e` is from `q`"), "{notes}");
}

#[test]
fn an_export_of_an_export_is_the_same() {
    for form in [ExportForm::Native, ExportForm::Manifest] {
        let excepted = [exception("a", json!({})), exception("b", json!({}))];
        let source = [policy("p"), binding("b", "p"), policy("q"), binding("c", "q")];
        let first = export(source.iter().chain(&excepted)).finish(form).unwrap();
        let written = objects(&first);
        let again = export(written.iter().chain(&excepted)).finish(form).unwrap();
        assert_eq!(again, first);
        // Without the exceptions there is no condition that nobody answers for.
        let bare = export(&written).finish(form).unwrap();
        assert_eq!(objects(&bare), objects(&export(&source).finish(form).unwrap()));
    }
}

#[test]
fn names_in_files_end_as_the_api_server_wants_and_nowhere_else() {
    let exported = export(&[policy("p"), binding("b", "p")]).finish(ExportForm::Manifest).unwrap();
    let written = objects(&exported);
    assert_eq!(written[0]["metadata"]["name"], "p.static.k8s.io");
    assert_eq!(written[1]["metadata"]["name"], "b.static.k8s.io");
    assert_eq!(written[1]["spec"]["policyName"], "p.static.k8s.io");
    let told = export(&written).finish(ExportForm::Native).unwrap_err();
    assert_eq!(told.len(), 2, "{told:?}");
    let twice = [policy("p"), policy("p.static.k8s.io")];
    let told = export(&twice).finish(ExportForm::Manifest).unwrap_err();
    assert!(told[0].contains("stands twice"), "{told:?}");
    let long = "a".repeat(250);
    let told = export(&[policy(&long)]).finish(ExportForm::Manifest).unwrap_err();
    assert!(told[0].contains("no more than 253"), "{told:?}");
}

#[test]
fn what_a_form_cannot_say_is_refused_by_name() {
    let mut with_params = policy("p");
    with_params["spec"]["paramKind"] = json!({ "apiVersion": "v1", "kind": "ConfigMap" });
    let mut bound = binding("b", "p");
    bound["spec"]["paramRef"] = json!({ "name": "x", "parameterNotFoundAction": "Deny" });
    let whole = export(&[with_params, bound]);
    let told = whole.finish(ExportForm::Manifest).unwrap_err();
    assert!(told[0].contains("policy `p`") && told[1].contains("binding `b`"), "{told:?}");
    let exported = whole.finish(ExportForm::Native).unwrap();
    assert!(exported.notes[0].contains("`ConfigMap` (`v1`)"), "{:?}", exported.notes);
    let told = export(&[policy("p"), binding("b", "q")]).finish(ExportForm::Native).unwrap_err();
    assert_eq!(told, ["the binding `b` names the policy `q`, which is not there"]);
}

#[test]
fn a_policy_that_has_no_room_for_exceptions_is_exported_without_them() {
    let mut full = policy("p");
    let own: Vec<Json> =
        (0..64).map(|at| json!({ "name": format!("c{at}"), "expression": "true" })).collect();
    full["spec"]["matchConditions"] = json!(own);
    let exported = export(&[full, exception("a", json!({}))]).finish(ExportForm::Native).unwrap();
    assert_eq!(conditions(&exported), json!(own));
    assert!(exported.left[0].contains("64 match conditions"), "{:?}", exported.left);
    assert!(exported.policies[0].excepted.is_empty());
}

#[test]
fn the_agents_condition_does_not_leave_its_cluster() {
    let mut held = policy("p");
    held["spec"]["matchConditions"] = json!([{ "name": native::CONDITION, "expression": "false" }]);
    let exported = export(&[held]).finish(ExportForm::Native).unwrap();
    assert!(exported.policies[0].objects[0]["spec"].get("matchConditions").is_none());
    assert!(exported.notes.iter().any(|note| note.contains(native::CONDITION)));
}

#[test]
fn what_a_policy_in_a_file_is_asked_about_besides_is_told() {
    let mut wide = policy("p");
    wide["spec"]["matchConstraints"]["resourceRules"][0]["apiGroups"] = json!(["*"]);
    wide["spec"]["matchConstraints"]["resourceRules"][0]["resources"] = json!(["*/*"]);
    let of = |policy: &Json, form| export([policy]).finish(form).unwrap().notes;
    let told = |notes: Vec<String>| notes.iter().any(|note| note.contains("asks it about them"));
    assert!(told(of(&wide, ExportForm::Manifest)));
    assert!(!told(of(&wide, ExportForm::Native)) && !told(of(&policy("p"), ExportForm::Manifest)));
}
