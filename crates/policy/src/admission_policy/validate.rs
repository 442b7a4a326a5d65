//! Policies that validate, evaluated as the API server does: every matching policy, binding and parameter is asked, then the
//! first denial is the answer.

use std::collections::{BTreeMap, BTreeSet};

use nullius_cel::{Value, Version};
use serde::Serialize;
use serde_json::Value as Json;

use super::{
    decision::{Gathered, Refusal, Stop, Violation},
    expressions::{Inputs, OutOfBudget, Phase, RULES_BUDGET, Variables},
    matching::{Match, Matched},
    policy::{Action, Binding, FailurePolicy, Policy, Validating, Validation},
    request::Request,
    session::{Conditions, Session, ShownNamespace, param_name},
    trace::{BindingTrace, MatchTrace, PolicyTrace, RunTrace},
};
use crate::{
    exception::{Acceptance, Subject},
    pod_security::Workload,
};

/// The longest message of a message expression in bytes.
const MAX_MESSAGE: usize = 5 * 1024;
/// The longest value of an audit annotation in bytes.
const MAX_ANNOTATION: usize = 10 * 1024;
/// The most failures that one audit annotation lists.
const MAX_FAILURES: usize = 50;
const FAILURE_KEY: &str = "validation.policy.admission.k8s.io/validation_failure";
const KIND: &str = "ValidatingAdmissionPolicy";

/// What policies say of a request.
#[derive(Default)]
pub(super) struct Validated {
    /// Reason and message of each denial, in order.
    pub(super) denials: Vec<(String, String)>,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) violations: Vec<Violation>,
    pub(super) accepted: Vec<(Violation, Acceptance)>,
    pub(super) needs: BTreeSet<super::facts::Need>,
    pub(super) trace: Vec<PolicyTrace>,
    failures: Vec<Failure>,
}

/// A failed validation as the audit reads it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    message: String,
    policy: String,
    binding: String,
    expression_index: usize,
    validation_actions: Vec<&'static str>,
}

/// What one validation decided against the request.
struct Denied {
    /// Which; none for the run as a whole.
    validation: Option<usize>,
    reason: String,
    message: String,
}

/// What one run of a policy yielded.
#[derive(Default)]
struct Run {
    denied: Vec<Denied>,
    annotations: Vec<(String, Result<String, String>)>,
    trace: RunTrace,
}

