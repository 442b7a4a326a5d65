//! Kubernetes' own admission policies, evaluated exactly as the API server evaluates them:
//! `ValidatingAdmissionPolicy` and `MutatingAdmissionPolicy` with their bindings.
//!
//! [`PolicySet`] holds policies that were checked and compiled once; [`evaluate`] asks them about a [`Request`]. What must be
//! known beside it stands in [`Facts`]; where a fact is missing the answer is the question ([`Need`]), never a guess.

mod decision;
mod environment;
mod expressions;
mod facts;
mod fault;
mod json_patch;
mod making;
mod matching;
mod merge;
mod mutate;
pub(crate) mod names;
mod outline;
mod policy;
mod programs;
mod request;
mod selector;
mod session;
mod set;
pub mod shape;
mod trace;
mod type_check;
mod validate;
mod validation;
mod values;
mod wire;

pub use decision::{Decision, Evaluation, Refusal, Stage, Violation};
pub use facts::{
    Answers, Detail, Equivalent, Existence, Facts, Kinds, Need, ParamQuery, ParamSource,
};
pub use fault::Fault;
pub use names::escaped;
pub use nullius_cel::{Version, authz};
pub use outline::{OutlinedExpression, Part, PolicyOutline};
pub use policy::{Action, Pick};
pub use programs::Programs;
pub use request::{Kind, NotARequest, Operation, Request, Resource, User};
pub(crate) use selector::labels_of;
pub use selector::{Labels, Selector};
pub use set::{PolicySet, Taken};
pub use trace::{BindingTrace, ExpressionTrace, MatchTrace, PolicyTrace, RunTrace};
pub use type_check::{ExpressionWarning, Types};

use serde_json::Value as Json;

use crate::{exception::Exception, go_text::go_quoted};
use decision::{Gathered, Stop};
use session::Session;

/// After so many rounds of fetching facts an evaluation is given up. What is known to be lacking is asked for at once; a round
/// more is due only where what to ask depends on an answer, and expressions have no budget for many such steps.
pub const ROUNDS: usize = 16;

/// Reviews of access, which no policy may touch: the cluster could not be mended any more.
const REVIEWS: [(&str, &str); 6] = [
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];
/// Policies and bindings, which only policies of manifest files may touch.
const POLICIES: [&str; 4] = [
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];

/// Judges a request: policies that mutate first, then those that validate what came of it.
#[must_use]
pub fn evaluate(set: &PolicySet, request: &Request, facts: &Facts<'_>) -> Evaluation {
    evaluate_excepting(set, request, facts, &[])
}

/// Judges a request as [`evaluate`] does; what validations find counts for nothing where one of the exceptions covers it,
/// all of which must hold at this time.
#[must_use]
pub fn evaluate_excepting(
    set: &PolicySet,
    request: &Request,
    facts: &Facts<'_>,
    exceptions: &[&Exception],
) -> Evaluation {
    let session = Session::new(request, facts, &[]);
    let mut decision = Decision {
        refusal: None,
        warnings: Vec::new(),
        audit_annotations: Default::default(),
        violations: Vec::new(),
        accepted: Vec::new(),
        mutated: None,
        patch: Vec::new(),
        trace: Vec::new(),
    };
    if is_exempt(request) {
        return Evaluation::Decided(Box::new(decision));
    }
    if request.operation != Operation::Delete {
        let policies = set.mutating(request, &session.equivalents);
        let (mutated, trace) = session.mutate(&policies);
        decision.trace = trace;
        match mutated {
            Ok(Some(object)) if is_moved(request, &object) => {
                decision.refusal = Some(Refusal::moved());
                return Evaluation::Decided(Box::new(decision));
            }
            Ok(mutated) => decision.mutated = mutated,
            Err(Stop::Needs(Gathered(needs))) => return Evaluation::Needs(needs),
            Err(Stop::Refused(mut refusal)) => {
                refusal.stage = Stage::Mutation;
                decision.violations = std::mem::take(&mut refusal.violations);
                decision.refusal = Some(*refusal);
                return Evaluation::Decided(Box::new(decision));
            }
        }
    }
    let asked = request;
    let named = with_made_name(request, decision.object(asked));
    let (request, object) = match &named {
        Some((request, object)) => (request, Some(object)),
        None => (request, decision.object(asked)),
    };
    let session = Session::new(request, facts, exceptions);
    let policies = set.validating(request, &session.equivalents);
    match session.validate(&policies, object, set.version()) {
        Ok(validated) if !validated.needs.is_empty() => {
            return Evaluation::Needs(validated.needs);
        }
        Ok(validated) => {
            decision.warnings = validated.warnings;
            decision.audit_annotations = validated.annotations;
            decision.trace.extend(validated.trace);
            decision.violations = validated.violations;
            decision.accepted = validated.accepted;
            if let Some((reason, _)) = validated.denials.first() {
                let reason = reason.clone();
                let causes = validated.denials.into_iter().map(|(_, message)| message).collect();
                decision.refusal = Some(Refusal::invalid(request, &reason, causes));
            }
        }
        Err(refusal) => decision.refusal = Some(refusal),
    }
    if let (Some(old), Some(new), None) = (&asked.object, &decision.mutated, &decision.refusal) {
        decision.patch = json_patch::between(old, new);
    }
    Evaluation::Decided(Box::new(decision))
}

/// What ends a name that the API server makes: it cannot be known before.
const MADE: &str = "xxxxx";
/// How much of `generateName` a made name keeps.
const MADE_FROM: usize = 58;

/// Whether a mutation has put the object into another namespace than that of the request.
fn is_moved(request: &Request, object: &Json) -> bool {
    let namespace = |object: Option<&Json>| {
        let found = object.and_then(|object| object.pointer("/metadata/namespace"));
        found.and_then(Json::as_str).unwrap_or_default().to_owned()
    };
    let Resource { group, resource, .. } = &request.resource;
    let is_namespace = group.is_empty() && resource == "namespaces";
    let mutated = namespace(Some(object));
    mutated != namespace(request.object.as_ref())
        && ![String::new(), request.namespace.clone()].contains(&mutated)
        && !request.namespace.is_empty()
        && !is_namespace
}

/// The request and its object with the name that the API server makes between mutation and validation.
fn with_made_name(request: &Request, object: Option<&Json>) -> Option<(Request, Json)> {
    let object = object.filter(|_| request.operation == Operation::Create)?;
    let metadata = object.get("metadata")?.as_object()?;
    let text = |field: &str| metadata.get(field).and_then(Json::as_str).unwrap_or_default();
    if !text("name").is_empty() || text("generateName").is_empty() {
        return None;
    }
    let kept: String = text("generateName").chars().take(MADE_FROM).collect();
    let name = format!("{kept}{MADE}");
    let mut object = object.clone();
    object["metadata"]["name"] = Json::from(name.as_str());
    let mut request = request.clone();
    if request.name.is_empty() {
        request.name = name;
    }
    Some((request, object))
}

fn is_exempt(request: &Request) -> bool {
    let Resource { group, resource, .. } = &request.resource;
    let is_policy =
        group == "admissionregistration.k8s.io" && POLICIES.contains(&resource.as_str());
    is_policy || REVIEWS.contains(&(group.as_str(), resource.as_str()))
}
