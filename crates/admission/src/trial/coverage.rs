//! Which expressions of policies the cases have seen from both sides.

use std::collections::BTreeMap;

use nullius_policy::admission_policy::{
    ExpressionTrace, Part, PolicyOutline, PolicyTrace, RunTrace,
};
use serde::Serialize;
use serde_json::Value as Json;

use crate::policies::Site;

/// How much of the policies the cases have seen.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// Sides that some case has seen.
    pub covered: usize,
    /// All sides.
    pub total: usize,
    /// How much that is, in percent, rounded down; 100 where there is nothing to see.
    pub percent: usize,
    /// Policy by policy.
    pub policies: Vec<PolicyCoverage>,
}

/// How much of one policy the cases have seen.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyCoverage {
    /// `ValidatingAdmissionPolicy` or `MutatingAdmissionPolicy`.
    pub kind: &'static str,
    /// Its name.
    pub policy: String,
    /// Its file.
    pub file: String,
    /// Where it begins, counted from 1.
    pub line: usize,
    /// Requests that it was for.
    pub requests: usize,
    /// Sides that some case has seen.
    pub covered: usize,
    /// All sides.
    pub total: usize,
    /// Its expressions.
    pub expressions: Vec<ExpressionCoverage>,
}

/// How often an expression was seen from each side.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpressionCoverage {
    /// The field, `spec.validations[0].expression`.
    pub field: String,
    /// Where it stands, counted from 1.
    pub line: usize,
    /// The sides, in the order in which they are told.
    pub sides: Vec<SeenSide>,
    /// How often it failed.
    pub errors: usize,
    #[serde(skip)]
    part: Part,
    #[serde(skip)]
    name: String,
}

/// A side of an expression.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenSide {
    /// `true`, `false`, `told`, `changed`, `unchanged`.
    pub side: &'static str,
    /// How often it was seen.
    pub seen: usize,
}

/// What was seen so far. The same policy in two files of tests is one.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    policies: BTreeMap<(String, String, Vec<String>), PolicyCoverage>,
}

/// The policies of one file of tests, as the ledger knows them.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<(String, String), (String, String, Vec<String>)>);

impl Ledger {
    /// Makes policies known, so that what no case sees counts as well.
    pub(super) fn open(&mut self, outlines: impl Iterator<Item = (PolicyOutline, Site)>) -> Known {
        let mut known = Known::default();
        for (outline, site) in outlines {
            let expressions = outline.expressions.iter().map(|each| each.expression.clone());
            let kind = outline.kind.to_owned();
            let key = (kind.clone(), outline.policy.clone(), expressions.collect());
            known.0.insert((kind, outline.policy.clone()), Clone::clone(&key));
            self.policies.entry(key).or_insert_with(|| unseen(outline, &site));
        }
        known
    }

    /// Notes what an evaluation saw.
    pub(super) fn note(&mut self, known: &Known, traces: &[PolicyTrace]) {
        for trace in traces {
            let key = known.0.get(&(trace.kind.to_owned(), trace.policy.clone()));
            let Some(policy) = key.and_then(|key| self.policies.get_mut(key)) else { continue };
            policy.requests += usize::from(trace.matched.matched && !trace.reinvocation);
            for run in trace.bindings.iter().flat_map(|binding| &binding.runs) {
                policy.expressions.iter_mut().for_each(|each| each.note(run));
            }
        }
    }

    pub(super) fn finish(self) -> Coverage {
        let mut coverage = Coverage::default();
        for mut policy in self.policies.into_values() {
            let sides = || policy.expressions.iter().flat_map(|each| &each.sides);
            (policy.covered, policy.total) =
                (sides().filter(|side| side.seen > 0).count(), sides().count());
            coverage.covered += policy.covered;
            coverage.total += policy.total;
            coverage.policies.push(policy);
        }
        coverage.percent = (coverage.covered * 100).checked_div(coverage.total).unwrap_or(100);
        coverage
    }
}

impl PolicyCoverage {
    /// What no case has seen: the line and the words for it.
    pub fn missing(&self) -> impl Iterator<Item = (usize, String)> {
        self.expressions.iter().flat_map(|each| {
            let unseen = each.sides.iter().filter(|side| side.seen == 0);
            unseen.map(|side| {
                let word = match side.side {
                    "told" => "never told".to_owned(),
                    word => format!("never {word}"),
                };
                let field = each.field.trim_start_matches("spec.").trim_end_matches(".expression");
                (each.line, format!("{field}: {word}"))
            })
        })
    }
}

impl ExpressionCoverage {
    fn note(&mut self, run: &RunTrace) {
        let traces = match self.part {
            Part::Condition => &run.conditions,
            Part::Validation => &run.validations,
            Part::Message => &run.messages,
            Part::AuditAnnotation => &run.audit_annotations,
            Part::Mutation => &run.mutations,
        };
        for trace in traces.iter().filter(|trace| trace.name == self.name) {
            if trace.error.is_some() {
                self.errors += 1;
            }
            let Some(side) = self.side(trace, run) else { continue };
            for each in self.sides.iter_mut().filter(|each| each.side == side) {
                each.seen += 1;
            }
        }
    }

    fn side(&self, trace: &ExpressionTrace, run: &RunTrace) -> Option<&'static str> {
        let truth = |trace: &ExpressionTrace| trace.value.as_ref().and_then(Json::as_bool);
        let word = |value: bool| if value { "true" } else { "false" };
        match self.part {
            Part::Condition | Part::Validation => truth(trace).map(word),
            // Every message is made; it is told where its validation does not hold.
            Part::Message => {
                let validation = self.name.trim_end_matches(".messageExpression");
                let failed =
                    |each: &&ExpressionTrace| each.name == validation && truth(each) == Some(false);
                let is_told =
                    trace.error.is_none() && run.validations.iter().any(|each| failed(&each));
                is_told.then_some("told")
            }
            Part::AuditAnnotation => {
                let text = trace.value.as_ref().and_then(Json::as_str);
                text.filter(|text| !text.trim().is_empty()).map(|_| "told")
            }
            Part::Mutation => {
                trace.changed.map(|changed| if changed { "changed" } else { "unchanged" })
            }
        }
    }
}

fn unseen(outline: PolicyOutline, site: &Site) -> PolicyCoverage {
    let expressions = outline.expressions.into_iter().map(|each| {
        let sides: &[&'static str] = match each.part {
            Part::Condition | Part::Validation => &["true", "false"],
            Part::Message | Part::AuditAnnotation => &["told"],
            Part::Mutation => &["changed", "unchanged"],
        };
        ExpressionCoverage {
            line: site.lines.get(&each.field).copied().unwrap_or(site.line),
            field: each.field,
            sides: sides.iter().map(|side| SeenSide { side, seen: 0 }).collect(),
            errors: 0,
            part: each.part,
            name: each.name,
        }
    });
    PolicyCoverage {
        kind: outline.kind,
        policy: outline.policy,
        file: site.file.clone(),
        line: site.line,
        requests: 0,
        covered: 0,
        total: 0,
        expressions: expressions.collect(),
    }
}