impl Session<'_> {
    /// Asks the policies; `object` is what mutations left.
    pub(super) fn validate(
        &self,
        policies: &[(&Policy<Validating>, Vec<&Binding>)],
        object: Option<&Json>,
        version: Version,
    ) -> Result<Validated, Refusal> {
        let mut all = Validated::default();
        for (policy, bindings) in policies {
            self.go_on()?;
            match self.validate_policy(policy, bindings, object, &mut all) {
                Ok(()) => {}
                Err(Stop::Needs(need)) => all.needs.extend(need.0),
                Err(Stop::Refused(refusal)) => return Err(*refusal),
            }
        }
        all.publish_failures(version);
        Ok(all)
    }

    fn validate_policy(
        &self,
        policy: &Policy<Validating>,
        bindings: &[&Binding],
        object: Option<&Json>,
        all: &mut Validated,
    ) -> Result<(), Stop> {
        let candidate = self.candidate(object);
        let (matched, trace) = match candidate.matches(&policy.constraints)? {
            Match::Yes(matched, trace) => (matched, trace),
            Match::No(trace) => {
                all.trace.push(traced(policy, trace, Vec::new()));
                return Ok(());
            }
            Match::Failed(told) => {
                all.config_error(policy, None, &told);
                all.trace.push(traced(policy, MatchTrace::no(told), Vec::new()));
                return Ok(());
            }
        };
        if let Err(told) = self.param_kind(policy)? {
            all.config_error(policy, None, &told);
            let reason = format!("{}; {told}", trace.reason);
            all.trace.push(traced(policy, MatchTrace { reason, ..trace }, Vec::new()));
            return Ok(());
        }
        let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut traces = Vec::new();
        let mut stopped = None;
        for binding in bindings {
            let told =
                self.validate_binding(policy, binding, &matched, object, all, &mut annotations);
            match told {
                Ok(trace) => traces.push(trace),
                Err(Stop::Needs(need)) => all.needs.extend(need.0),
                Err(stop @ Stop::Refused(_)) => {
                    stopped = Some(stop);
                    break;
                }
            }
        }
        for (key, values) in annotations {
            let key = format!("{}/{key}", policy.name);
            all.annotations.entry(key).or_insert_with(|| values.join(", "));
        }
        all.trace.push(traced(policy, trace, traces));
        stopped.map_or(Ok(()), Err)
    }

    fn validate_binding(
        &self,
        policy: &Policy<Validating>,
        binding: &Binding,
        matched: &Matched,
        object: Option<&Json>,
        all: &mut Validated,
        annotations: &mut BTreeMap<String, Vec<String>>,
    ) -> Result<BindingTrace, Stop> {
        let mut trace = BindingTrace {
            binding: binding.name.clone(),
            matched: MatchTrace::yes("it narrows nothing"),
            error: None,
            runs: Vec::new(),
        };
        if let Some(constraints) = &binding.constraints {
            match self.candidate(object).matches(constraints)? {
                Match::Yes(_, reason) => trace.matched = reason,
                Match::No(reason) => {
                    trace.matched = reason;
                    return Ok(trace);
                }
                Match::Failed(told) => {
                    all.config_error(policy, Some(binding), &told);
                    trace.matched = MatchTrace::no(told);
                    return Ok(trace);
                }
            }
        }
        let params = match self.params(policy, binding)? {
            Ok(params) => params,
            Err(told) => {
                all.config_error(policy, Some(binding), &told);
                trace.error = Some(told);
                return Ok(trace);
            }
        };
        let namespace = self.namespace_for(policy)?;
        let object = self.as_kind(object, &matched.kind)?;
        let old_object = self.as_kind(self.request.old_object.as_ref(), &matched.kind)?;
        let request = self.request_json(matched);
        let mut needs = Gathered::default();
        for param in &params {
            let inputs = Inputs {
                object: object.as_deref(),
                old_object: old_object.as_deref(),
                params: param.as_deref(),
                request: &request,
                namespace: namespace.map(ShownNamespace::narrowed),
                authorizer: Some(self.facts.authorizer),
                subjects: &self.subjects,
                interrupt: self.facts.interrupt,
                detail: self.facts.detail,
            };
            let run = self.run(policy, matched, inputs, namespace.map(ShownNamespace::bare));
            let Some(mut run) = needs.part(run)? else { continue };
            let told = told_annotations(&run);
            run.trace.param = param.as_deref().map(param_name);
            trace.runs.push(run.trace);
            for denied in run.denied {
                match self.acceptance(policy, matched, inputs, &denied)? {
                    Some(acceptance) => {
                        let violation = violation(policy, binding, &denied, &told);
                        all.accepted.push((violation, acceptance));
                    }
                    None => all.denied(policy, binding, denied, &told),
                }
            }
            for (key, value) in run.annotations {
                match value {
                    Ok(value) => {
                        let values = annotations.entry(key).or_default();
                        let value = cut(&value, MAX_ANNOTATION).to_owned();
                        if !values.contains(&value) {
                            values.push(value);
                        }
                    }
                    Err(told) => all.deny(policy, Some(binding), String::new(), &told),
                }
            }
        }
        needs.end()?;
        Ok(trace)
    }

    /// Runs a policy with one parameter.
    fn run(
        &self,
        policy: &Policy<Validating>,
        matched: &Matched,
        inputs: Inputs<'_>,
        namespace: Option<&Json>,
    ) -> Result<Run, Stop> {
        let mut run = Run::default();
        match self.conditions(policy, matched, inputs, &mut run.trace)? {
            Conditions::Met => {}
            Conditions::Unmet => {
                run.trace.outcome = Some("the match conditions are not met".to_owned());
                return Ok(run);
            }
            Conditions::Failed(told) => return Ok(run.failed(policy, told)),
        }
        let variables = Variables::new(&policy.variables, inputs);
        let mut phase = Phase::new(&variables, RULES_BUDGET);
        let (mut results, mut needs) = (Vec::new(), Gathered::default());
        for (index, validation) in policy.rules.validations.iter().enumerate() {
            let name = || format!("validations[{index}]");
            let evaluated = needs.part(phase.evaluate(name, &validation.expression))?;
            let Some(evaluated) = evaluated else { continue };
            let Ok(evaluated) = evaluated else {
                needs.end()?;
                return Ok(run.failed(policy, OutOfBudget::MESSAGE.to_owned()));
            };
            results.push(evaluated.result.map(|value| matches!(value, Value::Bool(true))));
            run.trace.validations.extend(evaluated.trace);
        }
        needs.end()?;
        let left = phase.left();
        run.trace.variables.extend(variables.traces());
        let messages =
            messages(policy, Inputs { authorizer: None, ..inputs }, left, &mut run.trace)?;
        for (index, (validation, result)) in
            policy.rules.validations.iter().zip(results).enumerate()
        {
            let message = match &messages {
                Ok(messages) => messages.get(index).cloned().flatten(),
                Err(OutOfBudget) => None,
            };
            let (reason, message) = match (result, &messages) {
                (Err(told), _) => (String::new(), told),
                (Ok(_), Err(OutOfBudget)) => {
                    (String::new(), format!("failed messageExpression: {}", OutOfBudget::MESSAGE))
                }
                (Ok(true), Ok(_)) => continue,
                (Ok(false), Ok(_)) => {
                    let message = message_of(validation, message);
                    let reason = validation.reason.clone();
                    run.denied.push(Denied { validation: Some(index), reason, message });
                    continue;
                }
            };
            if policy.failure == FailurePolicy::Fail {
                run.denied.push(Denied { validation: Some(index), reason, message });
            }
        }
        self.annotate(policy, Inputs { authorizer: None, namespace, ..inputs }, run)
    }

    /// The exception that covers a failed validation whole: its policy asks no more of the object, or the validation holds
    /// of what is left without the excepted parts. What failed as a whole is covered by no part.
    fn acceptance(
        &self,
        policy: &Policy<Validating>,
        matched: &Matched,
        inputs: Inputs<'_>,
        denied: &Denied,
    ) -> Result<Option<Acceptance>, Stop> {
        let validation = denied.validation.and_then(|index| policy.rules.validations.get(index));
        let names: Vec<&str> = validation
            .into_iter()
            .flat_map(|each| [each.message.trim(), each.expression.source.trim()])
            .filter(|name| !name.is_empty())
            .collect();
        let Request { namespace, name, .. } = self.request;
        let kind = matched.kind.kind.as_str();
        // A namespace is in none.
        let namespace = if self.request.is_for_namespace() { "" } else { namespace };
        let subject = Subject { kind, namespace, name };
        let workload = Workload::of_kind(&matched.kind.group, kind);
        for exception in self.exceptions {
            if !exception.is_for(&policy.name, &names, subject) {
                continue;
            }
            let covers = exception.covers(inputs.object, workload, |rest| match validation {
                Some(validation) => {
                    holds(policy, validation, Inputs { object: Some(rest), ..inputs })
                }
                None => Ok(false),
            })?;
            if covers {
                return Ok(Some(exception.acceptance()));
            }
        }
        Ok(None)
    }

    /// The audit annotations of a run; when their budget is spent, nothing else counts.
    fn annotate(
        &self,
        policy: &Policy<Validating>,
        inputs: Inputs<'_>,
        mut run: Run,
    ) -> Result<Run, Stop> {
        if policy.rules.annotations.is_empty() {
            return Ok(run);
        }
        let variables = Variables::new(&policy.variables, inputs);
        let mut phase = Phase::new(&variables, RULES_BUDGET);
        for annotation in &policy.rules.annotations {
            let key = annotation.name.clone();
            let Ok(evaluated) = phase.evaluate(|| key.clone(), &annotation.expression)? else {
                run.denied.clear();
                run.annotations.clear();
                return Ok(run.failed(policy, OutOfBudget::MESSAGE.to_owned()));
            };
            run.trace.audit_annotations.extend(evaluated.trace);
            match evaluated.result {
                Ok(Value::String(text)) if !text.trim().is_empty() => {
                    run.annotations.push((key, Ok(text.trim().to_owned())));
                }
                Ok(_) => {}
                Err(told) if policy.failure == FailurePolicy::Fail => {
                    run.annotations.push((key, Err(told)));
                }
                Err(_) => {}
            }
        }
        run.trace.variables.extend(variables.traces());
        Ok(run)
    }
}

