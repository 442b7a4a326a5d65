//! Baseline since v1.34: probes and lifecycle handlers name no host, so that the kubelet reaches nothing but the pod.

use std::collections::BTreeSet;

use super::{Forbidden, Pod, Spot};
use crate::pod_security::{
    go_text::{plural, quoted_list},
    level::Level,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("hostProbesAndHostLifecycle"),
    level: Level::Baseline,
    about: "probes and lifecycle handlers reach their own pod only, not whatever the node can reach",
    revisions: &[Revision { since: 34, judge: v1_34, replaces: None }],
};

fn v1_34(pod: &Pod<'_>) -> Option<Forbidden> {
    let mut names = BTreeSet::new();
    let mut hosts = BTreeSet::new();
    let mut spots = Vec::new();
    for container in &pod.containers {
        for host in &container.hosts {
            names.insert(container.name);
            hosts.insert(host.host);
            let path = container.path().fields(&host.fields);
            spots.push(Spot::new(path, "remove `host`: the pod's own address is the default"));
        }
    }
    (!names.is_empty()).then(|| Forbidden {
        reason: "probe or lifecycle host",
        detail: format!(
            "{} {} {} {} {}",
            plural("container", "containers", names.len()),
            quoted_list(&names),
            plural("uses", "use", names.len()),
            plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
            quoted_list(&hosts)
        ),
        spots,
    })
}
