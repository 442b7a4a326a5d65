//! `agent identity`, where a cluster wants one: its account, the Secret of its authority, its Deployment, and the namespace of what runs
//! on each node with the ConfigMap from which nodes learn whom to believe.
//!
//! It reads pods, namespaces and nodes, Services, where they lead, intentions, workload identities and machines, asks whose a token is, and writes one Secret and one
//! ConfigMap that stand already, and how those stand.

use serde_json::{Value, json};

use super::{
    Deployments, IdentityParts, env,
    rights::{
        account, cluster_role, cluster_role_binding, group_and_version, part_of, role, role_binding,
    },
    workloads::{
        Workload, cluster_ca, config_volume, deployment, hub_token_volume, mounts, pins, plain,
        selector,
    },
};
use crate::names::{
    AGENT_IDENTITY, HEALTH_PORT, IDENTITY, IDENTITY_PORT, IDENTITY_SECRET, NODE_NAMESPACE,
    SYSTEM_NAMESPACE, TRUST_MAP,
};

const ROLE: &str = "nullius:identity";
/// Streams end at once, and what was begun within a few seconds.
const GRACE_SECONDS: u32 = 20;

pub(super) fn rights() -> Vec<Value> {
    let read = ["get", "list", "watch"];
    let (group, _) = group_and_version();
    let everywhere = json!([
        { "apiGroups": [""], "resources": ["pods", "nodes", "namespaces"], "verbs": read },
        { "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"] },
        // What nodes are told of the mesh.
        { "apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"] },
        { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] },
        { "apiGroups": [group], "resources": ["intentions", "workloadidentities"], "verbs": ["list", "watch"] },
        { "apiGroups": [group], "resources": ["machines"], "verbs": read },
        { "apiGroups": [group], "resources": ["intentions/status", "workloadidentities/status"], "verbs": ["patch"] },
        // Of two that join with one token one is overtaken: that is an update.
        { "apiGroups": [group], "resources": ["machines/status"], "verbs": ["patch", "update"] },
    ]);
    let system = json!([
        { "apiGroups": [""], "resources": ["secrets"], "resourceNames": [IDENTITY_SECRET],
          "verbs": ["get", "list", "watch", "update"] },
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] },
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [AGENT_IDENTITY],
          "verbs": ["get", "update"] },
    ]);
    let nodes = json!([
        { "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [TRUST_MAP], "verbs": ["update"] },
    ]);
    vec![
        node_namespace(),
        account(IDENTITY),
        cluster_role(ROLE, everywhere),
        cluster_role_binding(ROLE, ROLE, &[IDENTITY]),
        role(ROLE, SYSTEM_NAMESPACE, system),
        role_binding(ROLE, SYSTEM_NAMESPACE, IDENTITY),
        role(ROLE, NODE_NAMESPACE, nodes),
        role_binding(ROLE, NODE_NAMESPACE, IDENTITY),
        // Without content: applying the manifest again takes nothing away.
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": IDENTITY_SECRET, "namespace": SYSTEM_NAMESPACE, "labels": part_of() },
            "type": "nullius.dev/identity-ca",
        }),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": TRUST_MAP, "namespace": NODE_NAMESPACE, "labels": part_of() },
        }),
    ]
}

/// What runs on each node reads what is the host's, which no lower level of Pod Security lets it.
fn node_namespace() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": NODE_NAMESPACE,
            "labels": {
                "app.kubernetes.io/part-of": "nullius",
                "pod-security.kubernetes.io/enforce": "privileged",
            },
        },
    })
}

pub(super) fn workload(
    parts: &IdentityParts,
    deployments: &Deployments,
    fingerprint: &str,
) -> Vec<Value> {
    let mut environment = pins();
    environment.extend([
        plain(env::API_TOKEN_FILE, env::API_TOKEN_PATH),
        plain(env::LISTEN, &format!("[::]:{IDENTITY_PORT}")),
        plain(env::TRUST_DOMAIN, parts.trust_domain.as_str()),
        json!({ "name": env::POD, "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }),
        // The kubelet gives each pod the addresses of the Services that stand; nodes need no DNS.
        plain(env::ISSUER_HOST, "$(NULLIUS_AGENT_IDENTITY_SERVICE_HOST)"),
        plain(env::ISSUER_PORT, "$(NULLIUS_AGENT_IDENTITY_SERVICE_PORT)"),
    ]);
    let api = json!({
        "name": "api",
        "projected": { "sources": [
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3600 } },
            cluster_ca(),
        ] },
    });
    let ports = json!([
        { "name": "nodes", "containerPort": IDENTITY_PORT },
        { "name": "health", "containerPort": HEALTH_PORT },
    ]);
    vec![
        from_nodes(),
        service(),
        deployment(&Workload {
            name: AGENT_IDENTITY,
            role: "identity",
            account: IDENTITY,
            replicas: parts.replicas,
            grace_seconds: GRACE_SECONDS,
            deployments,
            fingerprint,
            environment,
            ports,
            volumes: vec![config_volume(), hub_token_volume(), api],
            mounts: mounts(),
        }),
    ]
}

/// What runs on a node has the node's address, so that no selector means it; tokens and TLS say who it is.
fn from_nodes() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": { "name": AGENT_IDENTITY, "namespace": SYSTEM_NAMESPACE, "labels": part_of() },
        "spec": {
            "podSelector": { "matchLabels": selector(AGENT_IDENTITY) },
            "policyTypes": ["Ingress"],
            "ingress": [{ "ports": [{ "protocol": "TCP", "port": IDENTITY_PORT }] }],
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": AGENT_IDENTITY, "namespace": SYSTEM_NAMESPACE, "labels": part_of() },
        "spec": {
            "selector": selector(AGENT_IDENTITY),
            "ports": [{ "name": "nodes", "protocol": "TCP", "port": IDENTITY_PORT, "targetPort": IDENTITY_PORT }],
        },
    })
}
