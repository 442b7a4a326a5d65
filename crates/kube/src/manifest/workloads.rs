//! The agent's Deployments with what they need: pins, join token, Service, network rules.
//!
//! `agent proxy` gets no token for the API server at all, only one that the hub alone accepts.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nullius_model::ClusterName;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Deployments, HubPins, admission, env, identity, rights::part_of};
use crate::names::{
    AGENT_PROXY, AUDIT_PORT, CONTROL_PORT, HEALTH_PORT, JOIN_SECRET, PROVISIONER,
    SESSIONS_NAMESPACE, SYSTEM_NAMESPACE,
};

pub(crate) const CONFIG: &str = "nullius-agent";
const PROXY: &str = "nullius-agent-proxy";
pub(super) const CONTROL: &str = "nullius-agent-control";
const HUB_AUDIENCE: &str = "nullius-hub";
/// The agent lets running streams end for 30 s; the kubelet waits a little longer.
pub(super) const GRACE_SECONDS: u32 = 40;

pub(super) fn objects(
    cluster: &ClusterName,
    deployments: &Deployments,
    hub: &HubPins,
    join_token: &SecretString,
) -> Vec<Value> {
    let config = config_map(cluster, hub);
    let fingerprint = hex::encode(Sha256::digest(config["data"].to_string()));
    let mut objects = vec![
        config,
        join_secret(join_token),
        deny_all(SESSIONS_NAMESPACE),
        deny_all(SYSTEM_NAMESPACE),
        control_from_proxies(),
        service(),
        control(deployments, &fingerprint),
        proxy(deployments, &fingerprint),
    ];
    objects.extend(admission::workload(deployments, &fingerprint));
    if let Some(parts) = &deployments.identity {
        objects.extend(identity::workload(parts, deployments, &fingerprint));
    }
    objects
}

fn config_map(cluster: &ClusterName, hub: &HubPins) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": CONFIG, "namespace": SYSTEM_NAMESPACE, "labels": part_of() },
        "data": {
            "cluster": cluster,
            "hub": hub.address,
            "hub-id": hub.hub_id,
            "infra-ca.pem": hub.infra_ca_pem,
            "offline-key": hub.offline_key,
        },
    })
}

fn join_secret(join_token: &SecretString) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": JOIN_SECRET, "namespace": SYSTEM_NAMESPACE, "labels": part_of() },
        "type": "nullius.dev/join",
        "data": { "token": STANDARD.encode(join_token.expose_secret()) },
    })
}

fn deny_all(namespace: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": { "name": "nullius-deny-ingress", "namespace": namespace, "labels": part_of() },
        "spec": { "podSelector": {}, "policyTypes": ["Ingress"] },
    })
}

fn control_from_proxies() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": { "name": CONTROL, "namespace": SYSTEM_NAMESPACE, "labels": part_of() },
        "spec": {
            "podSelector": { "matchLabels": selector(CONTROL) },
            "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{ "podSelector": { "matchLabels": selector(PROXY) } }],
                "ports": [{ "protocol": "TCP", "port": CONTROL_PORT }],
            }],
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": CONTROL, "namespace": SYSTEM_NAMESPACE, "labels": part_of() },
        "spec": {
            "selector": selector(CONTROL),
            "ports": [{ "name": "credentials", "protocol": "TCP", "port": CONTROL_PORT, "targetPort": CONTROL_PORT }],
        },
    })
}

fn control(deployments: &Deployments, fingerprint: &str) -> Value {
    let mut environment = pins();
    environment.extend([
        plain(env::API_TOKEN_FILE, env::API_TOKEN_PATH),
        plain(env::JOIN_TOKEN_FILE, env::JOIN_TOKEN_PATH),
        plain(env::LISTEN, &format!("[::]:{CONTROL_PORT}")),
        plain(env::AUDIT_LISTEN, &format!("[::]:{AUDIT_PORT}")),
    ]);
    let ports = json!([
        { "name": "credentials", "containerPort": CONTROL_PORT },
        { "name": "audit", "containerPort": AUDIT_PORT },
        { "name": "health", "containerPort": HEALTH_PORT },
    ]);
    let mut volumes = vec![config_volume(), hub_token_volume()];
    volumes.push(json!({
        "name": "api",
        "projected": { "sources": [
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3600 } },
            cluster_ca(),
        ] },
    }));
    volumes
        .push(json!({ "name": "join", "secret": { "secretName": JOIN_SECRET, "optional": true } }));
    let mut mounts = mounts();
    mounts.push(mount("join", env::JOIN_DIR));
    deployment(&Workload {
        name: CONTROL,
        role: "control",
        account: PROVISIONER,
        replicas: deployments.control_replicas,
        grace_seconds: GRACE_SECONDS,
        deployments,
        fingerprint,
        environment,
        ports,
        volumes,
        mounts,
    })
}

