//! What a node told, in the words of this agent: whose pods they are, and texts as they may be told further.

use std::net::IpAddr;

use nullius_model::{Namespace, PermissionId, SpiffeId, TrustDomain};
use nullius_proto::{
    agent_v1::{MeshDenial, MeshFlow, MeshParty, MeshPartyKind, MeshShadow, MeshSide, MeshVerdict},
    node_v1::{SeenAttempt, SeenFlow, SeenKind, SeenSide, SeenVerdict},
};

use super::pods::{Pod, Pods, There, When};

/// Letters of a text, of a path, and of a word.
const TEXT: usize = 500;
const PATH: usize = 400;
const WORD: usize = 40;
/// Letters of a Service's namespace and name.
const SERVICE: usize = 317;

pub(super) fn flow(domain: &TrustDomain, pods: &Pods, pod: &Pod, told: SeenFlow) -> MeshFlow {
    let kind = told.kind.unwrap_or_default();
    let when = When { first: told.first_millis, last: told.last_millis };
    let (source, destination) = parties(domain, pods, pod, &kind, when, Detail::Owner);
    MeshFlow {
        side: side(&kind).into(),
        source: Some(source),
        destination: Some(destination),
        service: service(&kind.service),
        port: port(kind.port),
        wire: word(&kind.wire),
        protocol: word(&kind.protocol),
        verdict: verdict(kind.verdict()).into(),
        reason: word(&kind.reason),
        rule: text(&kind.rule, TEXT),
        permission: permission(&kind.permission),
        shadow: kind.shadow.as_ref().map(|shadow| MeshShadow {
            verdict: verdict(shadow.verdict()).into(),
            reason: word(&shadow.reason),
            rule: text(&shadow.rule, TEXT),
            permission: permission(&shadow.permission),
        }),
        method: method(&kind.method),
        path: text(&kind.path, PATH),
        connections: told.connections,
        requests: told.requests,
        bytes_to_destination: told.bytes_to_destination,
        bytes_to_source: told.bytes_to_source,
        first_millis: told.first_millis,
        last_millis: told.last_millis,
        sample: id(&told.sample),
    }
}

pub(super) fn denial(
    domain: &TrustDomain,
    pods: &Pods,
    pod: &Pod,
    node: &str,
    told: SeenAttempt,
) -> MeshDenial {
    let kind = told.kind.unwrap_or_default();
    let when = When { first: told.time_millis, last: told.last_millis.max(told.time_millis) };
    let (source, destination) = parties(domain, pods, pod, &kind, when, Detail::Pod);
    MeshDenial {
        id: id(&told.id),
        time_millis: told.time_millis,
        side: side(&kind).into(),
        source: Some(source),
        destination: Some(destination),
        service: service(&kind.service),
        port: port(kind.port),
        wire: word(&kind.wire),
        protocol: word(&kind.protocol),
        method: method(&kind.method),
        path: text(&kind.path, PATH),
        verdict: verdict(kind.verdict()).into(),
        reason: word(&kind.reason),
        rule: text(&kind.rule, TEXT),
        permission: permission(&kind.permission),
        sentence: text(&told.sentence, TEXT),
        next: text(&told.next, TEXT),
        detail: text(&told.detail, TEXT),
        node: node.to_owned(),
        count: told.count.max(1),
        last_millis: told.last_millis,
        of: id(&told.of),
    }
}

/// How much of a party is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Owner,
    Pod,
}

/// Who called, and who was called.
fn parties(
    domain: &TrustDomain,
    pods: &Pods,
    pod: &Pod,
    kind: &SeenKind,
    when: When,
    detail: Detail,
) -> (MeshParty, MeshParty) {
    let own = party(pod, id_of(domain, pod).map(String::from).unwrap_or_default(), "", detail);
    let peer = peer(domain, pods, kind, when, detail);
    match side(kind) {
        MeshSide::Source => (own, peer),
        MeshSide::Destination | MeshSide::Unspecified => (peer, own),
    }
}

