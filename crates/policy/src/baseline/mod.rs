//! Namespace baselines: what a namespace gets from the moment it is there, and keeps.
//!
//! A baseline is read strictly ([`Baseline::read`]). All that are for a namespace become one [`Plan`]: objects and labels, with what
//! cannot be had together told. What stands is compared with it ([`Plan::steps`]), and pods wait for the part that bounds them
//! ([`Plan::missing`]): nobody's mark says that a namespace is ready, its objects do.

mod check;
mod plan;
mod standing;
#[cfg(test)]
mod tests;

use nullius_model::{BASELINE_FROM, BASELINE_NEVER, NamespaceBaselineSpec, Timestamp};
use serde_json::Value as Json;

pub use plan::{BaselineKind, Conflict, Plan};
pub use standing::{Standing, Step, is_as_wanted, is_ours};

use crate::{
    admission_policy::{Fault, Selector, labels_of},
    document::{self, Metadata},
    exception::glob::Glob,
};

/// The kind of baselines.
pub const KIND: &str = "NamespaceBaseline";

/// A baseline that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    name: String,
    made: Option<Timestamp>,
    generation: i64,
    spec: NamespaceBaselineSpec,
    selector: Option<Selector>,
}

impl Baseline {
    /// Reads and checks a baseline.
    ///
    /// # Errors
    ///
    /// Every field that is wrong.
    pub fn read(object: &Json) -> Result<Self, Vec<Fault>> {
        let (metadata, spec): (Metadata, NamespaceBaselineSpec) = document::read(object, KIND)?;
        let mut faults = Vec::new();
        let mut wrong = |field: &str, message: String| {
            faults.push(Fault { field: field.to_owned(), message });
        };
        if metadata.namespace.is_some() {
            wrong("metadata.namespace", "a baseline is in no namespace: leave it out".to_owned());
        }
        let selector = check::spec(&spec, &mut wrong);
        if !faults.is_empty() {
            return Err(faults);
        }
        let Metadata { name, creation_timestamp, generation, .. } = metadata;
        Ok(Self { name, made: creation_timestamp, generation, spec, selector })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which version of what it says this is, as the API server counts.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// What it says.
    #[must_use]
    pub fn spec(&self) -> &NamespaceBaselineSpec {
        &self.spec
    }

    /// Whether it is for a namespace.
    #[must_use]
    pub fn chooses(&self, namespace: &Json) -> bool {
        let Some(name) = namespace.pointer("/metadata/name").and_then(Json::as_str) else {
            return false;
        };
        let NamespaceBaselineSpec { names, exclude, .. } = &self.spec;
        let labels = labels_of(namespace).unwrap_or_default();
        !BASELINE_NEVER.contains(&name)
            && (names.is_empty() || Glob::any(names, name))
            && !Glob::any(exclude, name)
            && self.selector.as_ref().is_none_or(|selector| selector.matches(&labels))
    }

    /// The older one counts where two cannot be had together.
    fn rank(&self) -> (Timestamp, &str) {
        (self.made.unwrap_or(Timestamp::MAX), &self.name)
    }
}

/// The names of the baselines that a namespace or an object says it comes from.
pub fn named_by(object: &Json) -> impl Iterator<Item = &str> {
    let annotations = object.pointer("/metadata/annotations").and_then(Json::as_object);
    let named = annotations.and_then(|all| all.get(BASELINE_FROM)).and_then(Json::as_str);
    named.into_iter().flat_map(|named| named.split(','))
}
