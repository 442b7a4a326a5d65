//! Which pods are in the mesh: by what their namespace says, or else by their own label, and never those that the mesh itself or the cluster needs.

use nullius_kube::{
    MESH_DISABLED, MESH_NODE, MESH_SIDECAR, NODE_NAMESPACE, SYSTEM_NAMESPACE, identity::PodNews,
};
use nullius_mesh::news::Mode;

/// Namespaces whose pods are never in the mesh: without them nothing would come up.
const NEVER: [&str; 3] = [SYSTEM_NAMESPACE, NODE_NAMESPACE, "kube-system"];

/// What a namespace says of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OfNamespace {
    pub(crate) label: Option<Box<str>>,
    /// ServiceAccounts whose pods are left out.
    pub(crate) exempt: Box<[Box<str>]>,
}

impl OfNamespace {
    /// Whether it says that its pods are in the mesh. Who mistypes the word shall not open what was closed: only the one that leaves them
    /// out does.
    pub(crate) fn is_in_mesh(&self) -> bool {
        self.label.as_deref().is_some_and(|label| label != MESH_DISABLED)
    }
}

/// Whether a pod is in the mesh. Where its namespace says so nothing of the pod takes it out, and where that says no nothing brings it in;
/// where it says nothing, the pod's own label decides.
pub(crate) fn is_in_mesh(pod: &PodNews, namespace: &OfNamespace) -> bool {
    let is_wanted = match namespace.label.as_deref() {
        Some(MESH_DISABLED) => false,
        Some(_) => !namespace.exempt.contains(&pod.account),
        None => matches!(pod.mesh.as_deref(), Some(MESH_NODE | MESH_SIDECAR)),
    };
    is_wanted
        && !NEVER.contains(&&*pod.namespace)
        && !pod.is_on_host
        && !pod.is_ended
        && !pod.account.is_empty()
}

/// Who leads the calls of a pod. Where its namespace says `node` that is the node, whatever the pod says of itself; elsewhere a pod that says
/// so has a proxy beside its containers, and every other one in the mesh is led by the node.
pub(crate) fn mode(pod: &PodNews, namespace: &OfNamespace) -> Mode {
    if !is_in_mesh(pod, namespace) {
        return Mode::None;
    }
    match (namespace.label.as_deref(), pod.mesh.as_deref()) {
        (Some(MESH_NODE), _) => Mode::Node,
        (_, Some(MESH_SIDECAR)) => Mode::Sidecar,
        _ => Mode::Node,
    }
}

/// Whether a label is a word that nobody knows.
pub(crate) fn is_odd(label: Option<&str>) -> bool {
    label.is_some_and(|label| ![MESH_NODE, MESH_SIDECAR, MESH_DISABLED].contains(&label))
}
