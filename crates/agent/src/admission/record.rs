//! Decisions as the hub hears of them: each is counted as a use, and one in which a policy had something to say is told whole. Nothing of
//! the object is in it.

use nullius_admission::webhook::Review;
use nullius_model::{PermissionId, Timestamp};
use nullius_policy::{
    Judged,
    admission_policy::{Action, Violation},
    exception::Acceptance,
};
use nullius_proto::agent_v1::{AdmissionDecision, AdmissionEffect, AdmissionRemark};

use crate::report::{Reports, UsedPolicy};

/// Tells what was decided about a review. Never waits.
pub(crate) fn tell(reports: &Reports, review: &Review, judged: &Judged, now: Timestamp) {
    let request = review.request();
    let decision = &judged.decision;
    let permission = decision.permission.as_ref().map(PermissionId::as_str).unwrap_or_default();
    let used = UsedPolicy {
        username: &request.user.username,
        operation: request.operation.as_str(),
        group: &request.resource.group,
        resource: &request.resource.resource,
        subresource: &request.subresource,
        namespace: &request.namespace,
        allowed: decision.is_allowed(),
        permission,
    };
    reports.used(&used, now.as_millisecond(), review.uid());
    let remarks = remarks(judged);
    if decision.is_allowed() && remarks.is_empty() {
        return;
    }
    let explanation = &decision.explanation;
    tracing::debug!(
        uid = review.uid(), user = used.username, operation = used.operation, resource = used.resource,
        namespace = used.namespace, name = request.name, allowed = used.allowed, why = %explanation,
        "policies had something to say"
    );
    let refusal = judged.outcome.refusal.as_ref();
    reports.decided(AdmissionDecision {
        uid: review.uid().to_owned(),
        decided_millis: now.as_millisecond(),
        username: request.user.username.clone(),
        groups: request.user.groups.clone(),
        operation: used.operation.to_owned(),
        group: request.resource.group.clone(),
        version: request.resource.version.clone(),
        kind: request.kind.kind.clone(),
        resource: request.resource.resource.clone(),
        subresource: request.subresource.clone(),
        namespace: request.namespace.clone(),
        name: request.name.clone(),
        dry_run: request.dry_run,
        allowed: used.allowed,
        code: refusal.map_or(0, |refusal| u32::from(refusal.code)),
        remarks,
        reason: explanation.reason.as_str().to_owned(),
        rule: explanation.rule.clone().unwrap_or_default(),
        sentence: explanation.sentence.clone(),
        next: explanation.next.clone().unwrap_or_default(),
        permission: permission.to_owned(),
    });
}

/// What policies had to say: what they found, and what they want the audit to know.
fn remarks(judged: &Judged) -> Vec<AdmissionRemark> {
    let outcome = &judged.outcome;
    let kind = |policy: &str| {
        let found = outcome.trace.iter().find(|trace| trace.policy == policy);
        found.map_or("MutatingAdmissionPolicy", |trace| trace.kind)
    };
    let remark = |violation: &Violation, effect: AdmissionEffect| AdmissionRemark {
        effect: effect.into(),
        policy: format!("{}/{}", kind(&violation.policy), violation.policy),
        binding: violation.binding.clone().unwrap_or_default(),
        check: match (violation.check, violation.validation) {
            (Some(check), _) => check.to_owned(),
            (None, Some(at)) => format!("validation {at}"),
            (None, None) => String::new(),
        },
        message: violation.message.clone(),
        ..AdmissionRemark::default()
    };
    let found = outcome.violations.iter().map(|violation| remark(violation, effect(violation)));
    let accepted = outcome.accepted.iter().map(|(violation, acceptance)| {
        let Acceptance { exception, owner, reason, expires } = acceptance;
        AdmissionRemark {
            waiver_owner: owner.clone(),
            waiver_reason: format!("{reason} (PolicyException/{exception})"),
            waiver_expires: expires.to_string(),
            ..remark(violation, AdmissionEffect::Waived)
        }
    });
    let mut remarks: Vec<AdmissionRemark> = found.chain(accepted).collect();
    // What decided comes first.
    remarks.sort_by_key(|remark| remark.effect);
    for (key, value) in &outcome.audit_annotations {
        let Some((policy, check)) = key.split_once('/') else { continue };
        // The API server's own list of what failed says what stands above.
        if policy.ends_with("policy.admission.k8s.io") {
            continue;
        }
        remarks.push(AdmissionRemark {
            effect: AdmissionEffect::Audited.into(),
            policy: format!("{}/{policy}", kind(policy)),
            check: check.to_owned(),
            message: value.clone(),
            ..AdmissionRemark::default()
        });
    }
    remarks
}

fn effect(violation: &Violation) -> AdmissionEffect {
    if violation.actions.contains(&Action::Deny) {
        AdmissionEffect::Denied
    } else if violation.actions.contains(&Action::Warn) {
        AdmissionEffect::Warned
    } else {
        AdmissionEffect::Audited
    }
}
