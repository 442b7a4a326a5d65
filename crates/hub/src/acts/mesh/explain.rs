//! Why calls became what they became, in words that a person can act on.

use nullius_model::{CallKey, Explanation, MeshParty, MeshVerdict, PartyKind, Reason};

/// The explanation of calls.
pub(super) fn explain(key: &CallKey) -> Explanation {
    let (source, destination) = (key.source.label(), key.destination.label());
    let port = match key.port {
        0 => "ports that were not told apart".to_owned(),
        port => format!("port {port}"),
    };
    let call = format!("call `{destination}` at {port}");
    let (rule, sentence, next) = match (key.verdict, key.reason.as_str()) {
        _ if key.is_folded() => (
            "",
            "different calls, for which there was no room apart".to_owned(),
            Some("narrow what one workload calls; the access log of its node tells each".to_owned()),
        ),
        (MeshVerdict::Allowed, "permissive") => (
            key.rule.as_str(),
            format!("no rule decides whether `{source}` may {call}, and until its end the destination lets such calls pass"),
            Some(add(key)),
        ),
        (MeshVerdict::Allowed, "not-in-mesh") => (
            "",
            format!("`{destination}` is not in the mesh: `{source}` reached it in the clear, and nothing was decided"),
            Some("enrol the destination, so that its calls are proven and decided".to_owned()),
        ),
        (MeshVerdict::Allowed, "probe") => {
            ("", format!("the node itself probes `{destination}` at {port}"), None)
        }
        (MeshVerdict::Allowed, "requests") => (
            key.rule.as_str(),
            format!("`{source}` may connect to `{destination}` at {port}, and each request is decided by itself"),
            None,
        ),
        (MeshVerdict::Allowed, _) => (key.rule.as_str(), format!("`{source}` may {call}"), None),
        (MeshVerdict::ShadowDenied, _) => (
            key.shadow.as_ref().map_or("", |shadow| shadow.rule.as_str()),
            format!("`{source}` may {call}, and intentions that are only watched would deny it"),
            Some(format!("before they are enforced: {}", add(key))),
        ),
        (MeshVerdict::Denied, "no-intention") => {
            ("", format!("no intention says that `{source}` may {call}"), Some(add(key)))
        }
        (MeshVerdict::Denied, "unauthenticated" | "must-prove") => (
            key.rule.as_str(),
            format!("`{source}` has proven no identity: it may not {call}"),
            Some("enrol the caller, so that it has an identity".to_owned()),
        ),
        (MeshVerdict::Denied, "intention-refused") => (
            key.rule.as_str(),
            format!("`{source}` may not {call}: an intention denies it"),
            Some("who keeps that intention can change it; a deny of a higher tier or a more exact one is final".to_owned()),
        ),
        (MeshVerdict::Denied, why) => (
            key.rule.as_str(),
            format!("`{source}` may not {call}: `{why}`"),
            Some("the words are in docs/mesh.md; the audit has single denials: `nullius audit list --kind mesh`".to_owned()),
        ),
        (MeshVerdict::Failed, why) => (
            key.rule.as_str(),
            format!("calls of `{source}` to `{destination}` at {port} came to no decision: `{why}`"),
            Some("the access log of the node has `detail` for each".to_owned()),
        ),
    };
    let mut explanation = Explanation::new(reason(key), sentence);
    if !rule.is_empty() {
        explanation = explanation.with_rule(rule);
    }
    match next {
        Some(next) => explanation.with_next(next),
        None => explanation,
    }
}

/// How to allow calls.
fn add(key: &CallKey) -> String {
    let source = match key.source.spiffe_id.as_str() {
        "" => "by `ipBlock`".to_owned(),
        id => format!("`{{spiffeId: {id}, action: allow}}`"),
    };
    match &key.destination {
        MeshParty { kind: PartyKind::Workload, namespace, .. } => {
            format!("name the source {source} in an Intention of namespace `{namespace}`")
        }
        _ => format!("name the source {source} in an Intention for the destination"),
    }
}

/// The named reason of the word that the access log has.
fn reason(key: &CallKey) -> Reason {
    let word = match (&key.shadow, key.verdict) {
        (Some(shadow), MeshVerdict::ShadowDenied) => &shadow.reason,
        _ => &key.reason,
    };
    let fallback = match key.verdict {
        MeshVerdict::Allowed if key.rule.is_empty() => Reason::Permissive,
        MeshVerdict::Allowed => Reason::IntentionMatched,
        MeshVerdict::ShadowDenied | MeshVerdict::Denied => Reason::MeshRefused,
        MeshVerdict::Failed => Reason::StaleState,
    };
    serde_json::from_value(serde_json::Value::String(word.clone())).unwrap_or(fallback)
}
