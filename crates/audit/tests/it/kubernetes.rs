//! The audit.k8s.io/v1 form, field by field.

use nullius_audit::{fact, k8s_line, position_of_k8s_line, to_k8s_event};
use nullius_model::{AuditOutcome, Explanation, Principal, Reason};
use serde_json::json;

use crate::event;

#[test]
fn a_request_has_the_form_that_kubernetes_tools_read() {
    let mut event = event(7);
    event.facts.insert(fact::GROUPS.into(), "devs,oncall".into());
    event.facts.insert(fact::FACTOR.into(), "password+totp".into());
    event.facts.insert(fact::FACTOR_AT.into(), "2026-01-02T03:00:00Z".into());
    let rule = "Grant/dev-shop → Role/developer rule 2";
    let explanation = Explanation::new(Reason::GrantMatched, "ada may").with_rule(rule);
    event.explanation = Some(explanation);
    assert_eq!(
        to_k8s_event(&event).unwrap(),
        json!({
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Metadata",
            "auditID": "00000000-0000-0000-0000-000000000007",
            "stage": "ResponseComplete",
            "requestURI": "/api/v1/namespaces/shop/pods/web-0/exec?command=sh",
            "verb": "create",
            "user": {
                "username": "ada",
                "groups": ["devs", "oncall"],
                "extra": {
                    "nullius.dev/session": ["0123456789abcdef0123456789abcdef"],
                    "nullius.dev/cluster": ["dev"],
                },
            },
            "sourceIPs": ["192.0.2.7"],
            "userAgent": "kubectl/v1.36",
            "objectRef": {
                "resource": "pods",
                "namespace": "shop",
                "name": "web-0",
                "apiVersion": "v1",
                "subresource": "exec",
            },
            "responseStatus": { "metadata": {}, "code": 101 },
            "requestReceivedTimestamp": "2026-01-02T03:04:05.000000Z",
            "stageTimestamp": "2026-01-02T03:04:05.123456Z",
            "annotations": {
                "authorization.k8s.io/decision": "allow",
                "authorization.k8s.io/reason": "grant-matched",
                "nullius.dev/session": "0123456789abcdef0123456789abcdef",
                "nullius.dev/permission": "fedcba9876543210fedcba9876543210",
                "nullius.dev/grant": "dev-shop",
                "nullius.dev/role": "developer",
                "nullius.dev/rule": rule,
                "nullius.dev/factor": "password+totp",
                "nullius.dev/factor-at": "2026-01-02T03:00:00Z",
                "nullius.dev/outcome": "done",
                "nullius.dev/explanation": "ada may (by Grant/dev-shop → Role/developer rule 2)",
            },
        })
    );
}

#[test]
fn a_refused_request_says_why_and_one_that_runs_has_no_status() {
    let mut refused = event(1);
    refused.outcome = AuditOutcome::Denied;
    refused.principal = Principal::Unproven { claimed: "eve".into() };
    refused.explanation = Some(Explanation::new(Reason::NoGrant, "no grant covers it"));
    refused.kube.as_mut().unwrap().code = 403;
    let form = to_k8s_event(&refused).unwrap();
    assert_eq!(form["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(form["responseStatus"]["reason"], "Forbidden");
    assert_eq!(form["responseStatus"]["message"], "no grant covers it");
    assert_eq!(form["user"]["username"], "system:anonymous");

    let mut running = event(2);
    running.outcome = AuditOutcome::Begun;
    running.kube.as_mut().unwrap().code = 0;
    let form = to_k8s_event(&running).unwrap();
    assert_eq!(form["stage"], "RequestReceived");
    assert!(form.get("responseStatus").is_none());

    let mut other = event(3);
    other.kube = None;
    assert_eq!(to_k8s_event(&other), None);
}

#[test]
fn a_line_names_its_place_and_no_name_can_break_it() {
    let mut hostile = event(1);
    hostile.facts.insert(fact::GROUPS.into(), "devs\n{\"kind\":\"Event\"}\u{1b}[2J\u{202e}".into());
    hostile.kube.as_mut().unwrap().user_agent = "curl\r\n\u{2028}x".into();
    let hash = "ab".repeat(32).parse().unwrap();
    let line = k8s_line(&hostile, 148, &hash).unwrap();
    assert!(
        line.chars().all(|c| !c.is_control() && !('\u{2028}'..='\u{202e}').contains(&c)),
        "{line}"
    );
    assert_eq!(position_of_k8s_line(&line), Some(148));
    let read: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(read["annotations"]["nullius.dev/hash"], "ab".repeat(32));
    assert_eq!(position_of_k8s_line("{}"), None);
}

#[test]
fn a_refusal_names_the_nearest_rule_but_no_grant_that_decided() {
    let mut refused = event(1);
    refused.outcome = AuditOutcome::Denied;
    refused.facts.clear();
    let rule = "Grant/dev-shop → Role/developer rule 2";
    refused.explanation = Some(Explanation::new(Reason::NoGrant, "no").with_rule(rule));
    let notes = &to_k8s_event(&refused).unwrap()["annotations"];
    assert_eq!(notes["nullius.dev/rule"], rule);
    assert!(notes.get("nullius.dev/grant").is_none() && notes.get("nullius.dev/role").is_none());
}

#[test]
fn a_decision_of_admission_names_its_policy_and_claims_no_authorization() {
    let mut denied = event(1);
    denied.kind = nullius_model::AuditKind::Admission;
    denied.outcome = AuditOutcome::Denied;
    denied.principal = Principal::Kubernetes {
        cluster: "dev".parse().unwrap(),
        username: "system:serviceaccount:shop:deployer".into(),
    };
    let why = Explanation::new(Reason::PolicyRefused, "the image has no tag");
    denied.explanation = Some(why.with_rule("ValidatingAdmissionPolicy/no-latest validation 1"));
    denied.facts.insert("policy".into(), "ValidatingAdmissionPolicy/no-latest".into());
    denied.kube.as_mut().unwrap().code = 422;
    let form = to_k8s_event(&denied).unwrap();
    assert_eq!(form["user"]["username"], "system:serviceaccount:shop:deployer");
    let notes = &form["annotations"];
    assert_eq!(notes["nullius.dev/admission"], "deny");
    assert_eq!(notes["nullius.dev/policy"], "ValidatingAdmissionPolicy/no-latest");
    assert_eq!(notes["nullius.dev/reason"], "policy-refused");
    assert_eq!(notes.get("authorization.k8s.io/decision"), None);

    denied.outcome = AuditOutcome::Done;
    denied.kube.as_mut().unwrap().code = 0;
    let form = to_k8s_event(&denied).unwrap();
    assert_eq!(form["stage"], "RequestReceived");
    assert_eq!(form.get("responseStatus"), None, "nobody knows yet how it ends");
}
