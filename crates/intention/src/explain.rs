//! Verdicts in words: who decided, what did not fit, and what to do next.

use nullius_fields::shown;
use nullius_model::{Explanation, Reason};

use crate::{
    accept::{Accept, By, Verdict},
    api::Undeclared,
    intention::Verb,
    labels::Selection,
    matchers::Token,
    permission::Fit,
    request::Request,
};

/// The most permissions of which it is told why they are not for a request.
const TOLD: usize = 5;
/// What to do where a schema declares no such request.
const UNDECLARED_NEXT: &str =
    "send what the schema declares, or declare it there (`spec.api.schema`)";

/// Explains the verdict on a connection.
pub fn explain_connection(accept: &Accept, verdict: &Verdict) -> Explanation {
    explain(accept, verdict, &format!("call {}", called(accept)), None)
}

/// Explains the verdict on a request of a connection.
pub fn explain_request(
    accept: &Accept,
    request: &Request<'_>,
    tokens: &[Token],
    verdict: &Verdict,
) -> Explanation {
    let what = format!("send {} {} to {}", request.method, shown(&request.path), called(accept));
    explain(accept, verdict, &what, Some((request, tokens)))
}

/// Explains why the body of a request is none that a schema declares.
pub fn explain_body(method: &str, target: &[u8], undeclared: &Undeclared) -> Explanation {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let path = shown(&String::from_utf8_lossy(path));
    let sentence = format!("{method} {path} may not be sent: {}", undeclared.told);
    Explanation::new(undeclared.reason, sentence)
        .with_rule(undeclared.rule.clone())
        .with_next(UNDECLARED_NEXT)
}

