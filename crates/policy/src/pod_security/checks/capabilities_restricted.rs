//! Restricted since v1.22: containers drop all capabilities and add at most `NET_BIND_SERVICE`.

use std::collections::BTreeSet;

use super::{Forbidden, Pod, Spot, capabilities_baseline};
use crate::pod_security::{
    go_text::{containers, quoted_list},
    level::Level,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("capabilities_restricted"),
    level: Level::Restricted,
    about: "containers drop all Linux capabilities and add at most `NET_BIND_SERVICE`",
    revisions: &[
        Revision { since: 22, judge: v1_22, replaces: Some(capabilities_baseline::CHECK.id) },
        Revision { since: 25, judge: v1_25, replaces: Some(capabilities_baseline::CHECK.id) },
    ],
};

fn v1_22(pod: &Pod<'_>) -> Option<Forbidden> {
    let mut keeping = Vec::new();
    let mut adding = Vec::new();
    let mut forbidden = BTreeSet::new();
    let mut spots = Vec::new();
    for container in &pod.containers {
        let mut dropped = container.capabilities.iter().flat_map(|capabilities| &capabilities.drop);
        if !dropped.any(|dropped| *dropped == "ALL") {
            keeping.push(container.name);
            let path = container.security_path(&["capabilities", "drop"]);
            spots.push(Spot::new(path, "set `drop: [\"ALL\"]`"));
        }
        let added = container.capabilities.iter().flat_map(|capabilities| &capabilities.add);
        let bad: Vec<_> =
            added.enumerate().filter(|(_, added)| **added != "NET_BIND_SERVICE").collect();
        if !bad.is_empty() {
            adding.push(container.name);
        }
        for (index, added) in bad {
            forbidden.insert(*added);
            let path = container.security_path(&["capabilities", "add"]).index(index);
            spots.push(Spot::new(path, format!("take `{added}` out")));
        }
    }
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = containers(&keeping);
        details.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&adding),
            quoted_list(&forbidden)
        ));
    }
    (!details.is_empty()).then(|| Forbidden {
        reason: "unrestricted capabilities",
        detail: details.join("; "),
        spots,
    })
}

fn v1_25(pod: &Pod<'_>) -> Option<Forbidden> {
    if pod.is_for_windows() { None } else { v1_22(pod) }
}
