//! A flow as calls of the service graph, and as a use.

use nullius_model::{
    CallKey, Calls, ClusterName, MeshShadow, MeshVerdict, Plane, Timestamp, TrustDomain, Use,
    UseKey,
};
use nullius_proto::agent_v1::{self as wire, MeshFlow};

use super::{
    super::{cut, told_time},
    REFUSED,
    party::{Ends, service, text, word},
    principal,
};
use crate::{Hub, record::new_audit_id};

/// Characters of a path, and of a method.
const PATH: usize = 200;
const METHOD: usize = 20;
/// What no cluster does in one interval is no count, and no number of bytes.
const COUNT: u64 = 1 << 40;
const BYTES: u64 = 1 << 50;

/// The calls that a flow tells; none where it cannot be believed.
pub(super) fn read(flow: &MeshFlow, domain: &TrustDomain, now: Timestamp) -> Option<Calls> {
    let side = flow.side();
    let ends = Ends::read(flow.source.as_ref(), flow.destination.as_ref(), side, domain)?;
    let shadow = match &flow.shadow {
        Some(shadow) if shadow.verdict() == wire::MeshVerdict::Denied => Some(MeshShadow {
            reason: word(&shadow.reason)?,
            rule: text(&shadow.rule),
            permission: shadow.permission.parse().ok(),
        }),
        _ => None,
    };
    let verdict = match flow.verdict() {
        wire::MeshVerdict::Allowed if shadow.is_some() => MeshVerdict::ShadowDenied,
        wire::MeshVerdict::Allowed => MeshVerdict::Allowed,
        wire::MeshVerdict::Denied => MeshVerdict::Denied,
        wire::MeshVerdict::Failed => MeshVerdict::Failed,
        wire::MeshVerdict::Unspecified => return None,
    };
    let last = told_time(flow.last_millis, now);
    let sample = flow.sample.parse::<nullius_model::AuditId>();
    Some(Calls {
        key: CallKey {
            source: ends.source,
            destination: ends.destination,
            side: ends.side,
            service: service(&flow.service)?,
            port: u16::try_from(flow.port).ok()?,
            protocol: word(&flow.protocol)?,
            wire: word(&flow.wire)?,
            verdict,
            reason: word(&flow.reason)?,
            rule: text(&flow.rule),
            permission: flow.permission.parse().ok(),
            shadow,
        },
        connections: flow.connections.min(COUNT),
        requests: flow.requests.min(COUNT),
        bytes_to_destination: flow.bytes_to_destination.min(BYTES),
        bytes_to_source: flow.bytes_to_source.min(BYTES),
        first: told_time(flow.first_millis, now).min(last),
        last,
        sample: sample.map(|id| id.to_string()).unwrap_or_default(),
    })
}

/// The use that a flow is, of who is proven to have called: the name of an owner is what a pod says. None where nothing was decided, or where the destination's own proxy tells of the same decision.
pub(super) fn used(
    hub: &Hub,
    cluster: &ClusterName,
    calls: &Calls,
    flow: &MeshFlow,
    domain: &TrustDomain,
) -> Option<Use> {
    let key = &calls.key;
    let allowed = match key.verdict {
        MeshVerdict::Allowed | MeshVerdict::ShadowDenied => true,
        MeshVerdict::Denied => false,
        MeshVerdict::Failed => return None,
    };
    let ends =
        Ends { source: key.source.clone(), destination: key.destination.clone(), side: key.side };
    let of_destination = allowed || key.reason == REFUSED;
    if of_destination && ends.is_seen_by_destination(&key.wire, domain) {
        return None;
    }
    let (action, path, count) = match flow.method.as_str() {
        // A connection whose requests decide is none of them.
        "" if key.reason == "requests" => return None,
        "" => ("connect".to_owned(), String::new(), calls.connections),
        method => (text(&cut(method, METHOD)), text(&cut(&flow.path, PATH)), calls.requests),
    };
    if count == 0 {
        return None;
    }
    Some(Use {
        key: UseKey {
            plane: Plane::Mesh,
            principal: principal(hub, cluster, domain, &key.source, None).label(),
            cluster: cluster.to_string(),
            action,
            resource: format!("{}:{}{path}", key.destination.label(), key.port),
            allowed,
            permission: key.permission.clone(),
        },
        first: calls.first,
        last: calls.last,
        count,
        sample: calls.sample.parse().unwrap_or_else(|_| new_audit_id()),
    })
}
