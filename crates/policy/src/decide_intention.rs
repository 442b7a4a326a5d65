//! Decides on connections and requests between workloads: intentions judge, and what they say is sealed like every other decision.
//!
//! Rules that panic, or that have not arrived, have decided nothing, so the answer is no.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nullius_access::Obligation;
use nullius_intention::{
    Accept, BodyChecks, BodyJudged, Connection, Held, Malformed, Request, RuleSet, Stand, Token,
    Undeclared, explain_body, explain_connection, explain_request,
};
use nullius_model::{Explanation, PermissionId, Reason, Timestamp};

use crate::{ConnectionPermit, Decision, Denial, RequestPermit, StepUp, Verdict};

/// A decision with what would be decided if intentions that are only watched did.
#[derive(Debug)]
pub struct Watched<P> {
    /// The sealed decision.
    pub decision: Decision<P>,
    /// What intentions in shadow would make of it; none where there is none, or where requests would decide.
    pub shadow: Option<Shadow>,
}

/// What would be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// Whether it would be allowed.
    pub allowed: bool,
    /// Why.
    pub explanation: Explanation,
    /// The permission that would decide.
    pub permission: Option<PermissionId>,
}

/// What becomes of a connection.
#[derive(Debug)]
pub enum Accepted {
    /// It is decided.
    Decided(Box<Watched<ConnectionPermit>>),
    /// Each of its requests is, by the rules of its source that are left; nothing else may pass.
    Requests(Box<Accept>),
}

/// Decides on a connection; without rules, since none has arrived yet, it is denied.
#[must_use]
pub fn decide_connection(
    rules: Option<&RuleSet>,
    connection: &Connection<'_>,
    now: Timestamp,
) -> Accepted {
    let judge = || rules.map(|rules| rules.accept(connection, now));
    let accept = match catch_unwind(AssertUnwindSafe(judge)) {
        Ok(Some(accept)) => accept,
        Ok(None) => return unjudged("the intentions for this workload have not arrived"),
        Err(_) => return unjudged("the intentions could not be asked: a defect of this program"),
    };
    let Stand::Decided(verdict) = accept.stand() else {
        return Accepted::Requests(Box::new(accept));
    };
    let explanation = explain_connection(&accept, verdict);
    let decision = sealed(verdict, explanation, |permission| ConnectionPermit {
        source: connection.source.cloned(),
        address: accept.address(),
        port: connection.port,
        permission,
        ends_at: verdict.ends_at,
    });
    let shadow = match accept.shadow() {
        Some(Stand::Decided(verdict)) => {
            Some(shadow(verdict, explain_connection(&accept, verdict)))
        }
        Some(Stand::Requests) | None => None,
    };
    Accepted::Decided(Box::new(Watched { decision, shadow }))
}

/// Decides on a request of a connection whose requests decide; tokens are those that were verified.
#[must_use]
pub fn decide_request(
    accept: &Accept,
    request: &Request<'_>,
    tokens: &[Token],
) -> Watched<RequestPermit> {
    let Ok(judged) = catch_unwind(AssertUnwindSafe(|| accept.judge(request, tokens))) else {
        let told = "the intentions could not be asked: a defect of this program";
        return Watched { decision: stale(told), shadow: None };
    };
    let explanation = explain_request(accept, request, tokens, &judged.verdict);
    let body = (!judged.body.is_empty()).then(|| Box::new(judged.body));
    let decision = sealed(&judged.verdict, explanation, |permission| RequestPermit {
        method: request.method().into(),
        target: request.target().into(),
        permission,
        body,
    });
    let shadow = judged.shadow.map(|verdict| {
        let explanation = explain_request(accept, request, tokens, &verdict);
        shadow(&verdict, explanation)
    });
    Watched { decision, shadow }
}

/// What becomes of a body: the permit or the denial, and what would be decided if what is only watched did.
pub type BodyDecided = (Result<RequestPermit, Denial>, Option<Shadow>);

/// Decides on the body of a request that is permitted but for that; `shadow` is what would be decided as far as that was known before.
/// It may take a tenth of a second.
pub fn decide_body(permit: RequestPermit, held: Held<'_>, shadow: Option<Shadow>) -> BodyDecided {
    let judge = |checks: &BodyChecks| catch_unwind(AssertUnwindSafe(|| checks.judge(held))).ok();
    let judged = permit.body.as_deref().map(judge);
    body_decided(permit, judged, shadow)
}

