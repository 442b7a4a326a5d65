//! Violations of the Pod Security Standards without those that somebody accepts.

use serde_json::Value;

use super::{
    evaluation::{Evaluation, Violation, breaks},
    level::LevelVersion,
    template::Workload,
};
use crate::exception::{Acceptance, Exception, Extent, POD_SECURITY, Subject};

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
/// `newest` is as for [`evaluate_as`](super::evaluate_as).
pub fn except(
    evaluation: Evaluation,
    newest: u64,
    workload: Workload,
    object: &Value,
    subject: Subject<'_>,
    exceptions: &[&Exception],
) -> Excepted {
    let mut asking = Asking { newest, workload, object, subject, rests: Vec::new() };
    asking.except(evaluation, exceptions, &|| false)
}

/// The same, which accepts nothing more as soon as `is_over` says that the answer is of no more use.
pub(super) fn except_until(
    evaluation: Evaluation,
    newest: u64,
    object: &Value,
    subject: Subject<'_>,
    exceptions: &[&Exception],
    is_over: &dyn Fn() -> bool,
) -> Excepted {
    let mut asking = Asking { newest, workload: Workload::Pod, object, subject, rests: Vec::new() };
    asking.except(evaluation, exceptions, is_over)
}

/// Exceptions asked about one object.
struct Asking<'a> {
    newest: u64,
    workload: Workload,
    object: &'a Value,
    subject: Subject<'a>,
    /// What is left of the object without what each exception is for, as far as somebody asked.
    rests: Vec<Option<Extent>>,
}

impl Asking<'_> {
    fn except(
        &mut self,
        evaluation: Evaluation,
        exceptions: &[&Exception],
        is_over: &dyn Fn() -> bool,
    ) -> Excepted {
        let Evaluation { policy, violations } = evaluation;
        self.rests.resize_with(exceptions.len(), || None);
        let (mut left, mut accepted) = (Vec::new(), Vec::new());
        for violation in violations {
            let covering = exceptions.iter().enumerate().find(|(at, exception)| {
                let check = violation.check.as_str();
                exception.is_for(POD_SECURITY, &[check], self.subject)
                    && !is_over()
                    && self.covers(*at, exception, policy, &violation)
            });
            match covering.map(|(_, exception)| exception.acceptance()) {
                Some(acceptance) => accepted.push((violation, acceptance)),
                None => left.push(violation),
            }
        }
        Excepted { evaluation: Evaluation { policy, violations: left }, accepted }
    }

    /// Whether what is left of the object passes the one check.
    fn covers(
        &mut self,
        at: usize,
        exception: &Exception,
        policy: LevelVersion,
        violation: &Violation,
    ) -> bool {
        let Some(rest) = self.rests.get_mut(at) else { return false };
        let rest = rest.get_or_insert_with(|| exception.without(self.object, Some(self.workload)));
        match rest {
            Extent::Whole => true,
            Extent::Nothing => false,
            Extent::Rest(rest) => match self.workload.read(rest) {
                Ok(Some(template)) => !breaks(policy, self.newest, violation.check, &template.pod),
                Ok(None) | Err(_) => false,
            },
        }
    }
}
