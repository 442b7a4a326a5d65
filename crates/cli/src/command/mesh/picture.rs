//! The graph as it is drawn: nodes in groups, and one arc for all calls of a kind between two of them.

use std::collections::BTreeMap;

use nullius_api::{MeshEdge, MeshGraph};
use nullius_model::{MeshVerdict, PartyKind};

use super::size;

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) title: String,
    /// What it is, below the title.
    pub(super) subtitle: String,
    /// Index of its group.
    pub(super) group: usize,
    /// Everything that is known of it.
    pub(super) tooltip: String,
}

/// Calls of one verdict from a node to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arc {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) verdict: MeshVerdict,
    /// Ports, verdict and how often.
    pub(super) label: String,
    /// The same with rules and times, a line for each edge.
    pub(super) tooltip: String,
}

/// What is drawn. All order in it is the same for the same graph.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Picture {
    /// Namespaces, and those who are of none.
    pub(super) groups: Vec<String>,
    pub(super) nodes: Vec<Node>,
    pub(super) arcs: Vec<Arc>,
}

impl Picture {
    pub(super) fn of(graph: &MeshGraph) -> Self {
        let mut groups: Vec<String> =
            graph.nodes.iter().map(|node| group_of(&node.namespace, node.kind)).collect();
        groups.sort();
        groups.dedup();
        let mut index = BTreeMap::new();
        let mut nodes = Vec::new();
        for node in &graph.nodes {
            let group = group_of(&node.namespace, node.kind);
            let group = groups.iter().position(|it| *it == group).unwrap_or_default();
            let (title, subtitle) = match node.kind {
                PartyKind::Workload if !node.name.is_empty() => {
                    (node.name.clone(), node.owner_kind.clone())
                }
                PartyKind::Outside => (node.id.clone(), "proved nothing".to_owned()),
                PartyKind::Others => (node.id.clone(), "not kept apart".to_owned()),
                _ => (node.id.clone(), String::new()),
            };
            let tooltip = [std::slice::from_ref(&node.id), &node.spiffe_ids].concat().join("\n");
            index.insert(node.id.as_str(), nodes.len());
            nodes.push(Node { title, subtitle, group, tooltip });
        }
        let mut between: BTreeMap<(usize, usize, MeshVerdict), Vec<&MeshEdge>> = BTreeMap::new();
        for edge in &graph.edges {
            let ends = (index.get(edge.source.as_str()), index.get(edge.destination.as_str()));
            let (Some(from), Some(to)) = ends else { continue };
            between.entry((*from, *to, edge.verdict)).or_default().push(edge);
        }
        let arcs = between.into_iter().map(|((from, to, verdict), edges)| Arc {
            from,
            to,
            verdict,
            label: label(verdict, &edges),
            tooltip: edges.iter().map(|edge| told(edge)).collect::<Vec<_>>().join("\n"),
        });
        Self { groups, arcs: arcs.collect(), nodes }
    }
}

fn group_of(namespace: &str, kind: PartyKind) -> String {
    match (namespace, kind) {
        ("", PartyKind::Others) => "(other)".to_owned(),
        ("", _) => "(outside of the cluster)".to_owned(),
        (namespace, _) => namespace.to_owned(),
    }
}

/// `8080, 9090 denied ×12`.
fn label(verdict: MeshVerdict, edges: &[&MeshEdge]) -> String {
    const PORTS: usize = 3;
    let mut ports: Vec<u16> = edges.iter().map(|edge| edge.port).filter(|port| *port > 0).collect();
    ports.sort_unstable();
    ports.dedup();
    let mut text: Vec<String> = ports.iter().take(PORTS).map(ToString::to_string).collect();
    if ports.len() > PORTS {
        text.push(format!("+{}", ports.len() - PORTS));
    }
    let word = match verdict {
        MeshVerdict::Allowed => "",
        MeshVerdict::ShadowDenied => " shadow-denied",
        MeshVerdict::Denied => " denied",
        MeshVerdict::Failed => " failed",
    };
    let count = edges
        .iter()
        .fold(0_u64, |sum, edge| sum.saturating_add(edge.connections.max(edge.requests)));
    format!("{}{word} ×{}", text.join(","), counted(count))
}

/// A number in at most five characters.
fn counted(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{}k", count / 1_000),
        1_000_000..1_000_000_000 => format!("{}M", count / 1_000_000),
        _ => format!("{}G", count / 1_000_000_000),
    }
}

fn told(edge: &MeshEdge) -> String {
    let bytes = size(edge.bytes_to_destination.saturating_add(edge.bytes_to_source));
    let service = match edge.service.as_str() {
        "" => String::new(),
        service => format!(" by Service {service}"),
    };
    format!(
        "{} → {}:{}{service}, {}: {}, connections {}, requests {}, {bytes}, last {}",
        edge.source,
        edge.destination,
        edge.port,
        edge.verdict,
        edge.explain,
        edge.connections,
        edge.requests,
        edge.last
    )
}