/// Whether a validation holds by itself; what errs does not.
fn holds(
    policy: &Policy<Validating>,
    validation: &Validation,
    inputs: Inputs<'_>,
) -> Result<bool, Stop> {
    let variables = Variables::new(&policy.variables, inputs);
    let mut phase = Phase::new(&variables, RULES_BUDGET);
    let evaluated = phase.evaluate(String::new, &validation.expression)?;
    Ok(evaluated.is_ok_and(|evaluated| matches!(evaluated.result, Ok(Value::Bool(true)))))
}

fn violation(
    policy: &Policy<Validating>,
    binding: &Binding,
    denied: &Denied,
    annotations: &[(String, String)],
) -> Violation {
    Violation {
        policy: policy.name.clone(),
        binding: Some(binding.name.clone()),
        validation: denied.validation,
        check: None,
        actions: binding.actions.clone(),
        message: denied.message.clone(),
        annotations: annotations.to_vec(),
    }
}

/// What the message expressions say, by the place of their validation; they share what validations left of the budget.
fn messages(
    policy: &Policy<Validating>,
    inputs: Inputs<'_>,
    budget: u64,
    trace: &mut RunTrace,
) -> Result<Result<Vec<Option<String>>, OutOfBudget>, Stop> {
    let variables = Variables::new(&policy.variables, inputs);
    let mut phase = Phase::new(&variables, budget);
    let mut messages = Vec::new();
    for (index, validation) in policy.rules.validations.iter().enumerate() {
        let Some(expression) = &validation.message_expression else {
            messages.push(None);
            continue;
        };
        let name = || format!("validations[{index}].messageExpression");
        let Ok(evaluated) = phase.evaluate(name, expression)? else {
            return Ok(Err(OutOfBudget));
        };
        trace.messages.extend(evaluated.trace);
        messages.push(match evaluated.result {
            Ok(Value::String(text)) => Some(text.as_str().to_owned()),
            Ok(_) | Err(_) => None,
        });
    }
    trace.variables.extend(variables.traces());
    Ok(Ok(messages))
}

