//! Calls as nodes and edges. A call that both ends saw is shown once, as its destination saw it: there it was decided.

use std::collections::{BTreeMap, BTreeSet};

use nullius_api::{MeshEdge, MeshNode};
use nullius_model::{Calls, MeshParty, MeshSide, MeshVerdict};

use super::explain::explain;

/// What both ends see of the same calls.
type Pair = (String, String, u16, MeshVerdict);

/// Nodes and at most so many edges, what was refused first.
pub(super) fn draw(calls: Vec<Calls>, most: usize) -> (Vec<MeshNode>, Vec<MeshEdge>) {
    let mut pairs: BTreeMap<Pair, Vec<Calls>> = BTreeMap::new();
    for it in calls {
        let key = &it.key;
        let pair = (key.source.label(), key.destination.label(), key.port, key.verdict);
        pairs.entry(pair).or_default().push(it);
    }
    let mut kept: Vec<Calls> = pairs.into_values().flat_map(seen_once).collect();
    kept.sort_by_cached_key(|it| {
        let key = &it.key;
        (rank(key.verdict), key.source.label(), key.destination.label(), key.clone())
    });
    kept.truncate(most);
    let mut nodes: BTreeMap<String, MeshNode> = BTreeMap::new();
    for party in kept.iter().flat_map(|it| [&it.key.source, &it.key.destination]) {
        let node = nodes.entry(party.label()).or_insert_with(|| node(party));
        if !party.spiffe_id.is_empty() && !node.spiffe_ids.contains(&party.spiffe_id) {
            node.spiffe_ids.push(party.spiffe_id.clone());
            node.spiffe_ids.sort();
        }
    }
    (nodes.into_values().collect(), kept.into_iter().map(edge).collect())
}

/// What the destinations saw, where they saw it; else what the sources did.
fn seen_once(calls: Vec<Calls>) -> Vec<Calls> {
    let (mut decided, told): (Vec<_>, Vec<_>) =
        calls.into_iter().partition(|it| it.key.side == MeshSide::Destination);
    if decided.is_empty() {
        return told;
    }
    // Only who called knows by which Service.
    let services: BTreeSet<_> =
        told.iter().map(|it| &it.key.service).filter(|name| !name.is_empty()).collect();
    if let (Some(service), 1) = (services.first(), services.len()) {
        for it in decided.iter_mut().filter(|it| it.key.service.is_empty()) {
            it.key.service.clone_from(service);
        }
    }
    decided
}

fn rank(verdict: MeshVerdict) -> u8 {
    match verdict {
        MeshVerdict::Denied => 0,
        MeshVerdict::ShadowDenied => 1,
        MeshVerdict::Failed => 2,
        MeshVerdict::Allowed => 3,
    }
}

fn node(party: &MeshParty) -> MeshNode {
    MeshNode {
        id: party.label(),
        kind: party.kind,
        namespace: party.namespace.clone(),
        owner_kind: party.owner_kind.clone(),
        name: party.owner_name.clone(),
        spiffe_ids: Vec::new(),
    }
}

fn edge(calls: Calls) -> MeshEdge {
    let explain = explain(&calls.key);
    let key = calls.key;
    MeshEdge {
        source: key.source.label(),
        destination: key.destination.label(),
        source_id: key.source.spiffe_id,
        destination_id: key.destination.spiffe_id,
        seen_by: key.side,
        service: key.service,
        port: key.port,
        protocol: key.protocol,
        wire: key.wire,
        verdict: key.verdict,
        reason: key.reason,
        rule: key.rule,
        permission: key.permission,
        shadow: key.shadow,
        explain,
        connections: calls.connections,
        requests: calls.requests,
        bytes_to_destination: calls.bytes_to_destination,
        bytes_to_source: calls.bytes_to_source,
        first: calls.first,
        last: calls.last,
        sample: calls.sample,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use nullius_model::{CallKey, PartyKind, Timestamp};

    use super::*;

    fn party(name: &str) -> MeshParty {
        MeshParty {
            kind: PartyKind::Workload,
            namespace: "shop".into(),
            owner_kind: "Deployment".into(),
            owner_name: name.into(),
            spiffe_id: format!("spiffe://dev/ns/shop/sa/{name}"),
        }
    }

    fn calls(side: MeshSide, verdict: MeshVerdict, service: &str, count: u64) -> Calls {
        Calls {
            key: CallKey {
                source: party("front"),
                destination: party("orders"),
                side,
                service: service.into(),
                port: 8080,
                protocol: String::new(),
                wire: "hbone".into(),
                verdict,
                reason: "no-intention".into(),
                rule: String::new(),
                permission: None,
                shadow: None,
            },
            connections: count,
            requests: 0,
            bytes_to_destination: 0,
            bytes_to_source: 0,
            first: Timestamp::UNIX_EPOCH,
            last: Timestamp::UNIX_EPOCH,
            sample: String::new(),
        }
    }

    #[test]
    fn what_both_ends_saw_is_shown_once() {
        use MeshSide::{Destination, Source};
        use MeshVerdict::{Allowed, Denied, Failed};
        let mut outward = calls(Source, Allowed, "", 7);
        outward.key.destination = MeshParty { kind: PartyKind::Outside, ..MeshParty::default() };
        let told = vec![
            calls(Source, Allowed, "shop/orders", 5),
            calls(Destination, Allowed, "", 4),
            calls(Source, Denied, "shop/orders", 3),
            calls(Destination, Denied, "", 2),
            calls(Source, Failed, "shop/orders", 1),
            outward,
        ];
        let (nodes, edges) = draw(told.clone(), 100);
        let seen: Vec<_> =
            edges.iter().map(|it| (it.verdict, it.connections, it.service.as_str())).collect();
        let expected = [
            (Denied, 2, "shop/orders"),
            (Failed, 1, "shop/orders"),
            (Allowed, 7, ""),
            (Allowed, 4, "shop/orders"),
        ];
        assert_eq!(seen, expected);
        let ids: Vec<_> = nodes.iter().map(|node| node.id.as_str()).collect();
        assert_eq!(ids, ["(outside)", "Deployment/shop/front", "Deployment/shop/orders"]);
        assert_eq!(nodes[1].spiffe_ids, ["spiffe://dev/ns/shop/sa/front"]);
        let (nodes, edges) = draw(told, 1);
        assert_eq!((nodes.len(), edges.len(), edges[0].verdict), (2, 1, Denied));
    }
}