fn explain(
    accept: &Accept,
    verdict: &Verdict,
    what: &str,
    request: Option<(&Request<'_>, &[Token])>,
) -> Explanation {
    let who = caller(accept);
    let (sentence, next) = match verdict.reason {
        Reason::IntentionMatched => (format!("{who} may {what}"), None),
        Reason::Permissive => (
            format!("no rule decides whether {who} may {what}, and until its end the destination lets such calls pass"),
            Some(add(accept)),
        ),
        Reason::IntentionRefused => (
            format!("{who} may not {what}: an intention denies it"),
            Some("who keeps that intention can change it; a deny of a higher tier or a more exact one is final".to_owned()),
        ),
        Reason::NoIntention => {
            (format!("no intention says that {who} may {what}"), Some(nearly(verdict, accept)))
        }
        Reason::Unauthenticated => (
            format!("{who} has proven no identity, and no intention is for its address: it may not {what}"),
            Some("enrol the caller, so that it has an identity, or name its address by `ipBlock` in an Intention".to_owned()),
        ),
        Reason::NotHttp => (
            format!("{who} may not {what}: permissions on requests are for it, and the port speaks no HTTP that could be read"),
            Some("say `appProtocol: http` for the port, or decide the source by `action` alone".to_owned()),
        ),
        Reason::NoPermission => {
            let told = request.map(|(request, tokens)| misses(accept, request, tokens));
            (
                format!("no permission is for it: {who} may not {what}{}", told.unwrap_or_default()),
                Some("add a permission to that source, or send a request that one is for".to_owned()),
            )
        }
        Reason::UnknownReference if is_in_doubt(accept, verdict) => (
            format!("{who} may not {what}: the pod has more labels than are told of it, and nobody can tell whether the rule is for it"),
            Some("take labels off the pod: at most 64, and 8 KiB of them".to_owned()),
        ),
        Reason::UnknownReference => (
            format!("{who} may not {what}: the rule for it names a trust domain or an issuer that this cluster does not know"),
            Some("federate with the trust domain or name the issuer, or take it out of the intention".to_owned()),
        ),
        Reason::ConditionFailed => {
            let told = verdict.failure.as_deref().unwrap_or("it has no value");
            (
                format!("{who} may not {what}: a condition could not be evaluated: {told}"),
                Some("mend `when`: ask for a field by `has(…)` before its value".to_owned()),
            )
        }
        _ => match &verdict.undeclared {
            Some(undeclared) => (
                format!("{who} may not {what}: {}", undeclared.told),
                Some(UNDECLARED_NEXT.to_owned()),
            ),
            None => (format!("{who} may not {what}"), None),
        },
    };
    let mut explanation = Explanation::new(verdict.reason, sentence);
    if let Some(undeclared) = &verdict.undeclared {
        explanation = explanation.with_rule(undeclared.rule.clone());
    } else if decides(verdict.reason)
        && let Some(by) = &verdict.by
    {
        explanation = explanation.with_rule(by.label());
    }
    match next {
        Some(next) => explanation.with_next(next),
        None => explanation,
    }
}

/// Whether it is not known if what decided is for the destination.
fn is_in_doubt(accept: &Accept, verdict: &Verdict) -> bool {
    let destination = &accept.facts.destination;
    verdict
        .by
        .as_ref()
        .is_some_and(|by| by.rule.origins.destination.selection(destination) == Selection::Perhaps)
}

/// Whether what a verdict names decided, and was not only near.
fn decides(reason: Reason) -> bool {
    !matches!(reason, Reason::NoIntention | Reason::Unauthenticated)
}

impl By {
    /// `Intention shop/orders sources[0] permissions[1]` with tier and source.
    pub fn label(&self) -> String {
        let rule = &self.rule;
        let permission = match self.permission {
            Some(index) => format!(" permissions[{index}]"),
            None => String::new(),
        };
        format!(
            "Intention {} sources[{}]{permission}, {} tier, for {}",
            rule.intention(),
            rule.index(),
            rule.tier(),
            rule.subject()
        )
    }
}

fn called(accept: &Accept) -> String {
    format!("`{}` at port {}", accept.facts.destination, accept.facts.port)
}

fn caller(accept: &Accept) -> String {
    match &accept.facts.source {
        Some(id) => format!("`{id}`"),
        None => format!("`{}`", accept.facts.address),
    }
}

fn add(accept: &Accept) -> String {
    let workload = &accept.facts.destination;
    let source = match &accept.facts.source {
        Some(id) => format!("{{spiffeId: {id}, action: allow}}"),
        None => format!("{{ipBlock: {}/…, action: allow}}", accept.facts.address),
    };
    format!(
        "to allow it, name the source {source} in an Intention of namespace `{}` with the destination `serviceAccount: {}`",
        workload.namespace, workload.service_account
    )
}

/// What to do where a rule is for the caller, but for other ports or only watched.
fn nearly(verdict: &Verdict, accept: &Accept) -> String {
    let Some(by) = &verdict.by else { return add(accept) };
    let origins = &by.rule.origins;
    let ports = &origins.destination.ports;
    let why = match origins.covers(accept.facts.port) {
        true => "is only watched: take `mode: shadow` out".to_owned(),
        false => {
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            format!("is for port {} alone: add {}", ports.join(", "), accept.facts.port)
        }
    };
    format!("{} {why}; or {}", by.label(), add(accept))
}

/// Why each permission that was left is not for the request.
fn misses(accept: &Accept, request: &Request<'_>, tokens: &[Token]) -> String {
    let mut told = Vec::new();
    let mut more = 0;
    for rule in accept.residual() {
        let Verb::Permissions(permissions) = &rule.verb else { continue };
        for (index, permission) in permissions.iter().enumerate() {
            let Fit::Misses(miss) = permission.fit(&accept.facts, request, tokens) else {
                continue;
            };
            if told.len() == TOLD {
                more += 1;
                continue;
            }
            let words = permission.miss_words(miss, request);
            told.push(format!(
                "{}.sources[{}].permissions[{index}]: {words}",
                rule.intention(),
                rule.index()
            ));
        }
    }
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    if told.is_empty() { String::new() } else { format!(" ({})", told.join("; ")) }
}
