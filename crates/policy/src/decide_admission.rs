//! Decides on what enters a cluster: policies are asked, and what comes of it is sealed like every other decision.
//!
//! Policies that panic, that could not be asked, or that nobody answered in time have decided nothing, so the answer is no.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use nullius_access::{Obligation, admission_permission};
use nullius_model::{Explanation, PermissionId, Reason};

use crate::{
    AdmissionDecision, AdmissionPermit, Decision, Denial, StepUp, Verdict,
    admission_policy::{
        Action, BindingTrace, Decision as Outcome, Evaluation, Facts, MatchTrace, Need, Operation,
        PolicySet, PolicyTrace, Refusal, Request, Violation, evaluate_excepting,
    },
    exception::{Exception, POD_SECURITY},
    pod_security::{self, ENFORCE_LABEL, Kept, LevelVersion, PodRequest},
};

/// The most that is told of one violation of the Pod Security Standards, and of all together.
const MOST_OF_ONE: usize = 4 * 1024;
const MOST_OF_ALL: usize = 16 * 1024;

/// The answer to a request, or what must be known to give it.
#[derive(Debug)]
pub enum Admission {
    /// It is decided.
    Decided(Box<Judged>),
    /// Fetch these facts and decide again.
    Needs(BTreeSet<Need>),
}

/// A decision with what an API server is told of it.
#[derive(Debug)]
pub struct Judged {
    /// The sealed decision.
    pub decision: AdmissionDecision,
    /// What policies said: refusal, warnings, annotations, patch, trace.
    pub outcome: Outcome,
}

/// Decides on a request that an API server holds back until it is answered; all the exceptions must hold at this time.
#[must_use]
pub fn decide_admission(
    set: &PolicySet,
    request: &Request,
    facts: &Facts<'_>,
    exceptions: &[&Exception],
) -> Admission {
    let evaluate = || evaluate_excepting(set, request, facts, exceptions);
    match catch_unwind(AssertUnwindSafe(evaluate)) {
        Ok(Evaluation::Needs(needs)) => Admission::Needs(needs),
        Ok(Evaluation::Decided(outcome)) => Admission::Decided(Box::new(sealed(*outcome))),
        Err(_) => Admission::Decided(Box::new(withhold_admission(
            "the policies could not be asked: a defect of this program, told in its log",
        ))),
    }
}

/// Decides on a pod in a namespace where exceptions from the Pod Security Standards count, all of which must hold at this time;
/// `policy` is what its owner wants enforced, `None` where there is nothing to enforce, `newest` the newest minor version whose rules
/// the API server knows. `None` as soon as `is_over` says that the answer is of no more use.
#[must_use]
pub fn decide_pod_security(
    request: &Request,
    policy: Option<LevelVersion>,
    newest: u64,
    exceptions: &[&Exception],
    is_over: &dyn Fn() -> bool,
) -> Option<Judged> {
    let judge = || match policy {
        Some(policy) => measured(request, policy, newest, exceptions, is_over),
        None => Some(sealed(silent())),
    };
    catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|_| {
        Some(withhold_admission(
            "the pod could not be measured: a defect of this program, told in its log",
        ))
    })
}

fn measured(
    request: &Request,
    policy: LevelVersion,
    newest: u64,
    exceptions: &[&Exception],
    is_over: &dyn Fn() -> bool,
) -> Option<Judged> {
    let is_said = matches!(request.operation, Operation::Delete | Operation::Connect)
        || request.object.as_ref().is_some_and(serde_json::Value::is_object);
    if !is_said {
        return Some(withhold_admission("the request does not say which pod it is for"));
    }
    let nothing = serde_json::Value::Null;
    let asked = PodRequest {
        operation: match request.operation {
            Operation::Create => pod_security::Operation::Create,
            Operation::Update => pod_security::Operation::Update,
            Operation::Delete | Operation::Connect => pod_security::Operation::Other,
        },
        group: &request.resource.group,
        resource: &request.resource.resource,
        subresource: &request.subresource,
        namespace: &request.namespace,
        name: &request.name,
        user: &request.user.username,
        object: request.object.as_ref().unwrap_or(&nothing),
        old_object: request.old_object.as_ref(),
    };
    let Kept { refusal, violations, accepted } =
        pod_security::keep(newest, &asked, policy, exceptions, is_over)?;
    let binding = format!("{ENFORCE_LABEL}={policy}");
    let level = policy.level.as_str();
    let found = |violation: &pod_security::Violation| Violation {
        policy: level.to_owned(),
        binding: Some(binding.clone()),
        validation: None,
        check: Some(violation.check.as_str()),
        actions: vec![Action::Deny],
        message: cut(violation.refusal(policy), MOST_OF_ONE),
        annotations: Vec::new(),
    };
    let matched = || MatchTrace { matched: true, reason: "pods of the namespace".to_owned() };
    let mut outcome = silent();
    outcome.refusal = refusal.map(|refusal| {
        Refusal::of_plugin(refusal.code, refusal.reason, &cut(refusal.message, MOST_OF_ALL))
    });
    outcome.violations = violations.iter().map(found).collect();
    outcome.accepted =
        accepted.into_iter().map(|(violation, by)| (found(&violation), by)).collect();
    outcome.trace = vec![PolicyTrace {
        kind: POD_SECURITY,
        policy: level.to_owned(),
        reinvocation: false,
        matched: matched(),
        bindings: vec![BindingTrace {
            binding: binding.clone(),
            matched: matched(),
            error: None,
            runs: Vec::new(),
        }],
    }];
    Some(sealed(outcome))
}

