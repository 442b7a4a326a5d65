//! The audit.k8s.io/v1 form, field by field.

use nullius_audit::{fact, to_k8s_event};
use nullius_model::{AuditOutcome, Explanation, Principal, Reason};
use serde_json::json;

use crate::event;

#[test]
fn a_request_has_the_form_that_kubernetes_tools_read() {
    let mut event = event(7);
    event.facts.insert(fact::GROUPS.into(), "devs,oncall".into());
    event.facts.insert(fact::FACTOR.into(), "password+totp".into());
    event.explanation = Some(Explanation::new(Reason::GrantMatched, "ada may"));
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
                "nullius.dev/factor": "password+totp",
                "nullius.dev/explanation": "ada may",
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
