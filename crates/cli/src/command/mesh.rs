//! `mesh graph|status`.

mod dot;
mod layout;
mod picture;
mod svg;

use nullius_api::{MeshEdge, MeshGraph, MeshGraphQuery, MeshTelling, route};
use nullius_model::{ClusterName, Kind, MeshVerdict, Timestamp};

use crate::{
    args::{MeshCommand, MeshGraphArgs, OfCluster},
    client::{Call, Hub, fill},
    failure::{Exit, Failure},
    object::remote,
    output::{
        Format, Listing, Printed, Single, Table, escape, json_text, json_value, properties,
        relative, yaml_text,
    },
    stage::Stage,
};

/// Runs a command on the mesh.
pub(crate) async fn run(stage: &mut Stage, command: MeshCommand) -> Result<Exit, Failure> {
    match command {
        MeshCommand::Graph(args) => graph(stage, args).await,
        MeshCommand::Status(args) => status(stage, args.of).await,
    }
}

async fn graph(stage: &mut Stage, args: MeshGraphArgs) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let now = stage.now();
    let since = args.since.from(now);
    let narrowed = args.namespace.is_some() || args.verdict.is_some();
    let graph = fetch(&hub, args, now).await?;
    match stage.global.output {
        Format::Dot => stage.print(&Printed { out: dot::write(&graph), err: beside(&graph) }),
        Format::Svg => {
            let title = format!("Calls in cluster {} since {}", graph.cluster, short(since));
            stage.print(&Printed { out: svg::write(&graph, &title), err: beside(&graph) })
        }
        Format::Json | Format::Kubernetes => {
            let out = json_text(&Document::of(&graph))?;
            stage.print(&Printed { out, err: String::new() })
        }
        Format::Yaml => {
            let out = yaml_text(&Document::of(&graph))?;
            stage.print(&Printed { out, err: String::new() })
        }
        _ => list(stage, &graph, narrowed, now),
    }
}

async fn fetch(hub: &Hub, args: MeshGraphArgs, now: Timestamp) -> Result<MeshGraph, Failure> {
    let cluster = match args.of.cluster {
        Some(cluster) => cluster,
        None => only_cluster(hub).await?,
    };
    let query = MeshGraphQuery {
        since: Some(args.since.from(now)),
        namespace: args.namespace,
        verdict: args.verdict,
    };
    let what = format!("cannot show the mesh of `{cluster}`");
    let call = Call::get(what, fill(route::MESH_GRAPH, &[cluster.as_str()])).query(&query)?;
    hub.read(&call).await
}

/// The cluster that is meant where none is named.
pub(crate) async fn only_cluster(hub: &Hub) -> Result<ClusterName, Failure> {
    let objects = remote::fetch_all(hub, Kind::Cluster).await?;
    let names: Vec<String> = objects.iter().map(|object| object.name().to_string()).collect();
    match names.as_slice() {
        [one] => {
            one.parse().map_err(|error| Failure::new("the hub names no cluster").because(error))
        }
        [] => Err(Failure::new("there is no cluster that you may see")
            .next("add one: `nullius cluster add NAME`, or ask for a grant")),
        several => Err(Failure::usage("a graph is of one cluster, and you may see several")
            .next(format!("name it: `-c {}`", several.join("`, `-c ")))),
    }
}

/// The graph as one document.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    graph: &'a MeshGraph,
}

impl<'a> Document<'a> {
    fn of(graph: &'a MeshGraph) -> Self {
        Self { api_version: nullius_model::API_VERSION, kind: "MeshGraph", graph }
    }
}

fn list(
    stage: &mut Stage,
    graph: &MeshGraph,
    narrowed: bool,
    now: Timestamp,
) -> Result<Exit, Failure> {
    let titles = [
        "VERDICT",
        "SOURCE",
        "DESTINATION",
        "PORT",
        "SERVICE",
        "WIRE",
        "CONNECTIONS",
        "REQUESTS",
        "BYTES",
        "FIRST",
        "LAST",
        "REASON",
        "RULE",
        "SAMPLE",
        "WHY",
    ];
    let mut table = Table::new(titles).sentence_last();
    for title in ["SERVICE", "WIRE", "FIRST", "REASON", "RULE", "SAMPLE"] {
        table = table.wide(title);
    }
    for edge in &graph.edges {
        table.row([
            edge.verdict.to_string(),
            end(&edge.source, &edge.source_id),
            edge.destination.clone(),
            if edge.port == 0 { String::new() } else { edge.port.to_string() },
            edge.service.clone(),
            edge.wire.clone(),
            edge.connections.to_string(),
            if edge.requests == 0 { String::new() } else { edge.requests.to_string() },
            size(edge.bytes_to_destination.saturating_add(edge.bytes_to_source)),
            relative(edge.first, now),
            relative(edge.last, now),
            edge.reason.clone(),
            edge.explain.rule.clone().unwrap_or_default(),
            edge.sample.clone(),
            edge.explain.sentence.clone(),
        ]);
    }
    if !graph.edges.is_empty() {
        stage.tell(&beside(graph));
    }
    stage.list(Listing {
        kind: "MeshGraph",
        items: graph.edges.iter().map(json_value).collect::<Result<_, _>>()?,
        table,
        names: graph.nodes.iter().map(|node| node.id.clone()).collect(),
        empty: why_empty(graph, narrowed, now),
    })
}