/// A text of at most so many bytes, which says where it was cut off: a pod may have a thousand containers, each with its name.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push_str(" …");
    }
    text
}

/// Decides on a pod that gets something as it is made: the patch by which it does, none where there is nothing to do, or the sentence that
/// says why there can be none.
#[must_use]
pub fn decide_injection(made: Result<Vec<serde_json::Value>, String>) -> Judged {
    match made {
        Ok(patch) => sealed(Outcome { patch, ..silent() }),
        Err(sentence) => {
            let outcome = refusing(Refusal::of_plugin(403, "Forbidden", &sentence));
            let explanation = Explanation::new(Reason::PolicyRefused, sentence)
                .with_rule("nullius.dev/mesh: sidecar")
                .with_next("see docs/inject.md for what a pod with a proxy of its own may have");
            Judged { decision: denied(explanation, None), outcome }
        }
    }
}

/// The denial of a request on which policies could not decide; the sentence says why.
#[must_use]
pub fn withhold_admission(why: &str) -> Judged {
    let sentence = format!("{why}, so the answer is no");
    let outcome = refusing(Refusal::internal(&sentence));
    let explanation = Explanation::new(Reason::StaleState, sentence)
        .with_next("try again; if it stays, the log of `nullius agent admission` says more");
    Judged { decision: denied(explanation, None), outcome }
}

/// The denial of a request that will be right in a moment, by a rule; the sentence says what it waits for.
#[must_use]
pub fn defer_admission(rule: &str, sentence: &str) -> Judged {
    let outcome = refusing(Refusal::later(sentence));
    let explanation = Explanation::new(Reason::PolicyRefused, sentence)
        .with_rule(rule)
        .with_next("try again in a moment");
    Judged { decision: denied(explanation, None), outcome }
}

fn refusing(refusal: Refusal) -> Outcome {
    Outcome { refusal: Some(refusal), ..silent() }
}

/// Of policies that have nothing to say.
fn silent() -> Outcome {
    Outcome {
        refusal: None,
        warnings: Vec::new(),
        audit_annotations: BTreeMap::new(),
        violations: Vec::new(),
        accepted: Vec::new(),
        mutated: None,
        patch: Vec::new(),
        trace: Vec::new(),
    }
}

fn sealed(outcome: Outcome) -> Judged {
    let decision = match &outcome.refusal {
        Some(refusal) => refused(refusal, &outcome),
        None => {
            let explanation = Explanation::new(Reason::PolicyPassed, "no policy refuses it");
            Decision {
                verdict: Verdict::Allow(AdmissionPermit { _sealed: () }),
                permission: asked(&outcome),
                explanation,
                obligations: vec![Obligation::Record],
            }
        }
    };
    Judged { decision, outcome }
}

fn refused(refusal: &Refusal, outcome: &Outcome) -> AdmissionDecision {
    let explanation = Explanation::new(Reason::PolicyRefused, refusal.message.clone());
    let Some(first) = outcome.violations.first() else { return denied(explanation, None) };
    let kind = kind_of(outcome, &first.policy);
    let binding = first.binding.as_deref().unwrap_or_default();
    let mut rule = format!("{kind}/{}", first.policy);
    if !binding.is_empty() {
        rule.push_str(&format!(" → {binding}"));
    }
    if let Some(check) = first.check {
        rule.push_str(&format!(" {check}"));
    }
    if let Some(index) = first.validation {
        rule.push_str(&format!(" validation {index}"));
    }
    let permission = admission_permission(kind, &first.policy, binding);
    denied(explanation.with_rule(rule), Some(permission))
}

