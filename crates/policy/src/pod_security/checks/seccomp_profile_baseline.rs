//! Baseline: seccomp is not turned off. Up to v1.18 by alpha annotations, from v1.19 on by fields.

use std::collections::{BTreeMap, BTreeSet};

use nullius_model::FieldPath;

use super::{Forbidden, Pod, Setters, Spot};
use crate::pod_security::{
    go_text::{go_quoted, plural, quoted_list},
    level::Level,
    pod::{SECCOMP_CONTAINER_PREFIX, SECCOMP_POD},
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("seccompProfile_baseline"),
    level: Level::Baseline,
    about: "the filter of system calls is not turned off",
    revisions: &[
        Revision { since: 0, judge: v1_0, replaces: None },
        Revision { since: 19, judge: v1_19, replaces: None },
    ],
};

fn v1_0(pod: &Pod<'_>) -> Option<Forbidden> {
    let of_containers = pod.containers.iter();
    let keys =
        of_containers.map(|container| format!("{SECCOMP_CONTAINER_PREFIX}{}", container.name));
    let bad: BTreeMap<String, String> = std::iter::once(SECCOMP_POD.to_owned())
        .chain(keys)
        .filter_map(|key| {
            let value = pod.annotations.get(key.as_str()).filter(|value| !is_annotation(value))?;
            Some((format!("{key}={}", go_quoted(value)), key))
        })
        .collect();
    (!bad.is_empty()).then(|| Forbidden {
        reason: "seccompProfile",
        detail: format!(
            "forbidden {} {}",
            plural("annotation", "annotations", bad.len()),
            bad.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
        ),
        spots: bad
            .into_values()
            .map(|key| {
                let path = FieldPath::of(&["metadata", "annotations"]).key(key);
                Spot::new(path, "remove it, or use `runtime/default` or `localhost/PROFILE`")
            })
            .collect(),
    })
}

fn is_annotation(value: &str) -> bool {
    matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/")
}

fn v1_19(pod: &Pod<'_>) -> Option<Forbidden> {
    forbidden_types(pod)
}

/// Whether the type of a profile is one that filters.
pub(super) fn is_filtering(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

/// Profiles that do not filter.
pub(super) fn forbidden_types(pod: &Pod<'_>) -> Option<Forbidden> {
    let mut kinds = BTreeSet::new();
    let setters = Setters::of(pod, &["seccompProfile", "type"], |security| {
        let bad = security.seccomp.filter(|kind| !is_filtering(kind));
        bad.inspect(|kind| _ = kinds.insert(*kind)).is_some()
    });
    (!setters.is_empty()).then(|| Forbidden {
        reason: "seccompProfile",
        detail: format!(
            "{} must not set securityContext.seccompProfile.type to {}",
            setters.text(),
            quoted_list(&kinds)
        ),
        spots: setters.spots("use the type `RuntimeDefault` or `Localhost`"),
    })
}
