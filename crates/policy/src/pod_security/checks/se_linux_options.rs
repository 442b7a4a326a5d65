//! Baseline since v1.0: SELinux types are those of containers, users and roles are not set. v1.31 adds a type.

use std::collections::BTreeSet;

use super::{Forbidden, Pod, Setters};
use crate::pod_security::{
    go_text::{plural, quoted_list},
    level::Level,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("seLinuxOptions"),
    level: Level::Baseline,
    about: "SELinux keeps containers apart: only types of containers, no user and no role",
    revisions: &[
        Revision { since: 0, judge: v1_0, replaces: None },
        Revision { since: 31, judge: v1_31, replaces: None },
    ],
};

const TYPES: [&str; 4] = ["", "container_t", "container_init_t", "container_kvm_t"];

fn v1_0(pod: &Pod<'_>) -> Option<Forbidden> {
    judge(pod, |kind| TYPES.contains(&kind))
}

fn v1_31(pod: &Pod<'_>) -> Option<Forbidden> {
    judge(pod, |kind| TYPES.contains(&kind) || kind == "container_engine_t")
}

fn judge(pod: &Pod<'_>, is_allowed: impl Fn(&str) -> bool) -> Option<Forbidden> {
    let mut kinds = BTreeSet::new();
    let (mut users, mut roles) = (false, false);
    let setters = Setters::of(pod, &["seLinuxOptions"], |security| {
        let Some(options) = &security.se_linux else { return false };
        let (kind, user, role) =
            (!is_allowed(options.kind), !options.user.is_empty(), !options.role.is_empty());
        if kind {
            kinds.insert(options.kind);
        }
        users |= user;
        roles |= role;
        kind || user || role
    });
    if setters.is_empty() {
        return None;
    }
    let mut details = Vec::new();
    if !kinds.is_empty() {
        details.push(format!("{} {}", plural("type", "types", kinds.len()), quoted_list(&kinds)));
    }
    if users {
        details.push("user may not be set".to_owned());
    }
    if roles {
        details.push("role may not be set".to_owned());
    }
    Some(Forbidden {
        reason: "seLinuxOptions",
        detail: format!(
            "{} set forbidden securityContext.seLinuxOptions: {}",
            setters.text(),
            details.join("; ")
        ),
        spots: setters
            .spots("remove `user` and `role`, and use a type of containers such as `container_t`"),
    })
}
