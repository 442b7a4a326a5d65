//! A decision for people: the answer first, then what each policy came to.

use nullius_policy::admission_policy::{
    BindingTrace, Decision, ExpressionTrace, MatchTrace, PolicyTrace, Request, RunTrace,
};

use nullius_policy::exception::Acceptance;

use crate::output::escape;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The answer.
    Short,
    /// Every policy, binding and expression.
    Explained,
}

/// The decision.
pub(super) fn decision(decision: &Decision, request: &Request, depth: Depth) -> String {
    let what = request.operation.as_str().to_lowercase();
    let name = if request.name.is_empty() { String::new() } else { format!(" `{}`", request.name) };
    let asked = format!("{what} {}{name}", request.kind.kind);
    let mut text = match &decision.refusal {
        None => format!("allowed: {}\n", escape::cell(&asked)),
        Some(refusal) => {
            let mut text = format!(
                "denied: {} ({} {})\n  {}\n",
                escape::cell(&asked),
                refusal.code,
                escape::cell(&refusal.reason),
                escape::cell(&refusal.message)
            );
            for cause in refusal.causes.iter().skip(1) {
                text.push_str(&format!("  {}\n", escape::cell(cause)));
            }
            text
        }
    };
    for warning in &decision.warnings {
        text.push_str(&format!("warning: {}\n", escape::cell(warning)));
    }
    for (violation, acceptance) in &decision.accepted {
        let Acceptance { exception, owner, reason, expires } = acceptance;
        let told = format!(
            "{}: {}; the exception `{exception}` of {owner} covers it until {expires}: {reason}",
            violation.policy, violation.message
        );
        text.push_str(&format!("accepted: {}\n", escape::cell(&told)));
    }
    for (key, value) in &decision.audit_annotations {
        text.push_str(&format!("audit: {} = {}\n", escape::cell(key), escape::cell(value)));
    }
    for step in &decision.patch {
        text.push_str(&format!("patch: {}\n", escape::cell(&step.to_string())));
    }
    if depth == Depth::Explained {
        text.push_str(&format!("asked: {}\n", escape::cell(&said(request))));
        for policy in &decision.trace {
            explain(policy, &mut text);
        }
    }
    text
}

/// A request as rules, selectors and conditions see it.
fn said(request: &Request) -> String {
    let Request { operation, resource, subresource, namespace, user, .. } = request;
    let below = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
    let group = match resource.group.as_str() {
        "" => resource.version.clone(),
        group => format!("{group}/{}", resource.version),
    };
    let place = match namespace.as_str() {
        "" => "in no namespace".to_owned(),
        namespace => format!("in the namespace `{namespace}`"),
    };
    let groups = match user.groups.is_empty() {
        true => String::new(),
        false => format!(" of `{}`", user.groups.join("`, `")),
    };
    let (operation, plural, name) = (operation.as_str(), &resource.resource, &user.username);
    format!("{operation} `{plural}{below}` of `{group}` {place}, by `{name}`{groups}")
}

/// What a policy came to, in a word.
fn came_to(policy: &PolicyTrace) -> &'static str {
    let runs = || policy.bindings.iter().flat_map(|binding| &binding.runs);
    let expressions = |run: &RunTrace| {
        let RunTrace { conditions, variables, validations, messages, .. } = run;
        let RunTrace { audit_annotations, mutations, .. } = run;
        let all = conditions.iter().chain(variables).chain(validations).chain(messages);
        all.chain(audit_annotations).chain(mutations).any(|each| each.error.is_some())
    };
    // What expressions made could not be used.
    let is_unusable = |run: &RunTrace| run.outcome.is_some() && !run.mutations.is_empty();
    let fails =
        policy.bindings.iter().any(|binding| binding.error.is_some()) || runs().any(is_unusable);
    let is_false = |each: &ExpressionTrace| each.value == Some(false.into());
    let is_asked = |run: &RunTrace| {
        !run.validations.is_empty()
            || !run.mutations.is_empty()
            || !run.audit_annotations.is_empty()
    };
    if runs().any(|run| run.validations.iter().any(is_false)) {
        "is broken"
    } else if fails || runs().any(expressions) {
        "fails"
    } else if runs().any(|run| run.mutations.iter().any(|each| each.changed == Some(true))) {
        "changes it"
    } else if !runs().any(is_asked) {
        "is not asked"
    } else if policy.kind == "MutatingAdmissionPolicy" {
        "changes nothing"
    } else {
        "holds"
    }
}

/// What a policy came to, and how.
pub(in crate::command) fn explain(policy: &PolicyTrace, text: &mut String) {
    let again = if policy.reinvocation { ", once more" } else { "" };
    let (kind, name, came) = (policy.kind, escape::cell(&policy.policy), came_to(policy));
    text.push_str(&format!("\n{kind} `{name}`{again}: {came}\n"));
    matched(&policy.matched, "  ", text);
    for BindingTrace { binding, matched: of, error, runs } in &policy.bindings {
        text.push_str(&format!("  binding `{}`\n", escape::cell(binding)));
        matched(of, "    ", text);
        if let Some(error) = error {
            text.push_str(&format!("    error: {}\n", escape::cell(error)));
        }
        runs.iter().for_each(|each| run(each, text));
    }
}

fn matched(matched: &MatchTrace, space: &str, text: &mut String) {
    let word = if matched.matched { "is for it" } else { "is not for it" };
    text.push_str(&format!("{space}{word}: {}\n", escape::cell(&matched.reason)));
}

fn run(run: &RunTrace, text: &mut String) {
    if let Some(param) = &run.param {
        text.push_str(&format!("    with the parameter `{}`\n", escape::cell(param)));
    }
    let groups = [
        ("condition", &run.conditions),
        ("variable", &run.variables),
        ("", &run.validations),
        ("", &run.messages),
        ("audit annotation", &run.audit_annotations),
        ("", &run.mutations),
    ];
    for (what, expressions) in groups {
        expressions.iter().for_each(|each| expression(what, each, text));
    }
    let cost: u64 = groups.iter().flat_map(|(_, all)| all.iter()).map(|each| each.cost).sum();
    if cost > 0 {
        text.push_str(&format!("    cost of all: {cost}\n"));
    }
    if let Some(outcome) = &run.outcome {
        text.push_str(&format!("    {}\n", escape::cell(outcome)));
    }
}

fn expression(what: &str, trace: &ExpressionTrace, text: &mut String) {
    let ExpressionTrace { name, expression, value, error, cost, changed: _ } = trace;
    let name = if what.is_empty() { name.clone() } else { format!("{what} `{name}`") };
    let came = match (value, error) {
        (Some(value), _) => value.to_string(),
        (None, Some(error)) => format!("error: {error}"),
        (None, None) => String::new(),
    };
    text.push_str(&format!(
        "    {}: {}\n      = {} (cost {cost})\n",
        escape::cell(&name),
        escape::cell(expression.trim()),
        escape::cell(&came)
    ));
}
