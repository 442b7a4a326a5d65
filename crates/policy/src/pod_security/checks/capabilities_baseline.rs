//! Baseline since v1.0: containers add only capabilities that runtimes give by default.

use std::collections::BTreeSet;

use super::{Forbidden, Pod, Spot};
use crate::pod_security::{
    go_text::{containers, quoted_list},
    level::Level,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("capabilities_baseline"),
    level: Level::Baseline,
    about: "containers add no Linux capability beyond those that runtimes give by default",
    revisions: &[Revision { since: 0, judge: v1_0, replaces: None }],
};

const ALLOWED: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn v1_0(pod: &Pod<'_>) -> Option<Forbidden> {
    let mut names = Vec::new();
    let mut forbidden = BTreeSet::new();
    let mut spots = Vec::new();
    for container in &pod.containers {
        let added = container.capabilities.iter().flat_map(|capabilities| &capabilities.add);
        let bad: Vec<_> =
            added.enumerate().filter(|(_, added)| !ALLOWED.contains(*added)).collect();
        if bad.is_empty() {
            continue;
        }
        names.push(container.name);
        for (index, added) in bad {
            forbidden.insert(*added);
            let path = container.security_path(&["capabilities", "add"]).index(index);
            spots.push(Spot::new(path, format!("take `{added}` out")));
        }
    }
    (!names.is_empty()).then(|| Forbidden {
        reason: "non-default capabilities",
        detail: format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&names),
            quoted_list(&forbidden)
        ),
        spots,
    })
}
