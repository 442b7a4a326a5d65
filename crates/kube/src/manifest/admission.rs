//! `agent admission`: its account with what policies ask for, its authority's Secret, the webhook configurations with
//! nothing in them yet, and its Deployment.
//!
//! It can read, ask who may do what, and fill what stands here under its names. It makes no credential, no role and no binding,
//! and makes no webhook configuration but fills these.

use serde_json::{Value, json};

use super::{
    Deployments, env,
    rights::{account, cluster_role, cluster_role_binding, part_of, role, role_binding},
    workloads::{
        CONFIG, Workload, cluster_ca, config_volume, deployment, hub_token_volume, mount, mounts,
        pins, plain, selector,
    },
};
use crate::names::{
    ADMISSION, ADMISSION_PORT, ADMISSION_SECRET, ADMISSION_STATUS, ADMISSION_WEBHOOKS,
    AGENT_ADMISSION, EXCEPTED_POLICIES, HEALTH_PORT, POD_SECURITY_WEBHOOK, SYSTEM_NAMESPACE,
};

const ROLE: &str = "nullius:admission";
/// API servers still come for up to 15 s, what they asked is answered within 12 s, and what the agent does beside it ends within 15 s.
const GRACE_SECONDS: u32 = 60;

pub(super) fn rights() -> Vec<Value> {
    let read = ["get", "list", "watch"];
    let fill = ["get", "update", "patch"];
    let everywhere = json!([
        { "apiGroups": [""], "resources": ["namespaces", "configmaps"], "verbs": read },
        { "apiGroups": [""], "resources": ["pods", "replicationcontrollers"], "verbs": read },
        { "apiGroups": ["apps"], "resources": ["deployments", "replicasets", "statefulsets", "daemonsets"],
          "verbs": read },
        { "apiGroups": ["batch"], "resources": ["jobs", "cronjobs"], "verbs": read },
        { "apiGroups": ["admissionregistration.k8s.io"],
          "resources": ["validatingadmissionpolicies", "validatingadmissionpolicybindings"], "verbs": read },
        { "apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": read },
        { "apiGroups": ["nullius.dev"], "resources": ["namespacebaselines", "policyexceptions"], "verbs": read },
        // The policy `nullius-pod-security` narrows it to the level of Pod Security.
        { "apiGroups": [""], "resources": ["namespaces"], "verbs": ["patch"] },
        { "apiGroups": ["nullius.dev"], "resources": ["policyexceptions/status"], "verbs": ["patch"] },
        { "apiGroups": [""], "resources": ["limitranges", "resourcequotas"], "verbs": read },
        { "apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": read },
        { "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
          "resourceNames": [EXCEPTED_POLICIES], "verbs": read },
        { "apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"] },
        { "apiGroups": ["admissionregistration.k8s.io"],
          "resources": ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"],
          "resourceNames": [ADMISSION_WEBHOOKS, POD_SECURITY_WEBHOOK], "verbs": fill },
    ]);
    let system = json!([
        { "apiGroups": [""], "resources": ["secrets"], "resourceNames": [ADMISSION_SECRET],
          "verbs": ["get", "list", "watch", "update"] },
        { "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [ADMISSION_STATUS],
          "verbs": ["update"] },
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] },
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [AGENT_ADMISSION],
          "verbs": ["get", "update"] },
    ]);
    vec![
        account(ADMISSION),
        cluster_role(ROLE, everywhere),
        cluster_role_binding(ROLE, ROLE, &[ADMISSION]),
        excepted_policies(),
        cluster_role_binding(EXCEPTED_POLICIES, EXCEPTED_POLICIES, &[ADMISSION]),
        role(ROLE, SYSTEM_NAMESPACE, system),
        role_binding(ROLE, SYSTEM_NAMESPACE, ADMISSION),
        // Without content: applying the manifest again takes nothing away.
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": ADMISSION_SECRET, "namespace": SYSTEM_NAMESPACE, "labels": part_of() },
            "type": "nullius.dev/admission-ca",
        }),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": ADMISSION_STATUS, "namespace": SYSTEM_NAMESPACE, "labels": part_of() },
        }),
        configuration("ValidatingWebhookConfiguration", ADMISSION_WEBHOOKS),
        configuration("ValidatingWebhookConfiguration", POD_SECURITY_WEBHOOK),
        configuration("MutatingWebhookConfiguration", ADMISSION_WEBHOOKS),
    ]
}

/// Without rules, which administrators write: it says from which policies of the API server exceptions count.
fn excepted_policies() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": EXCEPTED_POLICIES, "labels": part_of() },
    })
}

fn configuration(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": { "name": name, "labels": part_of() },
    })
}

pub(super) fn workload(deployments: &Deployments, fingerprint: &str) -> Vec<Value> {
    let mut environment = pins();
    environment.extend([
        plain(env::API_TOKEN_FILE, env::API_TOKEN_PATH),
        plain(env::CLIENT_CA_FILE, env::CLIENT_CA_PATH),
        plain(env::LISTEN, &format!("[::]:{ADMISSION_PORT}")),
        json!({ "name": env::POD, "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }),
        // Whoever wants others than the agent's own writes them there.
        json!({ "name": env::EXCEPTION_NAMESPACES, "valueFrom": { "configMapKeyRef": {
            "name": CONFIG, "key": "exception-namespaces", "optional": true,
        } } }),
    ]);
    // Proxies of pods are of the version that leads their traffic.
    if deployments.identity.is_some() && deployments.host.mesh.is_some() {
        environment.extend([
            plain(env::PROXY_IMAGE, &deployments.image),
            plain(env::PROXY_PULL, deployments.pull_policy.as_str()),
        ]);
    }
    let mut mounts = mounts();
    mounts.push(mount("client-ca", env::CLIENT_CA_DIR));
    let api = json!({
        "name": "api",
        "projected": { "sources": [
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3600 } },
            cluster_ca(),
        ] },
    });
    // Whoever gives API servers a client certificate puts its authority there.
    let clients = json!({
        "name": "client-ca", "configMap": { "name": "nullius-admission-client-ca", "optional": true },
    });
    let ports = json!([
        { "name": "webhook", "containerPort": ADMISSION_PORT },
        { "name": "health", "containerPort": HEALTH_PORT },
    ]);
    vec![
        from_api_servers(),
        service(),
        deployment(&Workload {
            name: AGENT_ADMISSION,
            role: "admission",
            account: ADMISSION,
            replicas: deployments.admission_replicas,
            grace_seconds: GRACE_SECONDS,
            deployments,
            fingerprint,
            environment,
            ports,
            volumes: vec![config_volume(), hub_token_volume(), api, clients],
            mounts,
        }),
    ]
}

/// An API server is no pod, so that no selector means it; the webhook's path and TLS say who it is.
fn from_api_servers() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": { "name": AGENT_ADMISSION, "namespace": SYSTEM_NAMESPACE, "labels": part_of() },
        "spec": {
            "podSelector": { "matchLabels": selector(AGENT_ADMISSION) },
            "policyTypes": ["Ingress"],
            "ingress": [{ "ports": [{ "protocol": "TCP", "port": ADMISSION_PORT }] }],
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": AGENT_ADMISSION, "namespace": SYSTEM_NAMESPACE, "labels": part_of() },
        "spec": {
            "selector": selector(AGENT_ADMISSION),
            "ports": [{ "name": "webhook", "protocol": "TCP", "port": 443, "targetPort": ADMISSION_PORT }],
        },
    })
}
