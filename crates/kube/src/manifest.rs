//! The one manifest that joins a cluster: applied once by an administrator, readable before it is.
//!
//! It decides in the cluster what the hub can never change from outside: the ceiling, who may touch session
//! objects, whom the agent trusts. Objects that the agent keeps by itself (binder list, kept key set) are written
//! without content, so that applying the manifest again takes nothing away.

use nullius_model::{Ceiling, ClusterName, TrustDomain};
use secrecy::SecretString;
use serde_json::Value;

pub use self::node::{MeshHost, NodeHost};
pub(crate) use self::workloads::CONFIG;

mod admission;
mod audit;
mod baselines;
pub mod env;
mod exceptions;
mod guards;
mod identity;
mod intentions;
mod levels;
mod machines;
mod node;
mod rights;
mod schema;
mod workload_identities;
mod workloads;

/// Whom the agent trusts, pinned in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubPins {
    /// Where agents dial, `host:port`.
    pub address: String,
    /// The infrastructure root, PEM.
    pub infra_ca_pem: String,
    /// Public key that signs key sets, base64url without padding.
    pub offline_key: String,
    /// Identity of the hub fleet.
    pub hub_id: String,
}

/// When the kubelet pulls the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    #[default]
    IfNotPresent,
    Never,
    Always,
}

impl PullPolicy {
    fn as_str(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
            Self::Always => "Always",
        }
    }
}

/// The agent's Deployments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployments {
    /// Image that holds the `nullius` binary.
    pub image: String,
    /// When it is pulled.
    pub pull_policy: PullPolicy,
    /// Replicas of `agent proxy`.
    pub proxy_replicas: u16,
    /// Replicas of `agent control`.
    pub control_replicas: u16,
    /// Replicas of `agent admission`.
    pub admission_replicas: u16,
    /// `agent identity` and `nullius node` on each node, where the cluster wants them.
    pub identity: Option<IdentityParts>,
    /// Where things are on the hosts, for `nullius node`.
    pub host: Box<NodeHost>,
}

/// `agent identity` of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityParts {
    /// Who speaks for the cluster's workloads.
    pub trust_domain: TrustDomain,
    /// Replicas.
    pub replicas: u16,
}

impl IdentityParts {
    /// Two replicas.
    pub fn of_domain(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, replicas: 2 }
    }
}

impl Deployments {
    /// One replica of each, and two of `agent admission`, of this image; no `agent identity`.
    pub fn of_image(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            pull_policy: PullPolicy::default(),
            proxy_replicas: 1,
            control_replicas: 1,
            admission_replicas: 2,
            identity: None,
            host: Box::default(),
        }
    }
}

/// What takes all of Nullius out of a cluster, in this order, with the credential of one of its administrators:
/// exceptions and baselines first, so that the API server's policies ask about everybody again and namespaces are let go; then levels of Pod
/// Security, while the webhook still enforces them, and marks that stand beside another level; then webhook and policies, which guard the rest.
pub const CLEAN_UP: [&str; 8] = [
    "kubectl delete customresourcedefinition -l app.kubernetes.io/part-of=nullius",
    "kubectl label namespace -l nullius.dev/pod-security-enforce,pod-security.kubernetes.io/enforce=baseline pod-security.kubernetes.io/enforce=restricted nullius.dev/pod-security-enforce- --overwrite",
    "kubectl label namespace -l nullius.dev/pod-security-enforce nullius.dev/pod-security-enforce-",
    "kubectl delete networkpolicy,resourcequota,limitrange,rolebinding -A -l nullius.dev/baseline",
    "kubectl delete csidriver,validatingwebhookconfiguration,mutatingwebhookconfiguration,validatingadmissionpolicybinding,validatingadmissionpolicy,clusterrolebinding,clusterrole -l app.kubernetes.io/part-of=nullius",
    "kubectl delete clusterrolebinding,clusterrole -l app.kubernetes.io/managed-by=nullius",
    "kubectl delete rolebinding -A -l app.kubernetes.io/managed-by=nullius",
    "kubectl delete namespace nullius-node nullius-sessions nullius-system --ignore-not-found",
];

/// Where the agent runs.
#[derive(Debug)]
pub enum Shape {
    /// As Deployments in the cluster, which redeem the join token.
    InCluster { deployments: Deployments, hub: HubPins, join_token: SecretString },
    /// As a process beside a kubeconfig: accounts, rights and policies only.
    Beside,
}

/// All that is applied to a cluster to join it.
#[derive(Debug)]
pub struct JoinManifest {
    /// Name of the cluster at the hub.
    pub cluster: ClusterName,
    /// What no session's rights ever exceed.
    pub ceiling: Ceiling,
    /// Where the agent runs.
    pub shape: Shape,
}

impl JoinManifest {
    /// The objects in the order in which they are applied.
    pub fn objects(&self) -> Vec<Value> {
        let mut objects = rights::namespaces();
        objects.extend(guards::policies());
        objects.extend(rights::accounts(&self.ceiling, &self.shape));
        if let Shape::InCluster { deployments, hub, join_token } = &self.shape {
            objects.extend(exceptions::objects());
            objects.extend(levels::objects());
            objects.extend(baselines::objects());
            objects.extend(admission::rights());
            objects.extend(audit::objects());
            if deployments.identity.is_some() {
                objects.extend(intentions::objects());
                objects.extend(workload_identities::objects());
                objects.extend(machines::objects());
                objects.extend(identity::rights());
            }
            objects.extend(workloads::objects(&self.cluster, deployments, hub, join_token));
            if deployments.identity.is_some() {
                objects.extend(node::objects(&self.cluster, deployments));
            }
        }
        objects
    }

    /// The objects as one YAML text for `kubectl apply -f -`.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        for object in self.objects() {
            text.push_str("---\n");
            // JSON values always have a YAML form.
            text.push_str(&serde_yaml_ng::to_string(&object).unwrap_or_default());
        }
        text
    }
}

#[cfg(test)]
mod tests;
