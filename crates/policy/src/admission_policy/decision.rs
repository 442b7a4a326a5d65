//! What comes of a request under a set of policies.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::{
    facts::Need,
    go_quoted,
    policy::{Action, Binding},
    request::Request,
    trace::PolicyTrace,
};
use crate::exception::Acceptance;

/// The answer to a request, or what must be known to give it.
#[derive(Debug, Clone, PartialEq)]
pub enum Evaluation {
    /// It is decided.
    Decided(Box<Decision>),
    /// Fetch these facts and evaluate again.
    Needs(BTreeSet<Need>),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Why it is refused; `None` when it is not.
    pub refusal: Option<Refusal>,
    /// What the person is told beside.
    pub warnings: Vec<String>,
    /// What the audit is told.
    pub audit_annotations: BTreeMap<String, String>,
    /// Every rule that is broken, whatever comes of it.
    pub violations: Vec<Violation>,
    /// What is broken and was accepted: it counts for nothing.
    pub accepted: Vec<(Violation, Acceptance)>,
    /// The object as mutations left it, where they changed it; [`Decision::object`] is it in any case.
    pub mutated: Option<Json>,
    /// The patch from the object of the request to that, by RFC 6902.
    pub patch: Vec<Json>,
    /// What was done, policy by policy.
    pub trace: Vec<PolicyTrace>,
}

impl Decision {
    /// The object as it will be; none when it is deleted.
    #[must_use]
    pub fn object<'o>(&'o self, request: &'o Request) -> Option<&'o Json> {
        self.mutated.as_ref().or(request.object.as_ref())
    }

    /// The decision of a request that another admission plugin refuses before policies that validate are asked.
    pub fn refuse_before_policies(
        &mut self,
        code: u16,
        reason: &str,
        message: &str,
        warnings: Vec<String>,
    ) {
        self.refusal = Some(Refusal {
            code,
            reason: reason.to_owned(),
            message: message.to_owned(),
            causes: vec![message.to_owned()],
            stage: Stage::Validation,
            violations: Vec::new(),
        });
        self.warnings = warnings;
        self.audit_annotations.clear();
        self.violations.clear();
        self.patch.clear();
        self.trace.retain(|trace| trace.kind != "ValidatingAdmissionPolicy");
    }
}

/// A rule of a policy that a request breaks, or a policy that cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The policy.
    pub policy: String,
    /// The binding that applies it; none where the policy failed before its bindings.
    pub binding: Option<String>,
    /// Which of its validations; none where the policy failed as a whole.
    pub validation: Option<usize>,
    /// The id of the check, of the Pod Security Standards alone.
    pub check: Option<&'static str>,
    /// What comes of it.
    pub actions: Vec<Action>,
    /// What a person is told.
    pub message: String,
    /// The audit annotations of the run, without the policy's name.
    pub annotations: Vec<(String, String)>,
}

impl Violation {
    /// A policy that denies as a whole, because it cannot be asked.
    pub(super) fn of_policy(policy: &str, binding: Option<&Binding>, told: &str) -> Self {
        Self {
            policy: policy.to_owned(),
            binding: binding.map(|binding| binding.name.clone()),
            validation: None,
            check: None,
            actions: vec![Action::Deny],
            message: told.to_owned(),
            annotations: Vec::new(),
        }
    }
}

/// A refusal as the API server answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// The machine's word: `Invalid`, `Forbidden`.
    pub reason: String,
    /// The sentence for people.
    pub message: String,
    /// Every reason to refuse, the first one too.
    pub causes: Vec<String>,
    /// Where the request ended.
    pub stage: Stage,
    /// What policies that mutate failed at.
    pub(super) violations: Vec<Violation>,
}

/// A part of admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Policies that mutate.
    Mutation,
    /// Policies that validate what came of it.
    Validation,
}

/// Why the evaluation of a part ended before its answer.
#[derive(Debug)]
pub(super) enum Stop {
    /// Facts are missing.
    Needs(Gathered),
    /// The API server ends the request with this.
    Refused(Box<Refusal>),
}

/// Facts that parts of an evaluation lack: all are asked for at once, not one after another.
#[derive(Debug, Default)]
pub(super) struct Gathered(pub(super) BTreeSet<Need>);

impl Gathered {
    /// What a part came to; none when it lacks facts. What it refuses counts only where nothing was lacking before.
    pub(super) fn part<T>(&mut self, came: Result<T, Stop>) -> Result<Option<T>, Stop> {
        match came {
            Ok(part) => Ok(Some(part)),
            Err(Stop::Needs(Self(needs))) => {
                self.0.extend(needs);
                Ok(None)
            }
            Err(Stop::Refused(_)) if !self.0.is_empty() => Err(Stop::Needs(std::mem::take(self))),
            Err(refused @ Stop::Refused(_)) => Err(refused),
        }
    }

    /// Goes on only where nothing is lacking.
    pub(super) fn end(self) -> Result<(), Stop> {
        if self.0.is_empty() { Ok(()) } else { Err(Stop::Needs(self)) }
    }
}

impl Stop {
    pub(super) fn needs(need: Need) -> Self {
        Self::Needs(Gathered(BTreeSet::from([need])))
    }

    pub(super) fn refused(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl Refusal {
    /// The API server's own failure.
    pub(crate) fn internal(told: &str) -> Self {
        let message = format!("Internal error occurred: {told}");
        Self {
            code: 500,
            reason: "InternalError".to_owned(),
            message,
            causes: Vec::new(),
            stage: Stage::Validation,
            violations: Vec::new(),
        }
    }

    /// What another admission plugin would answer.
    pub(crate) fn of_plugin(code: u16, reason: &str, message: &str) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            message: message.to_owned(),
            causes: Vec::new(),
            stage: Stage::Validation,
            violations: Vec::new(),
        }
    }

    /// Policies that take longer than anybody waits.
    pub(super) fn out_of_time() -> Self {
        Self::internal("the evaluation of policies took too long")
    }

    /// Something that will be right in a moment: clients try again by themselves.
    pub(crate) fn later(told: &str) -> Self {
        Self {
            code: 429,
            reason: "TooManyRequests".to_owned(),
            message: told.to_owned(),
            causes: Vec::new(),
            stage: Stage::Validation,
            violations: Vec::new(),
        }
    }

    /// A namespace that does not exist.
    pub(super) fn not_found(message: String) -> Self {
        Self {
            code: 404,
            reason: "NotFound".to_owned(),
            message,
            causes: Vec::new(),
            stage: Stage::Validation,
            violations: Vec::new(),
        }
    }

    /// An object that a policy has put into another namespace than that of the request.
    pub(super) fn moved() -> Self {
        let told =
            "the namespace of the provided object does not match the namespace sent on the request";
        Self {
            code: 400,
            reason: "BadRequest".to_owned(),
            message: told.to_owned(),
            causes: vec![told.to_owned()],
            stage: Stage::Mutation,
            violations: Vec::new(),
        }
    }

    /// By policies that validate.
    pub(super) fn invalid(request: &Request, reason: &str, causes: Vec<String>) -> Self {
        let first = causes.first().map(String::as_str).unwrap_or_default();
        let (resource, name) = (request.group_resource(), request.called());
        let message = format!("{resource} {} is forbidden: {first}", go_quoted(name));
        let reason = if reason.is_empty() { "Invalid" } else { reason };
        Self {
            code: code(reason),
            reason: reason.to_owned(),
            message,
            causes,
            stage: Stage::Validation,
            violations: Vec::new(),
        }
    }
}

fn code(reason: &str) -> u16 {
    match reason {
        "Unauthorized" => 401,
        "Forbidden" => 403,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    }
}
