//! Baseline since v1.0: AppArmor profiles, as fields or as annotations, are the runtime's default or local ones.

use std::collections::BTreeSet;

use nullius_model::FieldPath;

use super::{Forbidden, Pod, Setters, Spot};
use crate::pod_security::{
    go_text::{go_quoted, plural, quoted_list},
    level::Level,
    pod::{APP_ARMOR_PREFIX, ProfileOrigin},
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("appArmorProfile"),
    level: Level::Baseline,
    about: "the runtime's AppArmor profile may be replaced by a local one, not turned off",
    revisions: &[Revision { since: 0, judge: v1_0, replaces: None }],
};

const FIELD: [&str; 2] = ["appArmorProfile", "type"];
const FIX: &str = "remove it, or use the type `RuntimeDefault` or `Localhost`";
const FIX_ANNOTATION: &str = "remove it, or use `runtime/default` or `localhost/PROFILE`";

fn v1_0(pod: &Pod<'_>) -> Option<Forbidden> {
    let mut values = BTreeSet::new();
    let setters = Setters::of(pod, &FIELD, |security| {
        let bad = security.app_armor.filter(|kind| !is_allowed_type(kind));
        bad.inspect(|kind| _ = values.insert(*kind)).is_some()
    });
    let annotations = || {
        let all = pod.annotations.iter();
        all.filter(|(key, value)| key.starts_with(APP_ARMOR_PREFIX) && !is_allowed(value))
    };
    let mut named: Vec<String> =
        annotations().map(|(key, value)| format!("{key}={}", go_quoted(value))).collect();
    named.sort_unstable();
    let mut words = setters.words();
    if !named.is_empty() {
        words.push(plural("annotation", "annotations", named.len()).to_owned());
    }
    if words.is_empty() {
        return None;
    }
    // A field that the API server makes of an annotation is mended there.
    let written = Setters::of(pod, &FIELD, |security| {
        security.app_armor_origin == ProfileOrigin::Field
            && security.app_armor.is_some_and(|kind| !is_allowed_type(kind))
    });
    let mut spots = written.spots(FIX);
    spots.extend(annotations().map(|(key, _)| {
        Spot::new(FieldPath::of(&["metadata", "annotations"]).key(*key), FIX_ANNOTATION)
    }));
    let values: Vec<String> = values.into_iter().map(str::to_owned).chain(named).collect();
    Some(Forbidden {
        reason: plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len()),
        detail: format!(
            "{} must not set AppArmor profile type to {}",
            words.join(" and "),
            quoted_list(&values)
        ),
        spots,
    })
}

fn is_allowed_type(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

fn is_allowed(value: &str) -> bool {
    value.is_empty() || value == "runtime/default" || value.starts_with("localhost/")
}
