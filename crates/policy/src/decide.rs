//! Asks the judges and seals what they say. A judge that panics has decided nothing, so the answer is no.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nullius_access::{
    Caller, HubAction, HubProcess, HubTask, HubVerb, Judgement, Obligation, ReadScope, Ruling,
    Snapshot, judge_hub, judge_kube, review_access,
};
use nullius_model::{ClusterName, Explanation, Principal, Reason, Timestamp};
use nullius_rbac::{Attributes, RequestInfo};

use crate::{
    Decision, Denial, HubDecision, HubPermit, KubeDecision, KubePermit, ReviewDecision,
    ReviewPermit, Verdict, decision::StepUp,
};

/// Decides on a request to a cluster's API server.
pub fn decide_kube(
    snapshot: &Snapshot,
    caller: &Caller<'_>,
    cluster: &ClusterName,
    request: &RequestInfo,
    now: Timestamp,
) -> KubeDecision {
    let judgement = guarded(|| judge_kube(snapshot, caller, cluster, request, now));
    seal(judgement, |judgement| KubePermit {
        cluster: cluster.clone(),
        user: caller.identity.user.clone(),
        session: caller.identity.session.clone(),
        permission: judgement.permission.clone(),
        request: request.clone(),
        decided_at: now,
        ends_at: end_of(judgement).unwrap_or(caller.identity.expires_at),
    })
}

/// Answers what somebody asks about themselves.
pub fn decide_review(
    snapshot: &Snapshot,
    caller: &Caller<'_>,
    cluster: &ClusterName,
    asked: &Attributes<'_>,
    now: Timestamp,
) -> ReviewDecision {
    let judgement = guarded(|| review_access(snapshot, caller, cluster, asked, now));
    seal(judgement, |_| ReviewPermit { _sealed: () })
}

/// Decides on an action of a person on the hub's own objects.
pub fn decide_hub(
    snapshot: &Snapshot,
    caller: &Caller<'_>,
    action: &HubAction<'_>,
    now: Timestamp,
) -> HubDecision {
    let mut scope = ReadScope::Own;
    let judgement = guarded(|| {
        let (judgement, seen) = judge_hub(snapshot, caller, action, now);
        scope = seen;
        judgement
    });
    seal(judgement, |judgement| HubPermit {
        by: caller.principal(),
        verb: action.verb(),
        kind: action.kind(),
        name: action.name().map(Into::into),
        scope,
        permission: judgement.permission.clone(),
    })
}

/// Decides on what the hub does for itself: only what its task needs.
pub fn decide_hub_process(process: &HubProcess, action: &HubAction<'_>) -> HubDecision {
    let (allowed, doing) = match process.task() {
        HubTask::FirstStart => (
            matches!(action.verb(), HubVerb::Create | HubVerb::IssueEnrolment),
            "sets up an empty store",
        ),
        HubTask::Upkeep => (
            matches!(action.verb(), HubVerb::Update | HubVerb::Delete | HubVerb::EndSession),
            "records what it learned and removes what expired",
        ),
    };
    let (ruling, explanation) = if allowed {
        let sentence = format!("the hub {doing}");
        (Ruling::Allow, Explanation::new(Reason::HubRoleMatched, sentence).with_rule("hub"))
    } else {
        let sentence = format!("to {action} is no part of the hub's task, which {doing}");
        (Ruling::Deny, Explanation::new(Reason::NoHubRole, sentence))
    };
    let obligations = vec![Obligation::Record];
    let judgement = Judgement { ruling, permission: None, explanation, obligations };
    seal(judgement, |_| HubPermit {
        by: Principal::Hub,
        verb: action.verb(),
        kind: action.kind(),
        name: action.name().map(Into::into),
        scope: ReadScope::All,
        permission: None,
    })
}

/// What a judge says; a denial where it panics.
fn guarded(judge: impl FnOnce() -> Judgement) -> Judgement {
    catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|_| Judgement {
        ruling: Ruling::Deny,
        permission: None,
        explanation: Explanation::new(
            Reason::StaleState,
            "the decision could not be made, so the answer is no",
        )
        .with_next("try again, and report it with the audit id if it stays"),
        obligations: vec![Obligation::Record],
    })
}

fn seal<P>(judgement: Judgement, permit: impl FnOnce(&Judgement) -> P) -> Decision<P> {
    let verdict = match judgement.ruling {
        Ruling::Allow => Verdict::Allow(permit(&judgement)),
        Ruling::Deny => {
            let helps = judgement.obligations.contains(&Obligation::StepUp);
            Verdict::Deny(Denial {
                explanation: judgement.explanation.clone(),
                permission: judgement.permission.clone(),
                step_up: if helps { StepUp::Helps } else { StepUp::DoesNotHelp },
            })
        }
    };
    let Judgement { permission, explanation, obligations, .. } = judgement;
    Decision { verdict, permission, explanation, obligations }
}

fn end_of(judgement: &Judgement) -> Option<Timestamp> {
    judgement.obligations.iter().find_map(|obligation| match obligation {
        Obligation::Expire(end) => Some(*end),
        Obligation::Record | Obligation::StepUp => None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "test")]
    use super::*;

    #[test]
    fn a_judge_that_panics_denies() {
        let judgement = guarded(|| panic!("a defect in a judge"));
        let decision = seal(judgement, |_| ReviewPermit { _sealed: () });
        assert!(!decision.is_allowed());
        assert_eq!(decision.explanation.reason, Reason::StaleState);
        assert_eq!(decision.into_result().map_err(|denial| denial.http_status()), Err(503));
    }
}
