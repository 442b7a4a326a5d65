//! Baseline since v1.0: containers take no port of their node.

use std::collections::BTreeSet;

use super::{Forbidden, Pod, Spot};
use crate::pod_security::{
    go_text::{containers, plural},
    level::Level,
    pod::PortOrigin,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("hostPorts"),
    level: Level::Baseline,
    about: "containers take no port of their node",
    revisions: &[Revision { since: 0, judge: v1_0, replaces: None }],
};

fn v1_0(pod: &Pod<'_>) -> Option<Forbidden> {
    let mut names = Vec::new();
    let mut ports = BTreeSet::new();
    let mut spots = Vec::new();
    for container in pod.containers.iter().filter(|container| !container.host_ports.is_empty()) {
        names.push(container.name);
        for port in &container.host_ports {
            ports.insert(port.port.to_string());
            let path = container.path().field("ports").index(port.index);
            spots.push(match port.origin {
                PortOrigin::Written => Spot::new(
                    path.field("hostPort"),
                    format!("remove `hostPort: {}`; reach the port by a Service", port.port),
                ),
                PortOrigin::HostNetwork => Spot::new(
                    path.field("containerPort"),
                    "leave the network of the node (`hostNetwork`): in it every container port is one of the node",
                ),
            });
        }
    }
    (!names.is_empty()).then(|| Forbidden {
        reason: "hostPort",
        detail: format!(
            "{} {} {} {}",
            containers(&names),
            plural("uses", "use", names.len()),
            plural("hostPort", "hostPorts", ports.len()),
            ports.into_iter().collect::<Vec<_>>().join(", ")
        ),
        spots,
    })
}
