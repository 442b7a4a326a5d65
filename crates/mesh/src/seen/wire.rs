//! What is seen, as it is told to `agent identity`.

use nullius_proto::node_v1::{SeenAttempt, SeenFlow, SeenKind, SeenShadow, SeenSide, SeenVerdict};

use super::{
    id,
    tally::{Flow, Kind, Said, Word},
};
use crate::access_log::{Direction, Outcome};

pub(super) fn flow(workload: &str, process: u64, flow: Flow) -> SeenFlow {
    let rule = flow.rule.as_deref().unwrap_or_default();
    let shadow_rule = flow.shadow_rule.as_deref().unwrap_or_default();
    SeenFlow {
        pod: workload.to_owned(),
        kind: Some(kind(&flow.kind, rule, shadow_rule)),
        connections: flow.counts.connections,
        requests: flow.counts.requests,
        bytes_to_destination: flow.counts.to_destination,
        bytes_to_source: flow.counts.to_source,
        first_millis: flow.first_millis,
        last_millis: flow.last_millis,
        sample: id(process, flow.sample),
    }
}

pub(super) fn attempt(workload: &str, process: u64, word: Word) -> SeenAttempt {
    let Said { path, rule, sentence, next, detail } = word.first.said;
    let kind = SeenKind {
        path,
        port: word.first.port.into(),
        peer_address: word.first.address.map(|it| it.to_string()).unwrap_or_default(),
        ..kind(&word.kind, &rule, "")
    };
    SeenAttempt {
        pod: workload.to_owned(),
        kind: Some(kind),
        id: id(process, word.first.number),
        of: word.first.of.map(|number| id(process, number)).unwrap_or_default(),
        time_millis: word.first.millis,
        last_millis: word.last_millis,
        count: word.count,
        sentence,
        next,
        detail,
    }
}

fn kind(kind: &Kind, rule: &str, shadow_rule: &str) -> SeenKind {
    let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().to_owned();
    let shadow = kind.shadow.as_ref().map(|(allowed, reason, permission)| SeenShadow {
        verdict: match allowed {
            true => SeenVerdict::Allowed.into(),
            false => SeenVerdict::Denied.into(),
        },
        reason: reason.as_str().to_owned(),
        rule: shadow_rule.to_owned(),
        permission: text(permission),
    });
    SeenKind {
        side: match kind.direction {
            Direction::Inbound => SeenSide::Destination.into(),
            Direction::Outbound => SeenSide::Source.into(),
        },
        peer_id: text(&kind.peer),
        peer_address: kind.address.map(|it| it.to_string()).unwrap_or_default(),
        is_folded: kind.is_folded,
        service: text(&kind.service),
        port: kind.port.into(),
        wire: kind.wire.unwrap_or_default().to_owned(),
        protocol: kind.why.protocol(kind.method.is_some()).to_owned(),
        verdict: match kind.outcome {
            Outcome::Allowed => SeenVerdict::Allowed.into(),
            Outcome::Denied => SeenVerdict::Denied.into(),
            Outcome::Failed => SeenVerdict::Failed.into(),
        },
        reason: kind.why.as_str().to_owned(),
        rule: rule.to_owned(),
        permission: text(&kind.permission),
        shadow,
        method: kind.method.unwrap_or_default().to_owned(),
        path: text(&kind.path),
    }
}
