#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
use nullius_model::{API_VERSION, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::{exception::KIND, pod_security::Version};

fn namespace(enforce: Option<&str>, mark: Option<&str>) -> Value {
    let mut labels = json!({ "pod-security.kubernetes.io/enforce-version": "v1.30" });
    if let Some(level) = enforce {
        labels[ENFORCE_LABEL] = level.into();
    }
    if let Some(mark) = mark {
        labels[KEPT_LEVEL_LABEL] = mark.into();
    }
    json!({ "metadata": { "name": "shop", "labels": labels } })
}

#[test]
fn a_mark_stands_for_restricted_and_no_other_value_is_one() {
    for enforce in [None, Some("privileged"), Some("baseline"), Some("restricted")] {
        let marked = namespace(enforce, Some("restricted"));
        assert_eq!(kept_level(&marked).unwrap().to_string(), "restricted:v1.30", "{marked}");
    }
    let lowered = namespace(Some("baseline"), Some("restricted"));
    assert!(is_lowered(&lowered) && owner_level(&lowered) == Some("restricted"));
    assert_eq!(Relabel::to_lower(&lowered), None);
    assert_eq!(Relabel::to_restore(&lowered), Some(Relabel::Restore));
    for mark in [None, Some(""), Some("baseline"), Some("privileged"), Some("Restricted")] {
        for enforce in [None, Some("privileged"), Some("baseline")] {
            let plain = namespace(enforce, mark);
            assert!(!is_lowered(&plain), "{plain}");
            assert_eq!((kept_level(&plain), owner_level(&plain)), (None, enforce));
            assert_eq!((Relabel::to_lower(&plain), Relabel::to_restore(&plain)), (None, None));
        }
    }
    // The API server enforces the strictest level where it cannot read one.
    assert!(kept_level(&namespace(Some("Restricted"), None)).is_some());
    assert_eq!(Relabel::to_lower(&namespace(Some("Restricted"), None)), None);
}

#[test]
fn what_somebody_writes_while_it_is_lowered_is_what_they_want() {
    let raised = namespace(Some("restricted"), Some("restricted"));
    assert_eq!(Relabel::to_lower(&raised), Some(Relabel::Lower));
    assert_eq!(Relabel::to_restore(&raised), Some(Relabel::Forget));
    for enforce in [None, Some("privileged")] {
        let changed = namespace(enforce, Some("restricted"));
        assert!(!is_lowered(&changed) && owner_level(&changed) == enforce);
        assert_eq!(Relabel::to_lower(&changed), Some(Relabel::Forget));
        assert_eq!(Relabel::to_restore(&changed), Some(Relabel::Forget));
    }
}

fn exception(checks: &[&str], scope: Value) -> Exception {
    let object = json!({
        "apiVersion": API_VERSION, "kind": KIND, "metadata": { "name": "e", "namespace": "n" },
        "spec": { "owner": "a", "reason": "b", "expires": "2026-07-01T00:00:00Z",
                  "rules": [{ "policy": "PodSecurity", "checks": checks }], "scope": scope },
    });
    Exception::read(&object, "2026-06-01T00:00:00Z".parse::<Timestamp>().unwrap()).unwrap()
}

fn pod(containers: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": {
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": containers,
    } })
}

fn container(name: &str, security: Value) -> Value {
    let mut context =
        json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    for (key, value) in security.as_object().unwrap() {
        context[key] = value.clone();
    }
    json!({ "name": name, "image": "a", "securityContext": context })
}

fn kept(subresource: &str, old: Option<&Value>, pod: &Value, exceptions: &[&Exception]) -> Kept {
    let operation = if old.is_some() { Operation::Update } else { Operation::Create };
    let request = PodRequest {
        operation,
        group: "",
        resource: "pods",
        subresource,
        namespace: "shop",
        name: "p",
        user: "u",
        object: pod,
        old_object: old,
    };
    let policy = "restricted".parse().unwrap();
    keep(Version::NEWEST_KNOWN, &request, policy, exceptions, &|| false).unwrap()
}

fn refusal(kept: &Kept) -> &str {
    kept.refusal.as_ref().map_or("", |refusal| &refusal.message)
}

const ESCALATES: &str = "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false)";

#[test]
fn an_exception_covers_its_check_and_what_is_left_is_refused_as_kubernetes_words_it() {
    let escalates = pod(json!([container("a", json!({ "allowPrivilegeEscalation": true }))]));
    assert_eq!(refusal(&kept("", None, &escalates, &[])), ESCALATES);
    let here = json!({ "namespaces": ["shop"] });
    let accepted = exception(&["allowPrivilegeEscalation"], here.clone());
    let passed = kept("", None, &escalates, &[&accepted]);
    assert_eq!((refusal(&passed), passed.accepted.len()), ("", 1));
    let elsewhere = exception(&["allowPrivilegeEscalation"], json!({ "namespaces": ["other"] }));
    assert_eq!(refusal(&kept("", None, &escalates, &[&elsewhere])), ESCALATES);
    let other = exception(&["runAsNonRoot"], here);
    assert_eq!(refusal(&kept("", None, &escalates, &[&other])), ESCALATES);
}

