//! A pod measured by a level and version.

use nullius_model::FieldPath;

use super::{
    go_text::go_quoted,
    level::{Level, LevelVersion, Version},
    pod::Pod,
    registry::{self, CheckId},
};

/// What the checks say of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// What it was measured by.
    pub policy: LevelVersion,
    /// What it breaks, in Kubernetes' order; none means that it passes.
    pub violations: Vec<Violation>,
}

/// A check that a pod does not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The check.
    pub check: CheckId,
    /// The level that has it, which may be below the one that was asked for.
    pub level: Level,
    /// Kubernetes' short reason: `hostPort`.
    pub reason: &'static str,
    /// Kubernetes' detail: `container "a" uses hostPort 80`.
    pub detail: String,
    /// Each place that must change.
    pub spots: Vec<Spot>,
}

/// A place that must change, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The field, which may be missing; in a pod, or below a template.
    pub path: FieldPath,
    /// What to do.
    pub fix: String,
}

/// What a check finds forbidden.
#[derive(Debug)]
pub(super) struct Forbidden {
    pub(super) reason: &'static str,
    pub(super) detail: String,
    pub(super) spots: Vec<Spot>,
}

impl Spot {
    pub(super) fn new(path: FieldPath, fix: impl Into<String>) -> Self {
        Self { path, fix: fix.into() }
    }
}

/// Measures a pod.
pub fn evaluate(policy: LevelVersion, pod: &Pod<'_>) -> Evaluation {
    evaluate_as(policy, Version::NEWEST_KNOWN, pod)
}

/// Measures a pod as a server does that knows the rules up to the minor version `newest`.
pub fn evaluate_as(policy: LevelVersion, newest: u64, pod: &Pod<'_>) -> Evaluation {
    let violations = registry::active(policy, newest).filter_map(|(check, revision)| {
        let Forbidden { reason, detail, spots } = (revision.judge)(pod)?;
        Some(Violation { check: check.id, level: check.level, reason, detail, spots })
    });
    Evaluation { policy, violations: violations.collect() }
}

/// Whether a pod breaks one check of a level, which is asked alone.
pub(super) fn breaks(policy: LevelVersion, newest: u64, check: CheckId, pod: &Pod<'_>) -> bool {
    let mut active = registry::active(policy, newest);
    let found = active.find(|(each, _)| each.id == check);
    found.is_some_and(|(_, revision)| (revision.judge)(pod).is_some())
}

impl Evaluation {
    /// Whether nothing is broken.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Kubernetes' refusal: `violates PodSecurity "restricted:latest": …`.
    pub fn refusal(&self) -> String {
        refusal(self.policy, &self.details())
    }

    /// Kubernetes' warning: `would violate PodSecurity "restricted:latest": …`.
    pub fn warning(&self) -> String {
        format!("would {}", self.refusal().replacen("violates", "violate", 1))
    }

    /// The short reasons, as they are told of pods that exist.
    pub fn reasons(&self) -> String {
        self.violations.iter().map(|violation| violation.reason).collect::<Vec<_>>().join(", ")
    }

    fn details(&self) -> String {
        self.violations.iter().map(Violation::summary).collect::<Vec<_>>().join(", ")
    }
}

impl Violation {
    /// `reason (detail)`.
    pub fn summary(&self) -> String {
        if self.detail.is_empty() {
            return self.reason.to_owned();
        }
        format!("{} ({})", self.reason, self.detail)
    }

    /// The refusal of a pod that breaks nothing else.
    pub fn refusal(&self, policy: LevelVersion) -> String {
        refusal(policy, &self.summary())
    }
}

fn refusal(policy: LevelVersion, details: &str) -> String {
    format!("violates PodSecurity {}: {details}", go_quoted(&policy.to_string()))
}
