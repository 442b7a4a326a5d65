//! Baseline since v1.0: only sysctls that are the pod's own. Later versions know more of them.

use nullius_model::FieldPath;

use super::{Forbidden, Pod, Spot};
use crate::pod_security::{
    level::Level,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("sysctls"),
    level: Level::Baseline,
    about: "only kernel parameters that do not reach beyond the pod",
    revisions: &[
        Revision { since: 0, judge: |pod| judge(pod, 0), replaces: None },
        Revision { since: 27, judge: |pod| judge(pod, 27), replaces: None },
        Revision { since: 29, judge: |pod| judge(pod, 29), replaces: None },
        Revision { since: 32, judge: |pod| judge(pod, 32), replaces: None },
        Revision { since: 37, judge: |pod| judge(pod, 37), replaces: None },
    ],
};

/// What is safe, and the minor version that says so first.
const SAFE: [(u64, &str); 14] = [
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
    (37, "net.ipv4.tcp_slow_start_after_idle"),
    (37, "net.ipv4.tcp_notsent_lowat"),
];

fn judge(pod: &Pod<'_>, minor: u64) -> Option<Forbidden> {
    let is_safe = |name: &str| SAFE.iter().any(|(since, safe)| *safe == name && *since <= minor);
    let bad = || pod.sysctls.iter().enumerate().filter(|(_, name)| !is_safe(name));
    bad().next()?;
    Some(Forbidden {
        reason: "forbidden sysctls",
        detail: bad().map(|(_, name)| *name).collect::<Vec<_>>().join(", "),
        spots: bad()
            .map(|(index, name)| {
                let path = FieldPath::of(&["spec", "securityContext", "sysctls"]);
                Spot::new(path.index(index).field("name"), format!("take `{name}` out"))
            })
            .collect(),
    })
}
