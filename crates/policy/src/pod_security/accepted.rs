//! Violations of the Pod Security Standards without those that somebody accepts.

use std::convert::Infallible;

use serde_json::Value;

use super::{
    evaluation::{Evaluation, Violation, evaluate_as},
    template::Workload,
};
use crate::exception::{Acceptance, Exception, POD_SECURITY, Subject};

/// An evaluation without what exceptions cover, and that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excepted {
    /// What is left.
    pub evaluation: Evaluation,
    /// What is accepted.
    pub accepted: Vec<(Violation, Acceptance)>,
}

/// Takes out of the evaluation of an object what one of the exceptions covers whole; all of them must hold at this time.
///
/// `newest` is as for [`evaluate_as`].
pub fn except(
    evaluation: Evaluation,
    newest: u64,
    workload: Workload,
    object: &Value,
    subject: Subject<'_>,
    exceptions: &[&Exception],
) -> Excepted {
    let Evaluation { policy, violations } = evaluation;
    let passes = |rest: &Value, violation: &Violation| match workload.read(rest) {
        Ok(Some(template)) => {
            let left = evaluate_as(policy, newest, &template.pod);
            left.violations.iter().all(|other| other.check != violation.check)
        }
        Ok(None) | Err(_) => false,
    };
    let acceptance = |violation: &Violation| {
        let is_for = |exception: &&&Exception| {
            exception.is_for(POD_SECURITY, &[violation.check.as_str()], subject)
        };
        let covers = |exception: &&&Exception| {
            let passes = |rest: &Value| Ok::<bool, Infallible>(passes(rest, violation));
            matches!(exception.covers(Some(object), Some(workload), passes), Ok(true))
        };
        exceptions.iter().filter(is_for).find(covers).map(|exception| exception.acceptance())
    };
    let mut left = Vec::new();
    let mut accepted = Vec::new();
    for violation in violations {
        match acceptance(&violation) {
            Some(acceptance) => accepted.push((violation, acceptance)),
            None => left.push(violation),
        }
    }
    Excepted { evaluation: Evaluation { policy, violations: left }, accepted }
}
