//! Baseline since v1.0: /proc stays masked; from v1.35 on only where the pod has no users of its own.

use std::collections::BTreeSet;

use super::{Forbidden, Pod, Setters};
use crate::pod_security::{
    go_text::quoted_list,
    level::Level,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("procMount"),
    level: Level::Baseline,
    about: "the runtime's masks over /proc stay, unless the pod has a user namespace of its own (v1.35)",
    revisions: &[
        Revision { since: 0, judge: masked, replaces: None },
        Revision { since: 35, judge: v1_35, replaces: None },
    ],
};

/// The rule without exception.
pub(super) fn masked(pod: &Pod<'_>) -> Option<Forbidden> {
    let mut values = BTreeSet::new();
    let setters = Setters::containers(pod, &["procMount"], |container| {
        let bad = container.proc_mount.filter(|mount| *mount != "Default");
        bad.inspect(|mount| _ = values.insert(*mount)).is_some()
    });
    (!setters.is_empty()).then(|| Forbidden {
        reason: "procMount",
        detail: format!(
            "{} must not set securityContext.procMount to {}",
            setters.text(),
            quoted_list(&values)
        ),
        spots: setters.spots("remove it, or use `procMount: Default`"),
    })
}

fn v1_35(pod: &Pod<'_>) -> Option<Forbidden> {
    if pod.has_own_users() { None } else { masked(pod) }
}
