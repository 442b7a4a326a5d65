//! Baseline since v1.0: pods share no namespace with their node.

use nullius_model::FieldPath;

use super::{Forbidden, Pod, Spot};
use crate::pod_security::{
    level::Level,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("hostNamespaces"),
    level: Level::Baseline,
    about: "pods do not share the network, processes or IPC of their node",
    revisions: &[Revision { since: 0, judge: v1_0, replaces: None }],
};

fn v1_0(pod: &Pod<'_>) -> Option<Forbidden> {
    let all =
        [("hostNetwork", pod.host_network), ("hostPID", pod.host_pid), ("hostIPC", pod.host_ipc)];
    let set: Vec<_> =
        all.into_iter().filter(|(_, is_set)| *is_set).map(|(field, _)| field).collect();
    (!set.is_empty()).then(|| Forbidden {
        reason: "host namespaces",
        detail: set.iter().map(|field| format!("{field}=true")).collect::<Vec<_>>().join(", "),
        spots: set
            .iter()
            .map(|field| {
                let path = FieldPath::of(&["spec"]).field(*field);
                Spot::new(path, format!("remove `{field}: true`"))
            })
            .collect(),
    })
}
