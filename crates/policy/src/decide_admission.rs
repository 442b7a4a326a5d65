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
        Decision as Outcome, Evaluation, Facts, Need, PolicySet, Refusal, Request,
        evaluate_excepting,
    },
    exception::Exception,
};

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

/// The denial of a request on which policies could not decide; the sentence says why.
#[must_use]
pub fn withhold_admission(why: &str) -> Judged {
    let sentence = format!("{why}, so the answer is no");
    let outcome = Outcome {
        refusal: Some(Refusal::internal(&sentence)),
        warnings: Vec::new(),
        audit_annotations: BTreeMap::new(),
        violations: Vec::new(),
        accepted: Vec::new(),
        object: None,
        patch: Vec::new(),
        trace: Vec::new(),
    };
    let explanation = Explanation::new(Reason::StaleState, sentence)
        .with_next("try again; if it stays, the log of `nullius agent admission` says more");
    Judged { decision: denied(explanation, None), outcome }
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
        let request = Request::of_review(&json!({
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
