//! Restricted since v1.0: containers run as somebody else than root; from v1.35 on pods with users of their own are left out.

use super::{Forbidden, Pod, Setters};
use crate::pod_security::{
    level::Level,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("runAsNonRoot"),
    level: Level::Restricted,
    about: "containers run as somebody else than root, unless the pod has a user namespace of its own (v1.35)",
    revisions: &[
        Revision { since: 0, judge: v1_0, replaces: None },
        Revision { since: 35, judge: v1_35, replaces: None },
    ],
};

const FIELD: [&str; 1] = ["runAsNonRoot"];

fn v1_0(pod: &Pod<'_>) -> Option<Forbidden> {
    let reason = "runAsNonRoot != true";
    let refusing = Setters::of(pod, &FIELD, |security| security.run_as_non_root == Some(false));
    if !refusing.is_empty() {
        return Some(Forbidden {
            reason,
            detail: format!("{} must not set securityContext.runAsNonRoot=false", refusing.text()),
            spots: refusing.spots("set `runAsNonRoot: true`"),
        });
    }
    if pod.security.run_as_non_root == Some(true) {
        return None;
    }
    let silent =
        Setters::containers(pod, &FIELD, |container| container.security.run_as_non_root.is_none());
    (!silent.is_empty()).then(|| Forbidden {
        reason,
        detail: format!("pod or {} must set securityContext.runAsNonRoot=true", silent.text()),
        spots: silent.spots("set `runAsNonRoot: true` here or for the whole pod"),
    })
}

fn v1_35(pod: &Pod<'_>) -> Option<Forbidden> {
    if pod.has_own_users() { None } else { v1_0(pod) }
}