/// What a person is told: what the message expression made, else the message, else the expression.
fn message_of(validation: &Validation, made: Option<String>) -> String {
    let made = made
        .as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n'));
    match made {
        Some(text) => text.to_owned(),
        None if !validation.message.is_empty() => validation.message.clone(),
        None => format!("failed expression: {}", validation.expression.source.trim()),
    }
}

/// The audit annotations of a run that goes wrong.
fn told_annotations(run: &Run) -> Vec<(String, String)> {
    if run.denied.is_empty() {
        return Vec::new();
    }
    let told = run.annotations.iter();
    told.filter_map(|(key, value)| Some((key.clone(), value.clone().ok()?))).collect()
}

/// At most so many bytes of a text, whole characters.
fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn traced(
    policy: &Policy<Validating>,
    matched: MatchTrace,
    bindings: Vec<BindingTrace>,
) -> PolicyTrace {
    PolicyTrace { kind: KIND, policy: policy.name.clone(), reinvocation: false, matched, bindings }
}

impl Run {
    /// The run erred as a whole.
    fn failed(mut self, policy: &Policy<Validating>, told: String) -> Self {
        self.trace.outcome = Some(told.clone());
        if policy.failure == FailurePolicy::Fail {
            self.denied.push(Denied { validation: None, reason: String::new(), message: told });
        }
        self
    }
}

impl Validated {
    /// What cannot be set up denies under `Fail`, whatever the actions of bindings are.
    fn config_error(&mut self, policy: &Policy<Validating>, binding: Option<&Binding>, told: &str) {
        if policy.failure == FailurePolicy::Fail {
            let what = if binding.is_some() { "binding" } else { "policy" };
            let told = format!("failed to configure {what}: {told}");
            self.deny(policy, binding, String::new(), &told);
        }
    }

    fn deny(
        &mut self,
        policy: &Policy<Validating>,
        binding: Option<&Binding>,
        reason: String,
        told: &str,
    ) {
        self.violations.push(Violation::of_policy(&policy.name, binding, told));
        self.refuse(policy, binding, reason, told);
    }

    fn refuse(
        &mut self,
        policy: &Policy<Validating>,
        binding: Option<&Binding>,
        reason: String,
        told: &str,
    ) {
        let name = &policy.name;
        let by = match binding {
            Some(binding) => format!("{KIND} '{name}' with binding '{}'", binding.name),
            None => format!("{KIND} '{name}'"),
        };
        self.denials.push((reason, format!("{by} denied request: {told}")));
    }

    fn denied(
        &mut self,
        policy: &Policy<Validating>,
        binding: &Binding,
        denied: Denied,
        annotations: &[(String, String)],
    ) {
        self.violations.push(violation(policy, binding, &denied, annotations));
        let Denied { validation, reason, message } = denied;
        for action in &binding.actions {
            match action {
                Action::Deny => self.refuse(policy, Some(binding), reason.clone(), &message),
                Action::Warn => {
                    let warning = format!(
                        "Validation failed for {KIND} '{}' with binding '{}': {message}",
                        policy.name, binding.name
                    );
                    if !self.warnings.contains(&warning) {
                        self.warnings.push(warning);
                    }
                }
                Action::Audit => self.failures.push(Failure {
                    message: message.clone(),
                    policy: binding.policy.clone(),
                    binding: binding.name.clone(),
                    expression_index: validation.unwrap_or_default(),
                    validation_actions: binding
                        .actions
                        .iter()
                        .map(|action| action.as_str())
                        .collect(),
                }),
            }
        }
    }

    /// One annotation tells the failures: to 1.36 the first alone, since annotations are not overwritten.
    fn publish_failures(&mut self, version: Version) {
        let most = if version < Version::minor(37) { 1 } else { MAX_FAILURES };
        self.failures.truncate(most);
        if !self.failures.is_empty() {
            let text = serde_json::to_string(&self.failures).unwrap_or_default();
            self.annotations.insert(FAILURE_KEY.to_owned(), as_go_escapes(&text));
        }
    }
}

/// JSON as Go writes it: fit to stand in HTML.
fn as_go_escapes(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            other => text.push(other),
        }
    }
    text
}