/// The other side: what it has proven counts before where it was.
fn peer(
    domain: &TrustDomain,
    pods: &Pods,
    kind: &SeenKind,
    when: When,
    detail: Detail,
) -> MeshParty {
    let of_kind = |kind: MeshPartyKind| MeshParty { kind: kind.into(), ..MeshParty::default() };
    if kind.is_folded && kind.peer_id.is_empty() && kind.peer_address.is_empty() {
        return of_kind(MeshPartyKind::Others);
    }
    let proven: Option<SpiffeId> = kind.peer_id.parse().ok();
    let address: Option<IpAddr> = kind.peer_address.parse().ok();
    let address = address.map(|it| it.to_canonical());
    let shown = address.map(|it| it.to_string()).unwrap_or_default();
    let addressed = |kind: MeshPartyKind, spiffe_id: String| MeshParty {
        spiffe_id,
        address: if detail == Detail::Pod { shown.clone() } else { String::new() },
        ..of_kind(kind)
    };
    match (proven, address) {
        (Some(id), address) => {
            let is_it = |pod: &Pod| id_of(domain, pod).as_ref() == Some(&id);
            match address.and_then(|address| pods.proven(address, when, is_it)) {
                Some(pod) => party(pod, id.into(), &shown, detail),
                // Whoever has the address is not who has proven this.
                None => addressed(MeshPartyKind::Elsewhere, id.into()),
            }
        }
        (None, Some(address)) => match pods.at(address, when) {
            There::Pod(pod) => party(pod, String::new(), &shown, detail),
            There::Nobody => addressed(MeshPartyKind::Outside, String::new()),
            There::Unclear => addressed(MeshPartyKind::Unspecified, String::new()),
        },
        (None, None) => of_kind(MeshPartyKind::Unspecified),
    }
}

fn party(pod: &Pod, spiffe_id: String, address: &str, detail: Detail) -> MeshParty {
    let is_detailed = detail == Detail::Pod;
    let (owner_kind, owner_name) = &pod.owner;
    MeshParty {
        kind: MeshPartyKind::Pod.into(),
        spiffe_id,
        namespace: pod.namespace.to_string(),
        owner_kind: owner_kind.to_string(),
        owner_name: owner_name.to_string(),
        pod: if is_detailed { pod.name.to_string() } else { String::new() },
        address: if is_detailed { address.to_owned() } else { String::new() },
    }
}

fn id_of(domain: &TrustDomain, pod: &Pod) -> Option<SpiffeId> {
    let namespace: Namespace = pod.namespace.parse().ok()?;
    let has_account = !pod.account.is_empty();
    has_account.then(|| SpiffeId::of_service_account(domain, &namespace, &pod.account))
}

fn side(kind: &SeenKind) -> MeshSide {
    match kind.side() {
        SeenSide::Source => MeshSide::Source,
        SeenSide::Destination => MeshSide::Destination,
        SeenSide::Unspecified => MeshSide::Unspecified,
    }
}

fn verdict(verdict: SeenVerdict) -> MeshVerdict {
    match verdict {
        SeenVerdict::Allowed => MeshVerdict::Allowed,
        SeenVerdict::Denied => MeshVerdict::Denied,
        SeenVerdict::Failed => MeshVerdict::Failed,
        SeenVerdict::Unspecified => MeshVerdict::Unspecified,
    }
}

fn port(port: u32) -> u32 {
    if port > u32::from(u16::MAX) { 0 } else { port }
}

/// One of few words; anything else is none.
fn word(told: &str) -> String {
    let is_word = told.len() <= WORD
        && told
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if is_word { told.to_owned() } else { "other".to_owned() }
}

fn method(told: &str) -> String {
    const KNOWN: [&str; 10] =
        ["", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE"];
    if KNOWN.contains(&told) { told.to_owned() } else { "(other)".to_owned() }
}

fn permission(told: &str) -> String {
    told.parse::<PermissionId>().map(|id| id.to_string()).unwrap_or_default()
}

fn id(told: &str) -> String {
    let is_id = told.len() == 32 && told.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { told.to_owned() } else { String::new() }
}

fn service(told: &str) -> String {
    let is_name =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let is_service = told.split_once('/').is_some_and(|(namespace, name)| {
        let bytes = namespace.bytes().chain(name.bytes());
        !namespace.is_empty() && !name.is_empty() && bytes.into_iter().all(is_name)
    });
    if is_service && told.len() <= SERVICE { told.to_owned() } else { String::new() }
}

/// Printable ASCII, cut.
fn text(told: &str, most: usize) -> String {
    let is_plain = |c: &char| *c == ' ' || c.is_ascii_graphic();
    told.chars().take(most).map(|c| if is_plain(&c) { c } else { '?' }).collect()
}
