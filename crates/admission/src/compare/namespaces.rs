//! Which namespaces ask for less, or for more, of the Pod Security Standards by their labels than before.
//!
//! A namespace that comes or goes is no change: without it there are no pods that it could let pass.

use std::collections::BTreeMap;

use nullius_policy::pod_security::{LevelVersion, Modes, Version};
use serde_json::Value as Json;

use super::policies::{PolicyChange, Said};

const LABELS: &str = "pod-security.kubernetes.io";

/// The changes between two states of files.
pub(super) fn changes<'a>(
    base: impl Iterator<Item = &'a Json>,
    head: impl Iterator<Item = &'a Json>,
) -> Vec<PolicyChange> {
    let (base, head) = (by_name(base), by_name(head));
    let both = base.iter().filter_map(|(name, before)| Some((name, before, head.get(name)?)));
    both.filter_map(|(name, before, after)| {
        let mut said = Said::default();
        compare(*before, *after, &mut said);
        said.of("Namespace", name)
    })
    .collect()
}

/// What namespaces ask for. Of one that stands twice nobody can tell; the scan says so.
fn by_name<'a>(objects: impl Iterator<Item = &'a Json>) -> BTreeMap<&'a str, Modes> {
    let text = |object: &'a Json, path: &str| {
        object.pointer(path).and_then(Json::as_str).unwrap_or_default()
    };
    let namespaces = objects.filter(|object| {
        text(object, "/apiVersion") == "v1" && text(object, "/kind") == "Namespace"
    });
    namespaces
        .map(|object| {
            let labels = object.pointer("/metadata/labels").and_then(Json::as_object);
            let labels = labels.into_iter().flatten();
            let labels =
                labels.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect();
            let (modes, _) = Modes::of_labels(&labels, Modes::default());
            (text(object, "/metadata/name"), modes)
        })
        .collect()
}

fn compare(before: Modes, mut after: Modes, said: &mut Said) {
    let told = |mode: &str, before: &dyn std::fmt::Display, after: &dyn std::fmt::Display| {
        format!("`{LABELS}/{mode}` was `{before}` and is `{after}`")
    };
    let (old, new) = (before.enforce, after.enforce);
    if old.level != new.level {
        let list = if new.level < old.level { &mut said.weaker } else { &mut said.stronger };
        list.push(told("enforce", &old.level, &new.level));
    }
    if is_other_version(old, new) {
        said.other.push(told("enforce-version", &shown(old), &shown(new)));
    }
    // Without a label of its own, people are warned of what is enforced.
    if before.warn == before.enforce && after.warn == after.enforce {
        after.warn = before.warn;
    }
    // Nobody is refused by these; whoever is warned less may still find it out late.
    for (mode, old, new) in
        [("warn", before.warn, after.warn), ("audit", before.audit, after.audit)]
    {
        if old.level != new.level || is_other_version(old, new) {
            said.words.push(told(mode, &old, &new));
        }
    }
}

/// A version says nothing of a level that asks for nothing.
fn is_other_version(old: LevelVersion, new: LevelVersion) -> bool {
    old.version != new.version && old.level == new.level && !new.is_equivalent_to(old)
}

fn shown(of: LevelVersion) -> Version {
    of.version
}
