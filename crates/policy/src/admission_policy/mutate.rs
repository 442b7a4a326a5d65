//! Policies that mutate, evaluated as the API server does: one after another, each on what the last one made, and a second
//! pass over those that ask for it when anything changed.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use nullius_cel::Value;
use serde_json::Value as Json;

use super::{
    decision::{Gathered, Refusal, Stage, Stop, Violation},
    expressions::{Inputs, OutOfBudget, Phase, RULES_BUDGET, Variables},
    facts::Need,
    go_quoted,
    json_patch::{self, Patched, Step},
    matching::{Match, Matched},
    merge,
    policy::{Binding, FailurePolicy, Mutating, Mutation, PatchForm, Policy, Reinvocation},
    request::Kind,
    session::{Conditions, Param, Session, ShownNamespace, param_name},
    trace::{BindingTrace, MatchTrace, PolicyTrace, RunTrace},
    values::{self, Unfit},
};

const KIND: &str = "MutatingAdmissionPolicy";

/// A policy with its bindings, in the order of evaluation.
pub(super) type Bound<'p> = (&'p Policy<Mutating>, Vec<&'p Binding>);

/// What policies made of a request.
#[derive(Default)]
struct Mutated {
    /// The object as they left it, where they changed it.
    object: Option<Json>,
    trace: Vec<PolicyTrace>,
}

/// What remembers one pass for the next.
#[derive(Default)]
struct Rounds {
    is_second: bool,
    /// The object was patched, changed or not.
    patched: bool,
    previous: BTreeSet<Key>,
    required: BTreeSet<Key>,
}

/// A policy with a binding and a parameter.
type Key = (String, String, Option<String>);

impl Rounds {
    fn require_previous(&mut self) {
        self.required.append(&mut self.previous);
    }
}

/// A policy that is to be applied, with one parameter.
struct Invocation<'p> {
    policy: &'p Policy<Mutating>,
    binding: &'p Binding,
    matched: Matched,
    param: Param<'p>,
    /// Where its trace stands: the policy's and the binding's place.
    place: (usize, usize),
}

/// Why a policy refuses.
struct Denial {
    message: String,
    reason: &'static str,
    violation: Violation,
}

/// How one mutation ended badly.
enum Failed {
    /// The policy's failure policy decides.
    Policy(String),
    Stop(Stop),
}

impl From<String> for Failed {
    fn from(told: String) -> Self {
        Self::Policy(told)
    }
}

