//! Restricted since v1.23: nobody asks for user 0; from v1.35 on pods with users of their own are left out.

use super::{Forbidden, Pod, Setters};
use crate::pod_security::{
    level::Level,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("runAsUser"),
    level: Level::Restricted,
    about: "no container asks for user 0, unless the pod has a user namespace of its own (v1.35)",
    revisions: &[
        Revision { since: 23, judge: v1_23, replaces: None },
        Revision { since: 35, judge: v1_35, replaces: None },
    ],
};

fn v1_23(pod: &Pod<'_>) -> Option<Forbidden> {
    let setters = Setters::of(pod, &["runAsUser"], |security| security.run_as_user == Some(0));
    (!setters.is_empty()).then(|| Forbidden {
        reason: "runAsUser=0",
        detail: format!("{} must not set runAsUser=0", setters.text()),
        spots: setters.spots("remove `runAsUser: 0`, or use another user"),
    })
}

fn v1_35(pod: &Pod<'_>) -> Option<Forbidden> {
    if pod.has_own_users() { None } else { v1_23(pod) }
}