#[test]
fn two_exceptions_do_not_add_up() {
    let both = pod(json!([
        container("a", json!({ "allowPrivilegeEscalation": true })),
        container("b", json!({ "allowPrivilegeEscalation": true })),
    ]));
    let of = |names: &[&str]| {
        exception(
            &["allowPrivilegeEscalation"],
            json!({ "namespaces": ["shop"], "containers": names }),
        )
    };
    let (one, two, whole) = (of(&["a"]), of(&["b"]), of(&["a", "b"]));
    assert!(!refusal(&kept("", None, &both, &[&one, &two])).is_empty());
    assert_eq!(refusal(&kept("", None, &both, &[&one, &whole])), "");
}

#[test]
fn nothing_of_baseline_is_accepted() {
    let all = exception(&[], json!({ "namespaces": ["shop"] }));
    let mut host = pod(json!([container("a", json!({}))]));
    host["spec"]["hostNetwork"] = true.into();
    assert!(refusal(&kept("", None, &host, &[&all])).contains("host namespaces"));
    // The check of `restricted` that is accepted stands for one of `baseline` too.
    let adds = container("a", json!({ "capabilities": { "drop": ["ALL"], "add": ["SYS_ADMIN"] } }));
    let told = kept("", None, &pod(json!([adds])), &[&all]);
    assert!(refusal(&told).contains("violates PodSecurity \"baseline:latest\""), "{told:?}");
    assert!(
        exception(&["hostPorts"], json!({ "namespaces": ["shop"] })).checks_of_baseline()
            == ["hostPorts"]
    );
}

#[test]
fn updates_and_subresources_are_judged_as_the_api_server_judges_them() {
    let clean = pod(json!([container("a", json!({}))]));
    let mut added = clean.clone();
    added["spec"]["ephemeralContainers"] =
        json!([container("debug", json!({ "allowPrivilegeEscalation": true }))]);
    let refused = kept("ephemeralcontainers", Some(&clean), &added, &[]);
    assert!(refusal(&refused).contains("container \"debug\""));
    assert_eq!(refusal(&kept("status", Some(&clean), &added, &[])), "");
    let escalates = pod(json!([container("a", json!({ "allowPrivilegeEscalation": true }))]));
    let mut labelled = escalates.clone();
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    assert_eq!(refusal(&kept("", Some(&escalates), &labelled, &[])), "");
    assert!(
        kept("", None, &json!("no pod"), &[]).refusal.is_some(),
        "what cannot be read is refused"
    );
}

#[test]
fn exceptions_lower_a_namespace_only_for_pods_and_only_above_baseline() {
    let here = || json!({ "namespaces": ["sh*"] });
    assert!(exception(&[], here()).is_above_baseline("shop"));
    assert!(exception(&["hostPorts", "runAsUser"], here()).is_above_baseline("shop"));
    assert!(!exception(&["hostPorts"], here()).is_above_baseline("shop"));
    assert!(!exception(&[], here()).is_above_baseline("other"));
    let of_others = json!({ "namespaces": ["shop"], "kinds": ["Deployment"] });
    assert!(!exception(&[], of_others).is_above_baseline("shop"));
}

#[test]
fn what_is_of_no_more_use_ends_between_two_exceptions() {
    let escalating: Vec<Value> = (0..20)
        .map(|at| container(&format!("c{at}"), json!({ "allowPrivilegeEscalation": true })))
        .collect();
    let object = pod(json!(escalating));
    let useless = exception(
        &["allowPrivilegeEscalation"],
        json!({ "namespaces": ["shop"], "containers": ["c1"] }),
    );
    let exceptions = vec![&useless; 500];
    let request = PodRequest {
        operation: Operation::Create,
        group: "",
        resource: "pods",
        subresource: "",
        namespace: "shop",
        name: "p",
        user: "u",
        object: &object,
        old_object: None,
    };
    let asked = std::cell::Cell::new(0);
    let judge = |most: usize| {
        asked.set(0);
        let is_over = || {
            asked.set(asked.get() + 1);
            asked.get() > most
        };
        keep(Version::NEWEST_KNOWN, &request, "restricted".parse().unwrap(), &exceptions, &is_over)
    };
    assert_eq!(judge(10), None);
    assert!(asked.get() < 600, "{} times", asked.get());
    assert!(judge(usize::MAX).unwrap().refusal.is_some());
    assert!(asked.get() > 500, "each exception is a chance to end");
}