fn proxy(deployments: &Deployments, fingerprint: &str) -> Value {
    let mut environment = pins();
    // The kubelet gives each pod the addresses of the Services that stand; no DNS is needed.
    let service = "$(NULLIUS_AGENT_CONTROL_SERVICE_HOST):$(NULLIUS_AGENT_CONTROL_SERVICE_PORT)";
    environment.push(plain(env::CONTROL, service));
    let volumes = vec![
        config_volume(),
        hub_token_volume(),
        json!({ "name": "api", "projected": { "sources": [cluster_ca()] } }),
    ];
    deployment(&Workload {
        name: PROXY,
        role: "proxy",
        account: AGENT_PROXY,
        replicas: deployments.proxy_replicas,
        grace_seconds: GRACE_SECONDS,
        deployments,
        fingerprint,
        environment,
        ports: json!([{ "name": "health", "containerPort": HEALTH_PORT }]),
        volumes,
        mounts: mounts(),
    })
}

pub(super) struct Workload<'a> {
    pub(super) name: &'a str,
    pub(super) role: &'a str,
    pub(super) account: &'a str,
    pub(super) replicas: u16,
    pub(super) grace_seconds: u32,
    pub(super) deployments: &'a Deployments,
    pub(super) fingerprint: &'a str,
    pub(super) environment: Vec<Value>,
    pub(super) ports: Value,
    pub(super) volumes: Vec<Value>,
    pub(super) mounts: Vec<Value>,
}

pub(super) fn deployment(workload: &Workload<'_>) -> Value {
    let labels = selector(workload.name);
    let container = json!({
        "name": "agent",
        "image": workload.deployments.image,
        "imagePullPolicy": workload.deployments.pull_policy.as_str(),
        "args": ["agent", workload.role],
        "env": workload.environment,
        "ports": workload.ports,
        "resources": { "requests": { "cpu": "10m", "memory": "24Mi" }, "limits": { "memory": "512Mi" } },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
        },
        "readinessProbe": probe("/readyz", 1, 5),
        "livenessProbe": probe("/healthz", 10, 6),
        "volumeMounts": workload.mounts,
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": workload.name, "namespace": SYSTEM_NAMESPACE, "labels": part_of() },
        "spec": {
            "replicas": workload.replicas,
            "selector": { "matchLabels": labels },
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } },
            "template": {
                "metadata": {
                    "labels": pod_labels(workload.name),
                    "annotations": { "nullius.dev/config": workload.fingerprint },
                },
                "spec": {
                    "serviceAccountName": workload.account,
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": true,
                    "terminationGracePeriodSeconds": workload.grace_seconds,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": { "matchLabels": labels },
                    }],
                    "containers": [container],
                    "volumes": workload.volumes,
                },
            },
        },
    })
}

pub(super) fn probe(path: &str, period: u32, failures: u32) -> Value {
    json!({
        "httpGet": { "path": path, "port": "health" },
        "periodSeconds": period, "timeoutSeconds": 3, "failureThreshold": failures,
    })
}

pub(super) fn selector(name: &str) -> Value {
    json!({ "app.kubernetes.io/name": "nullius", "app.kubernetes.io/component": name })
}

pub(super) fn pod_labels(name: &str) -> Value {
    let mut labels = selector(name);
    labels["app.kubernetes.io/part-of"] = json!("nullius");
    labels
}

/// What both roles know of hub and cluster.
pub(super) fn pins() -> Vec<Value> {
    let from_config = |name: &str, key: &str| json!({ "name": name, "valueFrom": { "configMapKeyRef": { "name": CONFIG, "key": key } } });
    vec![
        from_config(env::CLUSTER, "cluster"),
        from_config(env::HUB, "hub"),
        from_config(env::HUB_ID, "hub-id"),
        from_config(env::OFFLINE_KEY, "offline-key"),
        plain(env::INFRA_CA_FILE, env::INFRA_CA_PATH),
        plain(env::HUB_TOKEN_FILE, env::HUB_TOKEN_PATH),
        plain(env::API_CA_FILE, env::API_CA_PATH),
        plain(env::HEALTH, &format!("[::]:{HEALTH_PORT}")),
    ]
}

pub(super) fn plain(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}

pub(super) fn mounts() -> Vec<Value> {
    vec![
        mount("config", env::CONFIG_DIR),
        mount("hub-token", env::HUB_TOKEN_DIR),
        mount("api", env::API_DIR),
    ]
}

pub(super) fn mount(name: &str, path: &str) -> Value {
    json!({ "name": name, "mountPath": path, "readOnly": true })
}

pub(super) fn config_volume() -> Value {
    json!({
        "name": "config",
        "configMap": { "name": CONFIG, "items": [{ "key": "infra-ca.pem", "path": "infra-ca.pem" }] },
    })
}

pub(super) fn hub_token_volume() -> Value {
    json!({
        "name": "hub-token",
        "projected": { "sources": [
            { "serviceAccountToken": { "audience": HUB_AUDIENCE, "path": "token", "expirationSeconds": 3600 } },
        ] },
    })
}

pub(super) fn cluster_ca() -> Value {
    json!({ "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } })
}
