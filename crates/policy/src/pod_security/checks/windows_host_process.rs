//! Baseline since v1.0: no Windows container is a process of its node.

use super::{Forbidden, Pod, Setters};
use crate::pod_security::{
    level::Level,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("windowsHostProcess"),
    level: Level::Baseline,
    about: "no Windows container is a process of its node",
    revisions: &[Revision { since: 0, judge: v1_0, replaces: None }],
};

fn v1_0(pod: &Pod<'_>) -> Option<Forbidden> {
    let setters = Setters::of(pod, &["windowsOptions", "hostProcess"], |security| {
        security.host_process == Some(true)
    });
    (!setters.is_empty()).then(|| Forbidden {
        reason: "hostProcess",
        detail: format!(
            "{} must not set securityContext.windowsOptions.hostProcess=true",
            setters.text()
        ),
        spots: setters.spots("remove `hostProcess: true`"),
    })
}