/// The same where that takes no time.
///
/// # Errors
///
/// What it was given, where it would take longer.
pub fn decide_body_at_once(
    permit: RequestPermit,
    held: Held<'_>,
    shadow: Option<Shadow>,
) -> Result<BodyDecided, Box<(RequestPermit, Option<Shadow>)>> {
    let judge = |checks: &BodyChecks| {
        catch_unwind(AssertUnwindSafe(|| checks.judge_at_once(held)))
            .map_or(Some(None), |judged| judged.map(Some))
    };
    let judged = match permit.body.as_deref().map(judge) {
        None => None,
        Some(Some(judged)) => Some(judged),
        Some(None) => return Err(Box::new((permit, shadow))),
    };
    Ok(body_decided(permit, judged, shadow))
}

/// Seals what schemas said, if there are any; none of them where they could not be asked.
fn body_decided(
    permit: RequestPermit,
    judged: Option<Option<BodyJudged>>,
    shadow: Option<Shadow>,
) -> BodyDecided {
    let RequestPermit { method, target, permission, .. } = permit;
    let Some(judged) = judged else {
        return (Ok(RequestPermit { method, target, permission, body: None }), shadow);
    };
    let Some(judged) = judged else {
        let told = "the schema could not be asked: a defect of this program, so the answer is no";
        let explanation = Explanation::new(Reason::StaleState, told);
        return (Err(denial(explanation, permission)), shadow);
    };
    let explain = |undeclared: &Undeclared| explain_body(&method, &target, undeclared);
    let would = judged.enforced.as_ref().or(judged.shadow.as_ref());
    let shadow = shadow.map(|before| match would {
        Some(undeclared) if before.allowed => Shadow {
            allowed: false,
            explanation: explain(undeclared),
            permission: permission.clone(),
        },
        Some(_) | None => before,
    });
    let outcome = match judged.enforced {
        Some(undeclared) => Err(denial(explain(&undeclared), permission)),
        None => Ok(RequestPermit { method, target, permission, body: None }),
    };
    (outcome, shadow)
}

/// The denial of a request that could be read in two ways; it is answered with 400.
#[must_use]
pub fn refuse_request(why: Malformed) -> Watched<RequestPermit> {
    let sentence = format!("the request could be read in two ways: {why}");
    let explanation = Explanation::new(Reason::Unreadable, sentence)
        .with_rule(why.as_str())
        .with_next("send it in the one form that all servers read alike");
    Watched { decision: denied(explanation, None), shadow: None }
}

fn unjudged(why: &str) -> Accepted {
    Accepted::Decided(Box::new(Watched { decision: stale(why), shadow: None }))
}

fn stale<P>(why: &str) -> Decision<P> {
    let explanation = Explanation::new(Reason::StaleState, format!("{why}, so the answer is no"))
        .with_next("try again in a moment");
    denied(explanation, None)
}

fn shadow(verdict: &nullius_intention::Verdict, explanation: Explanation) -> Shadow {
    let permission = verdict.by.as_ref().map(|by| by.id().clone());
    Shadow { allowed: verdict.is_allowed(), explanation, permission }
}

fn sealed<P>(
    verdict: &nullius_intention::Verdict,
    explanation: Explanation,
    permit: impl FnOnce(Option<PermissionId>) -> P,
) -> Decision<P> {
    let permission = verdict.by.as_ref().map(|by| by.id().clone());
    if !verdict.is_allowed() {
        return denied(explanation, permission);
    }
    let mut obligations = Vec::new();
    if verdict.is_recorded() {
        obligations.push(Obligation::Record);
    }
    obligations.extend(verdict.ends_at.map(Obligation::Expire));
    let verdict = Verdict::Allow(permit(permission.clone()));
    Decision { verdict, permission, explanation, obligations }
}

fn denied<P>(explanation: Explanation, permission: Option<PermissionId>) -> Decision<P> {
    let denial = denial(explanation.clone(), permission.clone());
    let obligations = vec![Obligation::Record];
    Decision { verdict: Verdict::Deny(denial), permission, explanation, obligations }
}

