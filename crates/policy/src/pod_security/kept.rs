//! Namespaces in which exceptions from the Pod Security Standards count: the API server enforces `baseline` there, and whoever knows
//! of the exceptions enforces what the owner of the namespace wants, with them.
//!
//! One label is lowered, from `restricted` to `baseline` and never further; the version stays as it is. A mark beside it says
//! so: a label with the value `restricted`, which nobody but the agent may write. The same label with any other value is no mark.

use nullius_model::KEPT_LEVEL_LABEL;
use serde_json::Value;

use super::{
    accepted::{Excepted, except_until},
    evaluation::{Evaluation, Violation, evaluate_as},
    labels::{ENFORCE_LABEL, Modes},
    level::{Level, LevelVersion, Version},
    pod::{APP_ARMOR_PREFIX, SECCOMP_CONTAINER_PREFIX, SECCOMP_POD},
    request::{Operation, PodRequest, Refusal, UNJUDGED, is_unchanged, undecodable},
    template::Workload,
};
use crate::exception::{Acceptance, Exception, Subject};

/// What is to be done with the labels of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relabel {
    /// The level becomes `baseline`, with the mark.
    Lower,
    /// The level becomes `restricted` again, without the mark.
    Restore,
    /// The mark goes alone: somebody has written another level since.
    Forget,
}

impl Relabel {
    /// So that exceptions count in a namespace; `None` where they do, or cannot.
    #[must_use]
    pub fn to_lower(namespace: &Value) -> Option<Self> {
        match (has_mark(namespace), label(namespace, ENFORCE_LABEL)) {
            (_, Some("restricted")) => Some(Self::Lower),
            (true, Some("baseline")) | (false, _) => None,
            (true, _) => Some(Self::Forget),
        }
    }

    /// So that a namespace is as its owner wants it; `None` where it is.
    #[must_use]
    pub fn to_restore(namespace: &Value) -> Option<Self> {
        match (has_mark(namespace), is_lowered(namespace)) {
            (false, _) => None,
            (true, true) => Some(Self::Restore),
            (true, false) => Some(Self::Forget),
        }
    }
}

/// Whether the level of a namespace is lower than its owner wants.
#[must_use]
pub fn is_lowered(namespace: &Value) -> bool {
    has_mark(namespace) && label(namespace, ENFORCE_LABEL) == Some("baseline")
}

/// The level that the owner of a namespace wants enforced, as it is written; `None` where nobody says one.
#[must_use]
pub fn owner_level(namespace: &Value) -> Option<&str> {
    match is_lowered(namespace) {
        true => Some("restricted"),
        false => label(namespace, ENFORCE_LABEL),
    }
}

/// Whether what pods are measured by is known here, for an API server of this minor version; `None` stands for one that cannot be told.
#[must_use]
pub fn is_known(policy: LevelVersion, server: Option<u64>) -> bool {
    let known = |minor: u64| minor <= Version::NEWEST_KNOWN;
    match policy.version {
        Version::Minor(minor) if known(minor) => true,
        // The API server means the newest rules of its own.
        Version::Minor(_) | Version::Latest => server.is_some_and(known),
    }
}

/// What pods of a namespace are measured by where exceptions count; `None` where the API server's own Pod Security enforces all that
/// there is to enforce.
#[must_use]
pub fn kept_level(namespace: &Value) -> Option<LevelVersion> {
    let labels = namespace.pointer("/metadata/labels").and_then(Value::as_object);
    let labels = labels.into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect();
    let (modes, _) = Modes::of_labels(&labels, Modes::default());
    let is_kept = has_mark(namespace) || modes.enforce.level == Level::Restricted;
    is_kept.then_some(LevelVersion { level: Level::Restricted, version: modes.enforce.version })
}

