//! Restricted since v1.8: no process may gain more rights than its parent. From v1.25 on pods for Windows are left out.

use super::{Forbidden, Pod, Setters};
use crate::pod_security::{
    level::Level,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("allowPrivilegeEscalation"),
    level: Level::Restricted,
    about: "a process in a container may not gain more privileges than its parent, as setuid programs do",
    revisions: &[
        Revision { since: 8, judge: v1_8, replaces: None },
        Revision { since: 25, judge: v1_25, replaces: None },
    ],
};

fn v1_8(pod: &Pod<'_>) -> Option<Forbidden> {
    let setters = Setters::containers(pod, &["allowPrivilegeEscalation"], |container| {
        container.allow_privilege_escalation != Some(false)
    });
    (!setters.is_empty()).then(|| Forbidden {
        reason: "allowPrivilegeEscalation != false",
        detail: format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            setters.text()
        ),
        spots: setters.spots("set `allowPrivilegeEscalation: false`"),
    })
}

fn v1_25(pod: &Pod<'_>) -> Option<Forbidden> {
    if pod.is_for_windows() { None } else { v1_8(pod) }
}