fn denial(explanation: Explanation, permission: Option<PermissionId>) -> Denial {
    Denial { explanation, permission, step_up: StepUp::DoesNotHelp }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
    use nullius_intention::{Head, Home, Intention, Origin, Protocol, Reads, Version, Workload};
    use nullius_model::SpiffeId;
    use serde_json::json;

    use super::*;

    fn rules() -> RuleSet {
        let object = json!({
            "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention",
            "metadata": { "name": "orders", "namespace": "shop" },
            "spec": {
                "destination": { "serviceAccount": "orders" }, "audit": "all",
                "permissive": { "until": "2026-12-01T00:00:00Z", "ports": [9090] },
                "sources": [
                    { "serviceAccount": "web", "action": "allow" },
                    { "serviceAccount": "app", "permissions": [{ "action": "allow", "methods": ["GET"] }] },
                ],
            },
        });
        let home = Home::of("dev.example".parse().unwrap());
        let workload = Workload {
            namespace: "shop".parse().unwrap(),
            service_account: "orders".to_owned(),
            labels: Default::default(),
        };
        let mut rules = RuleSet::new(workload);
        rules.put(&Intention::read(&object, Origin::Cluster, &home).unwrap());
        rules
    }

    fn connect(rules: Option<&RuleSet>, account: &str, port: u16) -> Accepted {
        let id: SpiffeId = format!("spiffe://dev.example/ns/shop/sa/{account}").parse().unwrap();
        let connection = Connection {
            source: Some(&id),
            address: "10.0.0.7".parse().unwrap(),
            port,
            protocol: Protocol::Http,
        };
        decide_connection(rules, &connection, "2026-11-22T00:00:00Z".parse().unwrap())
    }

    fn decided(accepted: Accepted) -> Watched<ConnectionPermit> {
        match accepted {
            Accepted::Decided(watched) => *watched,
            Accepted::Requests(_) => panic!("requests decide"),
        }
    }

    #[test]
    fn an_allowed_connection_has_a_permit_for_itself_with_its_permission() {
        let Decision { verdict, permission, obligations, .. } =
            decided(connect(Some(&rules()), "web", 8080)).decision;
        assert!(permission.is_some());
        assert_eq!(obligations, [Obligation::Record], "`audit: all` records what is allowed");
        let Verdict::Allow(permit) = verdict else { panic!("denied") };
        assert_eq!(permit.permission(), permission.as_ref());
        assert!(permit.is_for(permit.source(), "10.0.0.7".parse().unwrap(), 8080));
        assert!(!permit.is_for(None, "10.0.0.7".parse().unwrap(), 8080));
        assert!(!permit.is_for(permit.source(), "10.0.0.7".parse().unwrap(), 8081));
    }

    #[test]
    fn what_is_only_let_pass_ends() {
        let decision = decided(connect(Some(&rules()), "other", 9090)).decision;
        let end = "2026-12-01T00:00:00Z".parse().unwrap();
        assert_eq!(decision.explanation.reason, Reason::Permissive);
        assert_eq!(decision.obligations, [Obligation::Expire(end)]);
        assert_eq!(decision.into_result().unwrap().ends_at(), Some(end));
    }

    #[test]
    fn without_rules_the_answer_is_no() {
        let decision = decided(connect(None, "web", 8080)).decision;
        let denial = decision.into_result().unwrap_err();
        assert_eq!((denial.reason(), denial.http_status()), (Reason::StaleState, 503));
        let decision = decided(connect(Some(&rules()), "other", 8080)).decision;
        assert_eq!(decision.into_result().unwrap_err().http_status(), 403);
    }

    #[test]
    fn a_request_is_decided_by_what_was_left_or_refused_with_400() {
        let Accepted::Requests(accept) = connect(Some(&rules()), "app", 8080) else {
            panic!("decided without a request")
        };
        let headers: [(&[u8], &[u8]); 1] = [(b"host", b"orders")];
        let head = |method: &'static [u8]| Head {
            method,
            target: b"/a?b",
            authority: None,
            headers: &headers,
            version: Version::Http1,
        };
        let request = head(b"GET").read(accept.reads()).unwrap();
        let permit = decide_request(&accept, &request, &[]).decision.into_result().unwrap();
        assert!(permit.is_for("GET", b"/a?b") && !permit.is_for("GET", b"/a"));
        let request = head(b"POST").read(Reads::NoPaths).unwrap();
        let denial = decide_request(&accept, &request, &[]).decision.into_result().unwrap_err();
        assert_eq!((denial.reason(), denial.http_status()), (Reason::NoPermission, 403));
        assert_eq!(denial.permission(), permit.permission(), "the nearest is named");
        let denial = refuse_request(Malformed::TwoHosts).decision.into_result().unwrap_err();
        assert_eq!(denial.http_status(), 400);
    }
}
