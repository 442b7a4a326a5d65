//! What a policy finds because it must not stand where it stands, such as a password, does not go on into reports: neither the
//! line nor the value, whoever else looks at them.

use std::collections::BTreeSet;

use nullius_manifest::Node;
use nullius_policy::admission_policy::{ExpressionTrace, RunTrace};
use serde_json::Value as Json;

use crate::report::{Location, Report};

/// What stands in the place of a value.
const HIDDEN: &str = "(hidden)";
/// A value of so many bytes is looked for within other text too.
const FOUND_WITHIN: usize = 6;

/// Lines and values that are not shown.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    lines: BTreeSet<(String, usize)>,
    values: BTreeSet<String>,
}

impl Hidden {
    /// Hides fields of an object of a file.
    pub(super) fn note(&mut self, file: &str, object: &Node, paths: &[String]) {
        for path in paths {
            let first = object.line_of(path);
            let mut last = first;
            if let Some(value) = object.value_of_text(path) {
                last = value.line;
                if let Some(text) = value.text().filter(|text| !text.is_empty()) {
                    last += text.lines().count();
                    self.values.insert(text.to_owned());
                }
            }
            self.lines.extend((first..=last).map(|line| (file.to_owned(), line)));
        }
    }

    /// Takes out of a report what is hidden.
    pub(super) fn hide(&self, report: &mut Report) {
        if self.lines.is_empty() {
            return;
        }
        let Report { findings, waived, objects, traces, .. } = report;
        findings.iter_mut().for_each(|finding| self.location(&mut finding.location));
        waived.iter_mut().for_each(|waived| self.location(&mut waived.finding.location));
        objects.iter_mut().for_each(|object| self.location(&mut object.location));
        for trace in traces {
            self.location(&mut trace.location);
            let bindings = trace.policies.iter_mut().flat_map(|policy| &mut policy.bindings);
            bindings.flat_map(|binding| &mut binding.runs).for_each(|run| self.run(run));
        }
    }

    fn location(&self, location: &mut Location) {
        if self.lines.contains(&(location.file.clone(), location.line)) {
            location.snippet.clear();
        }
    }

    fn run(&self, run: &mut RunTrace) {
        let RunTrace { conditions, variables, validations, messages, .. } = run;
        let (annotations, mutations) = (&mut run.audit_annotations, &mut run.mutations);
        for of in [conditions, variables, validations, messages, annotations, mutations] {
            for ExpressionTrace { value, error, .. } in of {
                value.iter_mut().for_each(|value| self.value(value));
                error.iter_mut().for_each(|error| self.text(error));
            }
        }
    }

    fn value(&self, value: &mut Json) {
        match value {
            Json::String(text) => self.text(text),
            Json::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Json::Object(fields) => fields.values_mut().for_each(|field| self.value(field)),
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
    }

    fn text(&self, text: &mut String) {
        let begins =
            |hidden: &String| text.strip_suffix('…').is_some_and(|shown| hidden.starts_with(shown));
        let holds = |hidden: &String| {
            text == hidden
                || hidden.len() >= FOUND_WITHIN && text.contains(hidden.as_str())
                || begins(hidden)
        };
        if self.values.iter().any(holds) {
            HIDDEN.clone_into(text);
        }
    }
}