/// Who it is, and that they proved nothing where they did not.
fn end(label: &str, id: &str) -> String {
    let is_plain = id.is_empty() && !label.starts_with('(');
    if is_plain { format!("{label} (unproven)") } else { label.to_owned() }
}

/// What the graph does not show though it should.
fn beside(graph: &MeshGraph) -> String {
    let mut text = String::new();
    if graph.more {
        text.push_str(
            "there is more than one answer holds: narrow by `-n`, `--verdict` or `--since`\n",
        );
    }
    if graph.unknown {
        text.push_str(
            "not all calls of this time are known: what is not shown is unknown, and not none; see `nullius mesh status`\n",
        );
    }
    text
}

/// Why there is nothing to show, and what to do next.
fn why_empty(graph: &MeshGraph, narrowed: bool, now: Timestamp) -> String {
    let cluster = &graph.cluster;
    let Some(telling) = &graph.telling else {
        return format!(
            "nothing is known: `{cluster}` never told of a mesh\ncalls are told by `nullius agent identity` for pods of the mesh: \
             apply `nullius cluster add {cluster} --manifest --identity --mesh`, and label namespaces (docs/node.md)"
        );
    };
    let told = relative(telling.told_at, now);
    let first = match narrowed {
        true => "no call matches; leave a filter out, or look further back: `--since 24h`",
        false => "no call that you may see was told in this time; look further back: `--since 24h`",
    };
    let text = format!("{first}\n`{cluster}` told of its mesh last {told}\n{}", beside(graph));
    text.trim_end().to_owned()
}

/// Bytes in binary units.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    match tenths < 100 {
        true => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
        false => format!("{} {}", tenths / 10, UNITS[unit]),
    }
}

/// `2026-05-01T12:00:00Z`, without the fraction.
fn short(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

async fn status(stage: &mut Stage, of: OfCluster) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let now = stage.now();
    let graph = fetch(&hub, MeshGraphArgs::of_an_hour(of), now).await?;
    let Some(telling) = &graph.telling else {
        stage.tell(&(escape::lines(&why_empty(&graph, false, now)) + "\n"));
        return Ok(Exit::Ok);
    };
    let workloads = graph.nodes.iter().filter(|node| !node.spiffe_ids.is_empty()).count();
    let value = serde_json::json!({
        "cluster": graph.cluster, "telling": telling, "unknown": graph.unknown, "workloads": workloads,
        "lastHour": MeshVerdict::ALL.iter().map(|verdict| (verdict.as_str(), json_sum(&graph.edges, *verdict)))
            .collect::<std::collections::BTreeMap<_, _>>(),
    });
    let text = status_text(&graph, telling, workloads, now);
    let name = graph.cluster.to_string();
    stage.single(Single { kind: "MeshStatus", value, text, name })
}

fn json_sum(edges: &[MeshEdge], verdict: MeshVerdict) -> u64 {
    let of = edges.iter().filter(|edge| edge.verdict == verdict);
    of.fold(0, |sum: u64, edge| sum.saturating_add(edge.connections.max(edge.requests)))
}

fn status_text(
    graph: &MeshGraph,
    telling: &MeshTelling,
    workloads: usize,
    now: Timestamp,
) -> String {
    let some = |count: u64| if count == 0 { String::new() } else { count.to_string() };
    let incomplete = match (graph.unknown, telling.incomplete_at) {
        (_, None) => "all that was seen is known".to_owned(),
        (true, Some(at)) => format!("not all of the last hour is known: {}", relative(at, now)),
        (false, Some(at)) => format!("last {}", relative(at, now)),
    };
    let mut lines = vec![
        ("Cluster", graph.cluster.to_string()),
        ("Last told", relative(telling.told_at, now)),
        (
            "Workloads",
            format!("{workloads} with a proven identity called or were called in the last hour"),
        ),
    ];
    for (title, verdict) in [
        ("Allowed", MeshVerdict::Allowed),
        ("Shadow denied", MeshVerdict::ShadowDenied),
        ("Denied", MeshVerdict::Denied),
        ("Failed", MeshVerdict::Failed),
    ] {
        lines.push((title, format!("{} in the last hour", json_sum(&graph.edges, verdict))));
    }
    lines.extend([
        ("Incomplete", incomplete),
        ("Lost calls", some(telling.lost_flows)),
        ("Lost denials", some(telling.lost_denials)),
        ("Not in the audit", some(telling.unwritten_denials)),
        ("Not believed", some(telling.disbelieved)),
        ("Not kept apart", some(telling.folded)),
    ]);
    properties(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_binary_units() {
        for (bytes, said) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            (10_240, "10 KiB"),
            (1 << 20, "1.0 MiB"),
            (u64::MAX, "16383 PiB"),
        ] {
            assert_eq!(size(bytes), said);
        }
    }
}
