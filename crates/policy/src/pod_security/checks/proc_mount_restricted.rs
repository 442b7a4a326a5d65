//! Restricted since v1.35: /proc stays masked, also for pods with users of their own.

use super::proc_mount;
use crate::pod_security::{
    level::Level,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("procMount_restricted"),
    level: Level::Restricted,
    about: "the runtime's masks over /proc stay",
    revisions: &[Revision {
        since: 35,
        judge: proc_mount::masked,
        replaces: Some(proc_mount::CHECK.id),
    }],
};
