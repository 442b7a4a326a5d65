//! Baseline since v1.0: no container is privileged.

use super::{Forbidden, Pod, Setters};
use crate::pod_security::{
    level::Level,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("privileged"),
    level: Level::Baseline,
    about: "no container is privileged: it would own its node",
    revisions: &[Revision { since: 0, judge: v1_0, replaces: None }],
};

fn v1_0(pod: &Pod<'_>) -> Option<Forbidden> {
    let setters =
        Setters::containers(pod, &["privileged"], |container| container.privileged == Some(true));
    (!setters.is_empty()).then(|| Forbidden {
        reason: "privileged",
        detail: format!("{} must not set securityContext.privileged=true", setters.text()),
        spots: setters.spots("remove `privileged: true`"),
    })
}
