//! Restricted since v1.19: every container names a seccomp profile that filters. From v1.25 on pods for Windows are left out.

use super::{
    Forbidden, Pod, Setters,
    seccomp_profile_baseline::{self, forbidden_types, is_filtering},
};
use crate::pod_security::{
    level::Level,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("seccompProfile_restricted"),
    level: Level::Restricted,
    about: "every container has a filter of system calls, named by itself or by its pod",
    revisions: &[
        Revision { since: 19, judge: v1_19, replaces: Some(seccomp_profile_baseline::CHECK.id) },
        Revision { since: 25, judge: v1_25, replaces: Some(seccomp_profile_baseline::CHECK.id) },
    ],
};

fn v1_19(pod: &Pod<'_>) -> Option<Forbidden> {
    if let Some(forbidden) = forbidden_types(pod) {
        return Some(forbidden);
    }
    if pod.security.seccomp.is_some_and(is_filtering) {
        return None;
    }
    let silent = Setters::containers(pod, &["seccompProfile", "type"], |container| {
        container.security.seccomp.is_none()
    });
    (!silent.is_empty()).then(|| Forbidden {
        reason: "seccompProfile",
        detail: format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            silent.text()
        ),
        spots: silent.spots("set `seccompProfile: {type: RuntimeDefault}` here or for the whole pod"),
    })
}

fn v1_25(pod: &Pod<'_>) -> Option<Forbidden> {
    if pod.is_for_windows() { None } else { v1_19(pod) }
}
