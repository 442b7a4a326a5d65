//! Which pods are in the mesh: by the label of their namespace or their own, and never those that the mesh itself or the cluster needs.

use nullius_kube::{MESH_DISABLED, MESH_NODE, NODE_NAMESPACE, SYSTEM_NAMESPACE, identity::PodNews};

/// Namespaces whose pods are never in the mesh: without them nothing would come up.
const NEVER: [&str; 3] = [SYSTEM_NAMESPACE, NODE_NAMESPACE, "kube-system"];

/// Whether a pod is in the mesh. `disabled` on pod or namespace wins; a word that nobody knows is as if it were not there.
pub(crate) fn is_in_mesh(pod: &PodNews, of_namespace: Option<&str>) -> bool {
    let labels = [of_namespace, pod.mesh.as_deref()];
    !NEVER.contains(&&*pod.namespace)
        && !pod.is_on_host
        && !pod.is_ended
        && !pod.account.is_empty()
        && labels.contains(&Some(MESH_NODE))
        && !labels.contains(&Some(MESH_DISABLED))
}

/// Whether a label is a word that nobody knows.
pub(crate) fn is_odd(label: Option<&str>) -> bool {
    label.is_some_and(|label| ![MESH_NODE, MESH_DISABLED].contains(&label))
}
