//! A denial of the mesh as an event of the audit; also a call that an intention with `audit: all` allowed.

use nullius_audit::fact::NAMESPACE;
use nullius_model::{
    AuditEvent, AuditId, AuditKind, AuditOutcome, ClusterName, Explanation, PartyKind, Reason,
    TrustDomain,
};
use nullius_proto::agent_v1::{self as wire, MeshDenial};

use super::{
    super::told_time,
    party::{Ends, address, name, service, text, word},
    principal,
};
use crate::Hub;

/// The event of a denial, under an id of its own, and its ends; none where it cannot be believed.
pub(super) fn event(
    hub: &Hub,
    cluster: &ClusterName,
    denial: &MeshDenial,
    domain: &TrustDomain,
) -> Option<(Ends, AuditEvent)> {
    let ends =
        Ends::read(denial.source.as_ref(), denial.destination.as_ref(), denial.side(), domain)?;
    let outcome = match denial.verdict() {
        wire::MeshVerdict::Allowed => AuditOutcome::Done,
        wire::MeshVerdict::Denied => AuditOutcome::Denied,
        wire::MeshVerdict::Failed => AuditOutcome::Failed,
        wire::MeshVerdict::Unspecified => return None,
    };
    let port = u16::try_from(denial.port).ok()?;
    let mut event = hub.own_event(AuditKind::Mesh, outcome);
    event.cluster = Some(cluster.clone());
    event.source = address(denial.source.as_ref());
    event.principal = principal(hub, cluster, domain, &ends.source, event.source);
    let destination = match (ends.destination.kind, address(denial.destination.as_ref())) {
        (PartyKind::Outside | PartyKind::Unknown, Some(address)) => address.to_string(),
        _ => ends.destination.label(),
    };
    event.target = Some(format!("{destination}:{port}"));
    event.permission = denial.permission.parse().ok();
    event.explanation = Some(explanation(denial, outcome, &ends, port)?);
    let now = hub.now();
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            event.facts.insert(name.to_owned(), value);
        }
    };
    let namespace = match ends.destination.namespace.as_str() {
        "" => &ends.source.namespace,
        namespace => namespace,
    };
    put(NAMESPACE, namespace.to_owned());
    put("seen-by", ends.side.as_str().to_owned());
    put("seen-at", told_time(denial.time_millis, now).to_string());
    for (side, end, told) in [
        ("source", &ends.source, denial.source.as_ref()),
        ("destination", &ends.destination, denial.destination.as_ref()),
    ] {
        put(side, end.label());
        put(&format!("{side}-id"), end.spiffe_id.clone());
        put(&format!("{side}-pod"), name(told.map_or("", |told| &told.pod)).unwrap_or_default());
    }
    put("service", service(&denial.service)?);
    put("port", port.to_string());
    put("wire", word(&denial.wire)?);
    put("protocol", word(&denial.protocol)?);
    put("method", text(&denial.method));
    put("path", text(&denial.path));
    put("reason", word(&denial.reason)?);
    put("detail", text(&denial.detail));
    put("node", name(&denial.node)?);
    // The end of what was allowed names its beginning.
    put("of", denial.of.parse::<AuditId>().map(|id| id.to_string()).unwrap_or_default());
    if denial.count > 1 {
        put("count", denial.count.to_string());
        put("until", told_time(denial.last_millis, now).to_string());
    }
    Some((ends, event))
}

/// The port that was called; 0 where that is none.
pub(super) fn port(denial: &MeshDenial) -> u16 {
    u16::try_from(denial.port).unwrap_or_default()
}

fn explanation(
    denial: &MeshDenial,
    outcome: AuditOutcome,
    ends: &Ends,
    port: u16,
) -> Option<Explanation> {
    let reason = reason(&word(&denial.reason)?, outcome);
    let some = |told: &str| (!told.is_empty()).then(|| text(told));
    let (source, destination) = (ends.source.label(), ends.destination.label());
    let sentence = some(&denial.sentence).unwrap_or_else(|| match outcome {
        AuditOutcome::Begun | AuditOutcome::Done => {
            format!("`{source}` may call `{destination}` at port {port}")
        }
        AuditOutcome::Denied => {
            format!("`{source}` may not call `{destination}` at port {port}")
        }
        AuditOutcome::Failed => {
            format!("a call of `{source}` to `{destination}` at port {port} came to no decision")
        }
    });
    Some(Explanation { reason, rule: some(&denial.rule), sentence, next: some(&denial.next) })
}

/// The reason that a word of the access log is.
fn reason(word: &str, outcome: AuditOutcome) -> Reason {
    let fallback = match outcome {
        AuditOutcome::Begun | AuditOutcome::Done => Reason::IntentionMatched,
        AuditOutcome::Denied => Reason::MeshRefused,
        AuditOutcome::Failed => Reason::StaleState,
    };
    serde_json::from_value(serde_json::Value::String(word.to_owned())).unwrap_or(fallback)
}
