//! What came of a case beside what was expected of it.

use nullius_policy::admission_policy::Request;
use serde_json::Value as Json;

use super::{
    asking::Outcome,
    form::{Expected, Text, Verdict},
};

/// An expectation that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Differs {
    /// The field below `expect`; empty for the verdict that is written as one word.
    pub(super) field: String,
    /// What was expected.
    pub(super) expected: String,
    /// What came.
    pub(super) actual: String,
}

/// Every expectation that does not hold.
pub(super) fn compare(expected: &Expected, request: &Request, outcome: &Outcome) -> Vec<Differs> {
    let mut all = Vec::new();
    let mut differs = |field: &str, wanted: String, actual: String| {
        let field = if expected.is_word { String::new() } else { field.to_owned() };
        all.push(Differs { field, expected: wanted, actual });
    };
    let verdict = outcome.verdict();
    if verdict != expected.verdict {
        differs("verdict", expected.verdict.as_str().to_owned(), described(outcome));
    }
    let decision = &outcome.decision;
    if let Some(by) = &expected.by {
        let mut wanted = by.clone();
        wanted.sort();
        if wanted != outcome.by {
            differs("by", listed(&wanted), listed(&outcome.by));
        }
    }
    if let Some(checks) = &expected.checks {
        let mut wanted: Vec<&str> = checks.iter().map(String::as_str).collect();
        let mut found = outcome.checks.clone();
        wanted.sort_unstable();
        found.sort_unstable();
        if wanted != found {
            differs("checks", listed(&wanted), listed(&found));
        }
    }
    let refusal = decision.refusal.as_ref();
    if let Some(code) = expected.code
        && refusal.map(|refusal| refusal.code) != Some(code)
    {
        let actual = refusal.map_or_else(nothing, |refusal| refusal.code.to_string());
        differs("code", code.to_string(), actual);
    }
    if let Some(reason) = &expected.reason
        && refusal.map(|refusal| &refusal.reason) != Some(reason)
    {
        let actual = refusal.map_or_else(nothing, |refusal| refusal.reason.clone());
        differs("reason", reason.clone(), actual);
    }
    if let Some(message) = &expected.message {
        let said = said(outcome);
        if !said.iter().any(|text| message.is(text)) {
            differs("message", message.to_string(), listed(&shortest(outcome)));
        }
    }
    if let Some(warnings) = &expected.warnings {
        compare_warnings(warnings, &decision.warnings, &mut differs);
    }
    for (key, wanted) in &expected.audit_annotations {
        let field = format!("auditAnnotations[{key}]");
        match (wanted, decision.audit_annotations.get(key)) {
            (None, None) => {}
            (Some(wanted), Some(actual)) if wanted.is(actual) => {}
            (wanted, actual) => differs(
                &field,
                wanted.as_ref().map_or_else(nothing, Text::to_string),
                actual.cloned().unwrap_or_else(nothing),
            ),
        }
    }
    if let Some(patch) = &expected.patch
        && *patch != decision.patch
    {
        differs("patch", json_lines(patch), json_lines(&decision.patch));
    }
    if let Some(object) = &expected.object {
        let found = decision.object(request).filter(|_| refusal.is_none());
        let mut paths = Vec::new();
        contained("", object, found, &mut paths);
        for (path, wanted, actual) in paths {
            let joint = if path.is_empty() || path.starts_with('[') { "" } else { "." };
            differs(&format!("object{joint}{path}"), wanted, actual);
        }
    }
    all
}

fn compare_warnings(
    wanted: &[Text],
    found: &[String],
    differs: &mut impl FnMut(&str, String, String),
) {
    let mut left: Vec<&String> = found.iter().collect();
    for (index, each) in wanted.iter().enumerate() {
        match left.iter().position(|text| each.is(text)) {
            Some(at) => {
                left.remove(at);
            }
            None => differs(&format!("warnings[{index}]"), each.to_string(), listed(found)),
        }
    }
    // What is left over beside one that is missing is told already.
    if !left.is_empty() && left.len() + wanted.len() == found.len() {
        differs("warnings", "no more warnings".to_owned(), listed(&left));
    }
}

/// Everything that may be meant by the message: the API server's sentences, and what policies say by themselves.
fn said(outcome: &Outcome) -> Vec<&str> {
    let decision = &outcome.decision;
    let refusal = decision.refusal.iter();
    let refused =
        refusal.flat_map(|refusal| std::iter::once(&refusal.message).chain(&refusal.causes));
    let warned = decision.warnings.iter().filter(|_| decision.refusal.is_none());
    refused.chain(warned).chain(&outcome.told).map(String::as_str).collect()
}

/// What is said, as short as it is said anywhere.
fn shortest(outcome: &Outcome) -> Vec<&str> {
    if outcome.told.is_empty() {
        said(outcome)
    } else {
        outcome.told.iter().map(String::as_str).collect()
    }
}

fn described(outcome: &Outcome) -> String {
    let word = outcome.verdict().as_str();
    let by = match outcome.by.is_empty() {
        true => String::new(),
        false => format!(" by {}", listed(&outcome.by)),
    };
    match (outcome.verdict(), &outcome.decision.refusal) {
        (Verdict::Denied, Some(refusal)) => format!("{word}{by}: {}", refusal.message),
        (Verdict::Warned, _) => format!("{word}{by}: {}", outcome.decision.warnings.join("; ")),
        _ => format!("{word}{by}"),
    }
}

/// Where `wanted` is not part of `found`: each field of it must be there, a list has the same length.
fn contained(
    path: &str,
    wanted: &Json,
    found: Option<&Json>,
    differs: &mut Vec<(String, String, String)>,
) {
    match (wanted, found) {
        (Json::Object(fields), Some(Json::Object(others))) => {
            for (name, wanted) in fields {
                let step = match name.contains(['.', '[']) {
                    true => format!("{path}[{name}]"),
                    false if path.is_empty() => name.clone(),
                    false => format!("{path}.{name}"),
                };
                contained(&step, wanted, others.get(name), differs);
            }
        }
        (Json::Array(items), Some(Json::Array(others))) if items.len() == others.len() => {
            for (index, (wanted, found)) in items.iter().zip(others).enumerate() {
                contained(&format!("{path}[{index}]"), wanted, Some(found), differs);
            }
        }
        (Json::Null, None) => {}
        (wanted, Some(found)) if wanted == found => {}
        (wanted, found) => {
            let actual = found.map_or_else(nothing, Json::to_string);
            let wanted = if wanted.is_null() { nothing() } else { wanted.to_string() };
            differs.push((path.to_owned(), wanted, actual));
        }
    }
}

fn nothing() -> String {
    "nothing".to_owned()
}

fn listed(texts: &[impl AsRef<str>]) -> String {
    if texts.is_empty() {
        return nothing();
    }
    texts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("; ")
}

fn json_lines(steps: &[Json]) -> String {
    if steps.is_empty() {
        return nothing();
    }
    steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
