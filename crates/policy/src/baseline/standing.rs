//! What stands in a namespace against its plan: what is to be done, and what pods wait for.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
};

use nullius_cel::Quantity;
use nullius_model::{BASELINE_FROM, BASELINE_LABEL, BASELINE_LABELS, BASELINE_NAME};
use serde_json::Value as Json;

use super::{BaselineKind, Plan};
use crate::pod_security::{ENFORCE_LABEL, is_lowered, owner_level};

/// What stands.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// The namespace.
    pub namespace: &'a Json,
    /// Objects in it that baselines made.
    pub objects: &'a [(BaselineKind, &'a Json)],
}

/// Something to do in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make or mend an object.
    Apply(BaselineKind, Json),
    /// Take an object away that no baseline asks for any more.
    Remove(BaselineKind, String),
    /// Make the namespace have the labels of its plan, and none that an older plan gave it.
    Label,
    /// Take all labels away that baselines gave it.
    Release,
}

impl Plan {
    /// What is to be done so that a namespace has all of a plan and nothing of an older one; `None` is the plan of a namespace
    /// that no baseline is for.
    #[must_use]
    pub fn steps(plan: Option<&Self>, standing: Standing<'_>) -> Vec<Step> {
        let wanted = plan.map(|plan| plan.objects.as_slice()).unwrap_or_default();
        let find = |kind: BaselineKind, name: &str| {
            let mut all = standing.objects.iter();
            all.find(|(known, object)| *known == kind && name_of(object) == name)
        };
        let mut steps = Vec::new();
        for (kind, object) in wanted {
            let found = find(*kind, name_of(object)).map(|(_, found)| *found);
            if !found.is_some_and(|found| is_as_wanted(object, found)) {
                steps.push(Step::Apply(*kind, object.clone()));
            }
        }
        match plan {
            Some(plan) if !plan.has_labels(standing.namespace) => steps.push(Step::Label),
            None if [BASELINE_FROM, BASELINE_LABELS]
                .iter()
                .any(|key| note(standing.namespace, key).is_some()) =>
            {
                steps.push(Step::Release);
            }
            Some(_) | None => {}
        }
        let names: BTreeSet<(BaselineKind, &str)> =
            wanted.iter().map(|(kind, object)| (*kind, name_of(object))).collect();
        let gone = standing
            .objects
            .iter()
            .filter(|(kind, object)| is_ours(object) && !names.contains(&(*kind, name_of(object))));
        steps.extend(gone.map(|(kind, object)| Step::Remove(*kind, name_of(object).to_owned())));
        steps
    }

    /// What pods of a namespace wait for, in words; nothing where its plan stands.
    #[must_use]
    pub fn missing<R: Deref<Target = Json>>(
        &self,
        namespace: &Json,
        find: impl Fn(BaselineKind, &str) -> Option<R>,
    ) -> Vec<String> {
        let bounding = self.objects.iter().filter(|(kind, _)| kind.bounds_pods());
        let objects = bounding.filter(|(kind, object)| {
            !find(*kind, name_of(object)).is_some_and(|found| is_as_wanted(object, &found))
        });
        let mut missing: Vec<String> = objects
            .map(|(kind, object)| format!("{}/{}", kind.as_str(), name_of(object)))
            .collect();
        let labels = self.labels.iter().filter(|(key, value)| !has_label(namespace, key, value));
        missing.extend(labels.map(|(key, _)| format!("the label {key}")));
        missing
    }

    /// The labels that a namespace is to carry now: those of the plan, but for a level of Pod Security that was lowered for the sake
    /// of exceptions, which whoever lowered it raises again.
    #[must_use]
    pub fn labels_of(&self, namespace: &Json) -> BTreeMap<&str, &str> {
        let mut labels: BTreeMap<&str, &str> =
            self.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let level =
            labels.get_mut(ENFORCE_LABEL).filter(|level| Some(**level) == owner_level(namespace));
        if let Some(level) = level.filter(|_| is_lowered(namespace)) {
            *level = "baseline";
        }
        labels
    }

    fn has_labels(&self, namespace: &Json) -> bool {
        self.labels.iter().all(|(key, value)| has_label(namespace, key, value))
            && self.annotations().iter().all(|(key, value)| note(namespace, key) == Some(value))
    }
}

/// Whether a namespace has a label, or, of the level of Pod Security, had it when it was lowered for the sake of exceptions.
fn has_label(namespace: &Json, key: &str, value: &str) -> bool {
    label(namespace, key) == Some(value)
        || key == ENFORCE_LABEL && is_lowered(namespace) && owner_level(namespace) == Some(value)
}

/// Whether baselines made an object: it has their label, and a name that nobody else may use.
#[must_use]
pub fn is_ours(object: &Json) -> bool {
    label(object, BASELINE_LABEL).is_some() && name_of(object).starts_with(BASELINE_NAME)
}

/// Whether an object says exactly what it should: also what is there beyond it may allow what a baseline denies.
#[must_use]
pub fn is_as_wanted(wanted: &Json, found: &Json) -> bool {
    let labels = wanted.pointer("/metadata/labels").and_then(Json::as_object);
    let mut labels = labels.into_iter().flatten();
    labels.all(|(key, value)| label(found, key) == value.as_str())
        && note(wanted, BASELINE_FROM) == note(found, BASELINE_FROM)
        && ["roleRef", "subjects"].iter().all(|part| wanted.get(part) == found.get(part))
        && match (wanted.get("spec"), found.get("spec")) {
            (Some(wanted), Some(found)) => is_same(wanted, found),
            (wanted, found) => wanted == found,
        }
}

/// Equal, where amounts that are written otherwise are the same amount.
fn is_same(one: &Json, two: &Json) -> bool {
    match (one, two) {
        (Json::Object(one), Json::Object(two)) => {
            one.len() == two.len()
                && one
                    .iter()
                    .all(|(key, value)| two.get(key).is_some_and(|other| is_same(value, other)))
        }
        (Json::Array(one), Json::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| is_same(one, two))
        }
        (Json::String(one), Json::String(two)) => one == two || is_same_amount(one, two),
        (one, two) => one == two,
    }
}

fn is_same_amount(one: &str, two: &str) -> bool {
    match (Quantity::parse(one), Quantity::parse(two)) {
        (Ok(one), Ok(two)) => one.compare(&two).is_eq(),
        _ => false,
    }
}

fn name_of(object: &Json) -> &str {
    object.pointer("/metadata/name").and_then(Json::as_str).unwrap_or_default()
}

fn label<'a>(object: &'a Json, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

fn note<'a>(object: &'a Json, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}