/// Under which conditions a request for a pod is measured at all, in CEL, each with a name: an API server that asks whoever knows of
/// exceptions need not ask about any other. A status that a kubelet writes must not wait for it, nor a finalizer that is taken away.
#[must_use]
pub fn conditions() -> [(&'static str, String); 2] {
    let unjudged = UNJUDGED.map(|subresource| format!("'{subresource}'")).join(", ");
    let judged = format!("!has(request.subResource) || !(request.subResource in [{unjudged}])");
    // As `is_unchanged` has it.
    let list = |object: &str, list: &str| format!("{object}.?spec.?{list}.orValue([])");
    let image = |container: &str| format!("{container}.?image.orValue('')");
    let images =
        |object: &str, name: &str| format!("{}.map(c, {})", list(object, name), image("c"));
    let same = |name: &str| format!("{} == {}", images("object", name), images("oldObject", name));
    let ephemeral = format!(
        "{}.all(c, {}.exists(o, o.name == c.name && {} == {}))",
        list("object", "ephemeralContainers"),
        list("oldObject", "ephemeralContainers"),
        image("o"),
        image("c"),
    );
    let notes = |object: &str| format!("{object}.?metadata.?annotations.orValue({{}})");
    let (new, old) = (notes("object"), notes("oldObject"));
    let is_read = format!(
        "key.startsWith('{APP_ARMOR_PREFIX}') || key.startsWith('{SECCOMP_CONTAINER_PREFIX}') || key == '{SECCOMP_POD}'"
    );
    let changed = format!(
        "request.operation != 'UPDATE' || oldObject == null || !({} && {} && {ephemeral} \
        && {new}.all(key, !({is_read}) || {old}[?key] == optional.of({new}[key])) \
        && {old}.all(key, !({is_read}) || key in {new}))",
        same("containers"),
        same("initContainers"),
    );
    [("judged", judged), ("changed", changed)]
}

fn has_mark(namespace: &Value) -> bool {
    label(namespace, KEPT_LEVEL_LABEL) == Some(Level::Restricted.as_str())
}

fn label<'n>(namespace: &'n Value, key: &str) -> Option<&'n str> {
    namespace.get("metadata")?.get("labels")?.get(key)?.as_str()
}

/// What comes of a pod where exceptions count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Why it is refused; `None` if it is not.
    pub refusal: Option<Refusal>,
    /// What it breaks.
    pub violations: Vec<Violation>,
    /// What it breaks and somebody accepts; of `baseline` nothing is.
    pub accepted: Vec<(Violation, Acceptance)>,
}

/// Judges a request for a pod as Kubernetes does, with exceptions, all of which must hold at this time; `newest` is as for
/// [`evaluate_as`]. `None` as soon as `is_over` says that the answer is of no more use.
///
/// Exceptions count above `baseline` alone, which is enforced whatever they say.
#[must_use]
pub fn keep(
    newest: u64,
    request: &PodRequest<'_>,
    policy: LevelVersion,
    exceptions: &[&Exception],
    is_over: &dyn Fn() -> bool,
) -> Option<Kept> {
    if is_over() {
        return None;
    }
    let is_pod = Workload::of_resource(request.group, request.resource) == Some(Workload::Pod);
    if !is_pod || UNJUDGED.contains(&request.subresource) || request.operation == Operation::Other {
        return Some(Kept::default());
    }
    let wrong = |what: &str, error: &_| {
        let refusal = undecodable(Workload::Pod, what, error).refusal;
        Some(Kept { refusal, ..Kept::default() })
    };
    let pod = match Workload::Pod.read(request.object) {
        Ok(Some(template)) => template.pod,
        Ok(None) => return Some(Kept::default()),
        Err(error) => return wrong("object", &error),
    };
    if request.operation == Operation::Update {
        match is_unchanged(&pod, request.old_object) {
            Ok(true) => return Some(Kept::default()),
            Ok(false) => {}
            Err(error) => return wrong("old object", &error),
        }
    }
    let all = evaluate_as(policy, newest, &pod);
    let floor = evaluate_as(LevelVersion { level: Level::Baseline, ..policy }, newest, &pod);
    let subject = Subject { kind: "Pod", namespace: request.namespace, name: request.name };
    let Excepted { accepted, .. } =
        except_until(all.clone(), newest, request.object, subject, exceptions, is_over);
    if is_over() {
        return None;
    }
    let accepted: Vec<(Violation, Acceptance)> =
        accepted.into_iter().filter(|(found, _)| found.level > Level::Baseline).collect();
    let is_accepted =
        |found: &Violation| accepted.iter().any(|(other, _)| other.check == found.check);
    let violations = all.violations.into_iter().filter(|found| !is_accepted(found)).collect();
    let left = Evaluation { policy, violations };
    // A check of `restricted` may stand for one of `baseline`, of which nothing is accepted.
    let told = if left.is_clean() { floor } else { left };
    let refusal = (!told.is_clean()).then(|| Refusal::of_pod(request.name, &told));
    Some(Kept { refusal, violations: told.violations, accepted })
}

#[cfg(test)]
#[path = "kept/tests.rs"]
mod tests;