fn denied(explanation: Explanation, permission: Option<PermissionId>) -> AdmissionDecision {
    let denial = Denial {
        explanation: explanation.clone(),
        permission: permission.clone(),
        step_up: StepUp::DoesNotHelp,
    };
    let obligations = vec![Obligation::Record];
    Decision { verdict: Verdict::Deny(denial), permission, explanation, obligations }
}

/// The first policy that was for the request, with its binding.
fn asked(outcome: &Outcome) -> Option<PermissionId> {
    outcome.trace.iter().filter(|policy| policy.matched.matched).find_map(|policy| {
        let binding = policy.bindings.iter().find(|binding| binding.matched.matched)?;
        Some(admission_permission(policy.kind, &policy.policy, &binding.binding))
    })
}

fn kind_of(outcome: &Outcome, policy: &str) -> &'static str {
    let found = outcome.trace.iter().find(|trace| trace.policy == policy);
    // A policy that mutates ends the evaluation before there is a trace of it.
    found.map_or("MutatingAdmissionPolicy", |trace| trace.kind)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::admission_policy::{
        Answers, Detail, Equivalent, Existence, Kind, Kinds, Resource, Version, shape::Schemas,
    };

    /// No kinds at all; one that panics when it is asked.
    struct NoKinds {
        panics: bool,
    }

    impl Kinds for NoKinds {
        fn existence(&self, _: &Kind) -> Existence {
            Existence::Absent
        }
        fn equivalents(&self, _: &Resource, _: &str) -> Vec<Equivalent> {
            assert!(!self.panics, "a defect");
            Vec::new()
        }
        fn converted(&self, _: &Json, _: &Kind) -> Option<Json> {
            None
        }
        fn schemas(&self, _: &Kind) -> Option<&Schemas> {
            None
        }
        fn normalized(&self, object: Json, _: &Kind) -> Result<Json, String> {
            Ok(object)
        }
    }

    fn decide(expression: &str, panics: bool) -> Judged {
        let mut set = PolicySet::new(Version::LATEST);
        let rules = json!([{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["*"] }]);
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": "p" },
            "spec": { "matchConstraints": { "resourceRules": rules }, "validations": [{ "expression": expression }] },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": "b" }, "spec": { "policyName": "p", "validationActions": ["Deny"] },
        });
        set.add(&policy).unwrap();
        set.add(&binding).unwrap();
        let request = Request::of_review(json!({
            "operation": "CREATE", "kind": { "group": "", "version": "v1", "kind": "Node" },
            "resource": { "group": "", "version": "v1", "resource": "nodes" }, "name": "n",
            "object": { "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" } },
        }))
        .unwrap();
        let facts = Facts {
            namespaces: BTreeMap::new(),
            params: BTreeMap::new(),
            authorizer: &Answers::default(),
            kinds: &NoKinds { panics },
            interrupt: None,
            detail: Detail::Outcomes,
        };
        match decide_admission(&set, &request, &facts, &[]) {
            Admission::Decided(judged) => *judged,
            Admission::Needs(needs) => panic!("{needs:?}"),
        }
    }

    #[test]
    fn what_is_allowed_and_what_is_refused_names_the_same_permission() {
        let (allowed, refused) = (decide("true", false), decide("false", false));
        assert!(allowed.decision.is_allowed() && !refused.decision.is_allowed());
        assert_eq!(allowed.decision.permission, refused.decision.permission);
        assert!(allowed.decision.permission.is_some());
        let explanation = &refused.decision.explanation;
        assert_eq!(explanation.reason, Reason::PolicyRefused);
        assert_eq!(
            explanation.rule.as_deref(),
            Some("ValidatingAdmissionPolicy/p → b validation 0")
        );
    }

    #[test]
    fn policies_that_panic_deny() {
        let judged = decide("true", true);
        assert!(!judged.decision.is_allowed());
        let refusal = judged.outcome.refusal.unwrap();
        assert_eq!((refusal.code, refusal.reason.as_str()), (500, "InternalError"));
        assert!(refusal.message.contains("so the answer is no"), "{}", refusal.message);
    }
}