impl From<Unfit> for Failed {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Refused(told) => Self::Policy(told),
            Unfit::Fatal(told) => Self::Stop(Stop::refused(Refusal::internal(told))),
        }
    }
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl<'a> Session<'a> {
    /// Applies the policies to the object of the request; gives it where they changed it.
    pub(super) fn mutate(
        &'a self,
        policies: &[Bound<'a>],
    ) -> (Result<Option<Json>, Stop>, Vec<PolicyTrace>) {
        let mut mutated = Mutated::default();
        let mut rounds = Rounds::default();
        let mut passed = self.pass(policies, &mut mutated, &mut rounds);
        if passed.is_ok() && rounds.patched {
            rounds.is_second = true;
            passed = self.pass(policies, &mut mutated, &mut rounds);
        }
        let Mutated { object, trace } = mutated;
        (passed.map(|()| object), trace)
    }

    fn pass(
        &'a self,
        policies: &[Bound<'a>],
        mutated: &mut Mutated,
        rounds: &mut Rounds,
    ) -> Result<(), Stop> {
        let first_trace = mutated.trace.len();
        let mut denials: Vec<Denial> = Vec::new();
        let mut invocations: Vec<Invocation<'a>> = Vec::new();
        let mut needs = Gathered::default();
        for (policy, bindings) in policies {
            self.go_on().map_err(Stop::refused)?;
            let object = mutated.object.as_ref().or(self.request.object.as_ref());
            let found =
                self.invocations(policy, bindings, object, mutated.trace.len(), &mut denials);
            let Some((trace, found)) = needs.part(found)? else { continue };
            mutated.trace.push(PolicyTrace { reinvocation: rounds.is_second, ..trace });
            invocations.extend(found);
        }
        needs.end()?;
        if !invocations.is_empty() {
            self.invoke(&invocations, mutated, rounds, &mut denials)?;
        }
        if rounds.is_second {
            // The second pass shows what it applied; matching is as it was.
            let applied =
                |trace: &PolicyTrace| trace.bindings.iter().any(|binding| !binding.runs.is_empty());
            let second = mutated.trace.split_off(first_trace);
            mutated.trace.extend(second.into_iter().filter(applied));
        }
        let Some(first) = denials.first() else { return Ok(()) };
        let reason = if first.reason.is_empty() { "Forbidden" } else { first.reason };
        let (reason, message) = (reason.to_owned(), first.message.clone());
        let (causes, violations) =
            denials.into_iter().map(|denial| (denial.message, denial.violation)).unzip();
        Err(Stop::refused(Refusal {
            code: 403,
            reason,
            message,
            causes,
            stage: Stage::Mutation,
            violations,
        }))
    }

    /// What of a policy is for the request.
    fn invocations(
        &'a self,
        policy: &'a Policy<Mutating>,
        bindings: &[&'a Binding],
        object: Option<&Json>,
        place: usize,
        denials: &mut Vec<Denial>,
    ) -> Result<(PolicyTrace, Vec<Invocation<'a>>), Stop> {
        let candidate = self.candidate(object);
        let mut trace = PolicyTrace {
            kind: KIND,
            policy: policy.name.clone(),
            reinvocation: false,
            matched: MatchTrace::no(""),
            bindings: Vec::new(),
        };
        let matched = match candidate.matches(&policy.constraints)? {
            Match::Yes(matched, reason) => {
                trace.matched = reason;
                matched
            }
            Match::No(reason) => {
                trace.matched = reason;
                return Ok((trace, Vec::new()));
            }
            Match::Failed(told) => {
                denials.extend(denial(
                    policy,
                    None,
                    &format!("failed to configure policy: {told}"),
                    "",
                ));
                trace.matched = MatchTrace::no(told);
                return Ok((trace, Vec::new()));
            }
        };
        if let Err(told) = self.param_kind(policy)? {
            denials.extend(denial(
                policy,
                None,
                &format!("failed to configure policy: {told}"),
                "",
            ));
            trace.matched.reason = format!("{}; {told}", trace.matched.reason);
            return Ok((trace, Vec::new()));
        }
        let (mut invocations, mut needs) = (Vec::new(), Gathered::default());
        for binding in bindings {
            let mut of_binding = BindingTrace {
                binding: binding.name.clone(),
                matched: MatchTrace::yes("it narrows nothing"),
                error: None,
                runs: Vec::new(),
            };
            let params = self.binding_params(policy, binding, object, &mut of_binding);
            let Some(params) = needs.part(params)? else { continue };
            let failed = match params {
                Ok(params) => {
                    let place = (place, trace.bindings.len());
                    let matched = &matched;
                    invocations.extend(params.into_iter().map(|param| Invocation {
                        policy,
                        binding,
                        matched: matched.clone(),
                        param,
                        place,
                    }));
                    None
                }
                Err(told) => Some(told),
            };
            if let Some(told) = failed {
                let message = format!("failed to configure binding: {told}");
                denials.extend(denial(policy, Some(binding), &message, ""));
                of_binding.error = Some(told);
            }
            trace.bindings.push(of_binding);
        }
        needs.end()?;
        Ok((trace, invocations))
    }

    fn binding_params(
        &'a self,
        policy: &Policy<Mutating>,
        binding: &Binding,
        object: Option<&Json>,
        trace: &mut BindingTrace,
    ) -> Result<Result<Vec<Param<'a>>, String>, Stop> {
        if let Some(constraints) = &binding.constraints {
            match self.candidate(object).matches(constraints)? {
                Match::Yes(_, reason) => trace.matched = reason,
                Match::No(reason) => {
                    trace.matched = reason;
                    return Ok(Ok(Vec::new()));
                }
                Match::Failed(told) => {
                    trace.matched = MatchTrace::no(told.as_str());
                    return Ok(Err(told));
                }
            }
        }
        self.params(policy, binding)
    }

    fn invoke(
        &'a self,
        invocations: &[Invocation<'a>],
        mutated: &mut Mutated,
        rounds: &mut Rounds,
        denials: &mut Vec<Denial>,
    ) -> Result<(), Stop> {
        // Each version of the object that policies matched is made once, before anything is applied.
        let mut versions: BTreeMap<Kind, Option<Json>> = BTreeMap::new();
        for invocation in invocations {
            let kind = &invocation.matched.kind;
            let object = mutated.object.as_ref().or(self.request.object.as_ref());
            let object = self.as_kind(object, kind)?.map(Cow::into_owned);
            versions.entry(kind.clone()).or_insert(object);
        }
        let mut last: Option<(Kind, bool)> = None;
        let mut dirty: BTreeSet<Kind> = BTreeSet::new();
        // Once something is lacking nothing comes of this pass: the rest shows what else it will ask for.
        let mut needs = Gathered::default();
        for invocation in invocations {
            let Invocation { policy, binding, matched, param, place } = invocation;
            let Some(namespace) = needs.part(self.namespace_for(policy))? else { continue };
            let param = param.as_deref();
            let mut run = RunTrace { param: param.map(param_name), ..RunTrace::default() };
            let object = versions.get(&matched.kind).cloned().flatten();
            let old_object = self.as_kind(self.request.old_object.as_ref(), &matched.kind)?;
            let request = self.request_json(matched);
            let inputs = Inputs {
                object: object.as_ref(),
                old_object: old_object.as_deref(),
                params: param,
                request: &request,
                namespace: namespace.map(ShownNamespace::bare),
                authorizer: Some(self.facts.authorizer),
                subjects: &self.subjects,
                interrupt: self.facts.interrupt,
                detail: self.facts.detail,
            };
            let conditions = self.conditions(policy, matched, inputs, &mut run);
            let Some(conditions) = needs.part(conditions)? else { continue };
            let key: Key = (policy.name.clone(), binding.name.clone(), param.map(param_name));
            let is_due = !rounds.is_second || rounds.required.contains(&key);
            let unmet = match conditions {
                Conditions::Met if is_due => None,
                Conditions::Met => continue,
                Conditions::Unmet => Some("the match conditions are not met".to_owned()),
                Conditions::Failed(told) => {
                    denials.extend(denial(policy, Some(binding), &told, "Invalid"));
                    Some(told)
                }
            };
            if unmet.is_some() {
                run.outcome = unmet;
                put(&mut mutated.trace, *place, run);
                continue;
            }
            let mut current = object.clone();
            for (index, mutation) in policy.rules.mutations.iter().enumerate() {
                last = Some((matched.kind.clone(), dirty.contains(&matched.kind)));
                let Some(before) = &current else { continue };
                let inputs = Inputs { object: Some(before), ..inputs };
                let name = || format!("mutations[{index}]");
                match self.mutate_once(policy, mutation, name, &matched.kind, inputs, &mut run) {
                    Ok(after) => {
                        if let Some(trace) = run.mutations.last_mut() {
                            trace.changed = Some(after != *before);
                        }
                        dirty.insert(matched.kind.clone());
                        last = Some((matched.kind.clone(), true));
                        current = Some(after);
                    }
                    Err(Failed::Policy(told)) => {
                        denials.extend(denial(policy, Some(binding), &told, "Invalid"));
                        run.outcome = Some(told);
                    }
                    Err(Failed::Stop(stop)) => {
                        needs.part::<()>(Err(stop))?;
                    }
                }
            }
            put(&mut mutated.trace, *place, run);
            if current != object {
                rounds.require_previous();
                rounds.patched = true;
            }
            versions.insert(matched.kind.clone(), current);
            if policy.rules.reinvocation == Reinvocation::IfNeeded {
                rounds.previous.insert(key);
            }
        }
        needs.end()?;
        if let Some((kind, true)) = last {
            rounds.require_previous();
            rounds.patched = true;
            let object = versions.remove(&kind).flatten();
            mutated.object = if kind == self.request.kind {
                object
            } else {
                let own = &self.request.kind;
                let back = object.and_then(|object| self.facts.kinds.converted(&object, own));
                Some(back.ok_or_else(|| Stop::needs(Need::Conversion(own.clone())))?)
            };
        }
        Ok(())
    }

    /// Applies one mutation; the object that it makes is decoded and defaulted.
    fn mutate_once(
        &self,
        policy: &Policy<Mutating>,
        mutation: &Mutation,
        name: impl FnOnce() -> String,
        kind: &Kind,
        inputs: Inputs<'_>,
        run: &mut RunTrace,
    ) -> Result<Json, Failed> {
        let Some(object) = inputs.object else { return Err(Failed::Policy(String::new())) };
        let variables = Variables::new(&policy.variables, inputs);
        let mut phase = Phase::new(&variables, RULES_BUDGET);
        let evaluated = phase.evaluate(name, &mutation.expression)?;
        run.variables.extend(variables.traces());
        let Ok(evaluated) = evaluated else {
            return Err(Failed::Policy(OutOfBudget::MESSAGE.to_owned()));
        };
        run.mutations.extend(evaluated.trace);
        let value = evaluated.result.map_err(Failed::Policy)?;
        match mutation.form {
            PatchForm::JsonPatch => {
                let steps = steps(&value)?;
                let patched = json_patch::apply(object, &steps)
                    .map_err(|told| Failed::Policy(format!("JSON Patch: {told}")))?;
                let patched = match patched {
                    Patched::Changed(patched) => patched,
                    Patched::TestFailed => return Ok(object.clone()),
                };
                let internal = |told: String| Failed::Stop(Stop::refused(Refusal::internal(&told)));
                self.facts.kinds.normalized(patched, kind).map_err(internal)
            }
            PatchForm::ApplyConfiguration => {
                let Value::Object(configuration) = &value else {
                    let of = value.type_name();
                    let told =
                        format!("unsupported return type from ApplyConfiguration expression: {of}");
                    return Err(Failed::Policy(told));
                };
                configuration
                    .check_paths()
                    .map_err(|told| Failed::Policy(format!("type mismatch: {told}")))?;
                let configuration = values::object(configuration).map_err(Failed::Policy)?;
                let missing = || Failed::Stop(Stop::needs(Need::Shape(kind.clone())));
                let schemas = self.facts.kinds.schemas(kind).ok_or_else(missing)?;
                let merged =
                    merge::apply(schemas, kind, object, configuration).ok_or_else(missing)?;
                let merged = merged
                    .map_err(|told| Failed::Policy(format!("error applying patch: {told}")))?;
                self.facts.kinds.normalized(merged, kind).map_err(Failed::Policy)
            }
        }
    }
}

fn put(traces: &mut [PolicyTrace], (policy, binding): (usize, usize), run: RunTrace) {
    let found = traces.get_mut(policy).and_then(|trace| trace.bindings.get_mut(binding));
    if let Some(trace) = found {
        trace.runs.push(run);
    }
}

fn denial(
    policy: &Policy<Mutating>,
    binding: Option<&Binding>,
    told: &str,
    reason: &'static str,
) -> Option<Denial> {
    if policy.failure == FailurePolicy::Ignore {
        return None;
    }
    let message = match binding {
        Some(binding) => {
            format!(
                "policy '{}' with binding '{}' denied request: {told}",
                policy.name, binding.name
            )
        }
        None => format!("policy {} denied request: {told}", go_quoted(&policy.name)),
    };
    let violation = Violation::of_policy(&policy.name, binding, told);
    Some(Denial { message, reason, violation })
}

/// The operations that an expression yielded.
fn steps(value: &Value<'_>) -> Result<Vec<Step>, Failed> {
    let Value::List(list) = value else {
        let told = "type mismatch: JSONPatchType.expression should evaluate to array";
        return Err(told.to_owned().into());
    };
    let step = |item: Value<'_>| {
        let Value::Object(object) = &item else {
            let of = item.type_name();
            let told = format!(
                "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of {of}"
            );
            return Err(told.into());
        };
        let text = |field: &str| match object.field(field) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.as_str().to_owned()),
            Some(other) => {
                let of = other.type_name();
                Err(format!("unexpected type {of} for JSONPatchType '{field}' field"))
            }
        };
        let value = object.field("value").map(values::patch_value).transpose()?;
        Ok(Step { op: text("op")?, path: text("path")?, from: text("from")?, value })
    };
    list.iter().map(step).collect()
}
