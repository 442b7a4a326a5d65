//! Calls as nodes and edges. A call that both ends saw is shown once, as its destination saw it: there it was decided.

use std::collections::{BTreeMap, BTreeSet};

use nullius_api::{MeshEdge, MeshNode};
use nullius_model::{Calls, MeshParty, MeshSide, MeshVerdict};

use super::explain::explain;

/// The wire on which a proxy of ours is at each end.
const OUR_WIRE: &str = "hbone";

/// What both ends see of the same calls: who called whom at which port, and whether it was let in.
type Pair = (String, String, u16, bool);

/// Nodes and at most so many edges, what was refused first.
pub(super) fn draw(calls: Vec<Calls>, most: usize) -> (Vec<MeshNode>, Vec<MeshEdge>) {
    let mut pairs: BTreeMap<Pair, Vec<Calls>> = BTreeMap::new();
    let mut kept = Vec::new();
    for it in calls {
        match pair(&it) {
            Some(pair) => pairs.entry(pair).or_default().push(it),
            None => kept.push(it),
        }
    }
    kept.extend(pairs.into_values().flat_map(seen_once));
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

/// What the other end sees as well; none where that does not, as what goes out in the clear, or never comes to a decision.
fn pair(calls: &Calls) -> Option<Pair> {
    let key = &calls.key;
    let was_let_in = match (key.verdict, key.side) {
        (MeshVerdict::Allowed | MeshVerdict::ShadowDenied, _) => true,
        (MeshVerdict::Denied, MeshSide::Destination) => false,
        (MeshVerdict::Denied, MeshSide::Source) if key.reason == "refused-by-destination" => false,
        (MeshVerdict::Denied, MeshSide::Source) | (MeshVerdict::Failed, _) => return None,
    };
    let is_pair = key.wire == OUR_WIRE && !key.is_folded();
    is_pair.then(|| (key.source.label(), key.destination.label(), key.port, was_let_in))
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
        let mut refused = calls(Source, Denied, "shop/orders", 3);
        refused.key.reason = "refused-by-destination".into();
        let told = vec![
            calls(Source, Allowed, "shop/orders", 5),
            calls(Destination, Allowed, "", 4),
            refused,
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

    #[test]
    fn what_one_end_alone_sees_stays_beside_what_both_do() {
        use MeshSide::{Destination, Source};
        use MeshVerdict::{Allowed, Denied, ShadowDenied};
        let with = |mut told: Calls, wire: &str, reason: &str| {
            (told.key.wire, told.key.reason) = (wire.into(), reason.into());
            told
        };
        // Half of the destination's pods are in the mesh.
        let told = vec![
            with(calls(Source, Allowed, "", 1), "hbone", "intention-matched"),
            with(calls(Destination, Allowed, "", 1), "hbone", "intention-matched"),
            with(calls(Source, Allowed, "", 1_000), "plain", "not-in-mesh"),
            with(calls(Source, Denied, "", 20), "hbone", "unclear"),
            with(calls(Destination, Denied, "", 30), "hbone", "no-intention"),
            with(calls(Destination, Denied, "", 40), "plain", "must-prove"),
        ];
        let counts = |told: Vec<Calls>| -> Vec<_> {
            let (_, edges) = draw(told, 100);
            edges.iter().map(|it| (it.verdict, it.connections)).collect()
        };
        let mut seen = counts(told);
        seen.sort();
        let expected = [(Allowed, 1), (Allowed, 1_000), (Denied, 20), (Denied, 30), (Denied, 40)];
        assert_eq!(seen, expected);
        // A source does not know what intentions that are only watched would say.
        let told = vec![calls(Source, Allowed, "", 5), calls(Destination, ShadowDenied, "", 5)];
        assert_eq!(counts(told), [(ShadowDenied, 5)]);
        // Who calls in the clear at a port where others are proven hides no tunnel of whose end nothing is told.
        let told = vec![
            with(calls(Source, Allowed, "", 7), "hbone", "intention-matched"),
            with(calls(Destination, Allowed, "", 2), "plain", "permissive"),
        ];
        assert_eq!(counts(told).len(), 2);
    }
}
