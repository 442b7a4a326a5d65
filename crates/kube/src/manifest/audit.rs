//! What `agent control` needs to hear the API server's audit webhook: a Service, the Secret of the webhook's own authority, and a policy
//! that an administrator can give to the API server.
//!
//! It does nothing by itself: until an administrator configures an API server with the file in the Secret, nobody gets past TLS.

use serde_json::{Value, json};

use super::{
    rights::part_of,
    workloads::{CONTROL, selector},
};
use crate::names::{AGENT_AUDIT, AUDIT_PORT, AUDIT_SECRET, SYSTEM_NAMESPACE};

const POLICY: &str = include_str!("audit-policy.yaml");

/// What the provisioner may do with these.
pub(super) fn rights() -> Vec<Value> {
    vec![
        json!({ "apiGroups": [""], "resources": ["secrets"], "resourceNames": [AUDIT_SECRET],
                "verbs": ["get", "update"] }),
        json!({ "apiGroups": [""], "resources": ["services"], "resourceNames": [AGENT_AUDIT],
                "verbs": ["get"] }),
    ]
}

pub(super) fn objects() -> Vec<Value> {
    let metadata =
        |name: &str| json!({ "name": name, "namespace": SYSTEM_NAMESPACE, "labels": part_of() });
    vec![
        // Without content: applying the manifest again takes nothing away.
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata(AUDIT_SECRET),
            "type": "nullius.dev/audit-webhook",
        }),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(AGENT_AUDIT),
            "data": { "audit-policy.yaml": POLICY },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata(AGENT_AUDIT),
            "spec": {
                "selector": selector(CONTROL),
                // A list that is told again goes to the replica that has heard it.
                "sessionAffinity": "ClientIP",
                "ports": [{ "name": "audit", "protocol": "TCP", "port": 443, "targetPort": AUDIT_PORT }],
            },
        }),
        // An API server is no pod, so that no selector means it; its client certificate says who it is.
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata(AGENT_AUDIT),
            "spec": {
                "podSelector": { "matchLabels": selector(CONTROL) },
                "policyTypes": ["Ingress"],
                "ingress": [{ "ports": [{ "protocol": "TCP", "port": AUDIT_PORT }] }],
            },
        }),
    ]
}
