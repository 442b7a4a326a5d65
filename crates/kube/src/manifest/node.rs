//! `nullius node`: a DaemonSet in a namespace of its own, since what proves who others are sees all processes of its node.
//!
//! Its account has no right at all. What it can do it can do on its node alone: see processes, and mount its socket's directory into
//! pods. It is not privileged: it has no devices, its root is read-only, and its system calls are those of any pod.

use nullius_model::ClusterName;
use serde_json::{Value, json};

use super::{
    Deployments, env,
    guards::{
        binding_of, everything, identity_variables, is_account, policy, request_variables, variable,
    },
    rights::part_of,
    workloads::{plain, pod_labels, probe, selector},
};
use crate::names::{
    CSI_DRIVER, IDENTITY, NODE, NODE_HEALTH_PORT, NODE_NAMESPACE, NODE_PROBES_PORT, TRUST_MAP,
};

/// The node answers what was asked within 2 s, and what it does beside that ends within 10 s.
const GRACE_SECONDS: u32 = 20;

/// Where things are on the hosts of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeHost {
    /// The kubelet's root directory.
    pub kubelet: String,
    /// The cgroup below which the kubelet keeps its pods.
    pub cgroup_root: String,
    /// The directory of the socket, which pods get.
    pub socket_dir: String,
    /// The directory for what the node remembers.
    pub state_dir: String,
    /// The part of the mesh, where the cluster wants it.
    pub mesh: Option<MeshHost>,
}

/// Where the container runtime of a host looks for networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshHost {
    /// The directory of plugins.
    pub cni_programs: String,
    /// The directory of networks.
    pub cni_networks: String,
    /// The directory of the socket on which the plugin asks the node; it is nobody else's.
    pub socket_dir: String,
}

impl Default for MeshHost {
    fn default() -> Self {
        Self {
            cni_programs: "/opt/cni/bin".to_owned(),
            cni_networks: "/etc/cni/net.d".to_owned(),
            socket_dir: "/run/nullius/node".to_owned(),
        }
    }
}

impl Default for NodeHost {
    fn default() -> Self {
        Self {
            kubelet: "/var/lib/kubelet".to_owned(),
            cgroup_root: "/".to_owned(),
            socket_dir: "/run/nullius/workload".to_owned(),
            state_dir: "/var/lib/nullius/node".to_owned(),
            mesh: None,
        }
    }
}

pub(super) fn objects(cluster: &ClusterName, deployments: &Deployments) -> Vec<Value> {
    let closed = closed();
    let binding = binding_of(&closed);
    vec![
        closed,
        binding,
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": { "name": NODE, "namespace": NODE_NAMESPACE, "labels": part_of() },
            "automountServiceAccountToken": false,
        }),
        driver(),
        daemon_set(cluster, deployments),
    ]
}

/// Who runs as `nullius-node` is believed to be a node: nobody but the cluster itself and its administrators runs anything beside it.
fn closed() -> Value {
    let who = format!(
        "variables.controller || 'system:nodes' in variables.groups || variables.guardian \
        || variables.resource == 'events' || variables.resource == 'pods' && variables.subresource == 'eviction' \
        || variables.identity && request.resource.group == '' && variables.resource == 'configmaps' \
            && variables.name == '{TRUST_MAP}' && request.operation != 'DELETE'"
    );
    let mut variables = identity_variables();
    variables.extend(request_variables());
    variables.push(variable("identity", &is_account(IDENTITY)));
    policy(
        "nullius-node-closed",
        json!({
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": NODE_NAMESPACE } },
            "resourceRules": [everything("Namespaced", &["CREATE", "UPDATE", "DELETE", "CONNECT"])],
        }),
        &[],
        variables,
        &[(&who, "only administrators of the cluster change what runs here")],
    )
}

/// Pods of any namespace may use it: what they get is read-only, and says nothing to who has no identity.
fn driver() -> Value {
    let mut labels = part_of();
    labels["security.kubernetes.io/csi-ephemeral-volume-profile"] = json!("restricted");
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": { "name": CSI_DRIVER, "labels": labels },
        "spec": {
            "attachRequired": false,
            "podInfoOnMount": true,
            "volumeLifecycleModes": ["Ephemeral"],
            "fsGroupPolicy": "None",
        },
    })
}

/// On a port of the host's loopback: others reach the addresses of a host, and could keep the kubelet waiting until it ends the node.
fn own_probe(path: &str, period: u32, failures: u32) -> Value {
    let mut probe = probe(path, period, failures);
    probe["httpGet"]["host"] = json!("127.0.0.1");
    probe["httpGet"]["port"] = json!(NODE_PROBES_PORT);
    probe
}

