//! The audit trail from outside: every tampering is found, the Kubernetes form is exact, filters do what they say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod anchor;
mod filter;
mod kubernetes;
mod verify;

use nullius_model::{AuditEvent, AuditKind, AuditOutcome, KubeCall, Principal};

/// A request of ada for pods.
pub fn event(number: u64) -> AuditEvent {
    AuditEvent {
        audit_id: format!("00000000-0000-0000-0000-{number:012}").parse().unwrap(),
        at: "2026-01-02T03:04:05.123456Z".parse().unwrap(),
        kind: AuditKind::KubeRequest,
        outcome: AuditOutcome::Done,
        principal: Principal::Person { user: "ada".parse().unwrap() },
        session: Some("0123456789abcdef0123456789abcdef".parse().unwrap()),
        cluster: Some("dev".parse().unwrap()),
        source: Some("192.0.2.7".parse().unwrap()),
        target: None,
        permission: Some("fedcba9876543210fedcba9876543210".parse().unwrap()),
        explanation: None,
        kube: Some(KubeCall {
            verb: "create".into(),
            request_uri: "/api/v1/namespaces/shop/pods/web-0/exec?command=sh".into(),
            is_resource: true,
            api_group: String::new(),
            api_version: "v1".into(),
            resource: "pods".into(),
            subresource: "exec".into(),
            namespace: "shop".into(),
            name: "web-0".into(),
            user_agent: "kubectl/v1.36".into(),
            code: 101,
            received: "2026-01-02T03:04:05Z".parse().unwrap(),
        }),
        facts: [("grant".to_owned(), "dev-shop".to_owned())].into(),
    }
}