fn daemon_set(cluster: &ClusterName, deployments: &Deployments) -> Value {
    let host = &deployments.host;
    let plugin = format!("{}/plugins/{CSI_DRIVER}", host.kubelet);
    let registry = format!("{}/plugins_registry", host.kubelet);
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let mut environment = vec![
        field(env::NODE, "spec.nodeName"),
        plain(env::NODE_TRUST, env::NODE_TRUST_DIR),
        plain(env::NODE_TOKEN_FILE, env::NODE_TOKEN_PATH),
        plain(env::NODE_SOCKET, &format!("{}/api.sock", host.socket_dir)),
        plain(env::NODE_STATE, &host.state_dir),
        plain(env::KUBELET, &host.kubelet),
        plain(env::CGROUP_ROOT, &host.cgroup_root),
        plain(env::HEALTH, &format!("[::]:{NODE_HEALTH_PORT}")),
        plain(env::PROBES, &format!("127.0.0.1:{NODE_PROBES_PORT}")),
    ];
    let read_only =
        |name: &str, path: &str| json!({ "name": name, "mountPath": path, "readOnly": true });
    let same_place = |name: &str, path: &str| json!({ "name": name, "mountPath": path });
    let host_path = |name: &str, path: &str, kind: &str| json!({ "name": name, "hostPath": { "path": path, "type": kind } });
    // SYS_PTRACE: what a process executes, and its root and namespaces, are for nobody else to see.
    // SYS_ADMIN, SYS_CHROOT: to enter the kubelet's mount namespace, where volumes of pods are mounted, and the host's cgroup
    // namespace.
    let mut capabilities = vec!["SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE"];
    let mut mounts = vec![
        read_only("trust", env::NODE_TRUST_DIR),
        read_only("token", env::NODE_TOKEN_DIR),
        same_place("socket", &host.socket_dir),
        same_place("state", &host.state_dir),
        same_place("plugin", &plugin),
        same_place("registry", &registry),
    ];
    let mut volumes = vec![
        json!({ "name": "trust", "configMap": { "name": TRUST_MAP, "optional": true } }),
        json!({ "name": "token", "projected": { "sources": [{ "serviceAccountToken": {
            "audience": format!("nullius-agent:{cluster}"),
            "path": "token",
            "expirationSeconds": 3600,
        } }] } }),
        host_path("socket", &host.socket_dir, "DirectoryOrCreate"),
        host_path("state", &host.state_dir, "DirectoryOrCreate"),
        host_path("plugin", &plugin, "DirectoryOrCreate"),
        host_path("registry", &registry, "Directory"),
    ];
    if let Some(mesh) = &host.mesh {
        // Rules, routes and sockets in the networks of pods.
        capabilities.insert(0, "NET_ADMIN");
        environment.extend([
            plain(env::CNI_PROGRAMS, &mesh.cni_programs),
            plain(env::CNI_NETWORKS, &mesh.cni_networks),
            plain(env::CNI_SOCKET, &format!("{}/cni.sock", mesh.socket_dir)),
        ]);
        for (name, path) in [
            ("cni-programs", &mesh.cni_programs),
            ("cni-networks", &mesh.cni_networks),
            ("cni-socket", &mesh.socket_dir),
        ] {
            mounts.push(same_place(name, path));
            volumes.push(host_path(name, path, "DirectoryOrCreate"));
        }
    }
    let container = json!({
        "name": "node",
        "image": deployments.image,
        "imagePullPolicy": deployments.pull_policy.as_str(),
        "args": ["node"],
        "env": environment,
        "ports": [{ "name": "health", "containerPort": NODE_HEALTH_PORT }],
        "resources": { "requests": { "cpu": "10m", "memory": "24Mi" }, "limits": { "memory": "512Mi" } },
        "securityContext": {
            "capabilities": {
                "drop": ["ALL"],
                "add": capabilities,
            },
            "readOnlyRootFilesystem": true,
        },
        "readinessProbe": own_probe("/readyz", 1, 5),
        "livenessProbe": own_probe("/healthz", 10, 6),
        "volumeMounts": mounts,
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "name": NODE, "namespace": NODE_NAMESPACE, "labels": part_of() },
        "spec": {
            "selector": { "matchLabels": selector(NODE) },
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } },
            "template": {
                "metadata": { "labels": pod_labels(NODE) },
                "spec": {
                    "serviceAccountName": NODE,
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    // To know callers, who are named by the numbers of their processes.
                    "hostPID": true,
                    // It works before the cluster's network does.
                    "hostNetwork": true,
                    "dnsPolicy": "Default",
                    "priorityClassName": "system-node-critical",
                    "tolerations": [{ "operator": "Exists" }],
                    "terminationGracePeriodSeconds": GRACE_SECONDS,
                    "securityContext": {
                        // Files of the kubelet are root's, and so are those of the node.
                        "runAsUser": 0, "runAsGroup": 0,
                        "seccompProfile": { "type": "RuntimeDefault" },
                        // The default profile forbids mounts and other processes.
                        "appArmorProfile": { "type": "Unconfined" },
                        "seLinuxOptions": { "type": "spc_t" },
                    },
                    "containers": [container],
                    "volumes": volumes,
                },
            },
        },
    })
}
