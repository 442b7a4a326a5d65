//! The service graph as people and other tools see it.

use nullius_cli::Exit;
use serde_json::{Value, json};

use crate::{hub::Hub, person::Person, time::after};

const HOSTILE: &str = "a\"]<script>alert(1)</script>&\u{1b}[2J\u{202e}\u{ffff}\\n'";

fn node(namespace: &str, name: &str) -> Value {
    json!({ "id": format!("Deployment/{namespace}/{name}"), "kind": "workload", "namespace": namespace,
        "ownerKind": "Deployment", "name": name, "spiffeIds": [format!("spiffe://dev/ns/{namespace}/sa/{name}")] })
}

fn edge(from: &str, to: &str, port: u16, verdict: &str, sentence: &str, count: u64) -> Value {
    json!({
        "source": from, "destination": to, "sourceId": "spiffe://dev/x", "seenBy": "destination", "port": port,
        "service": "shop/orders", "protocol": "tcp", "wire": "hbone", "verdict": verdict, "reason": "no-intention",
        "rule": "Intention shop/orders sources[0]",
        "explain": { "reason": "no-intention", "rule": "Intention shop/orders sources[0]", "sentence": sentence },
        "connections": count, "requests": 0, "bytesToDestination": 1_000 * count, "bytesToSource": 2_000_000,
        "first": after(-3_000), "last": after(-60),
    })
}

fn graph(edges: &[Value], nodes: &[Value]) -> Value {
    json!({ "cluster": "dev", "from": after(-3_600), "nodes": nodes, "edges": edges, "unknown": true,
        "telling": { "toldAt": after(-20), "incompleteAt": after(-600), "lostFlows": 7, "lostDenials": 0,
            "unwrittenDenials": 12, "disbelieved": 0, "folded": 0 } })
}

fn shop() -> Value {
    let (front, orders, ledger) =
        ("Deployment/shop/front", "Deployment/shop/orders", "Deployment/bank/ledger");
    let outside = json!({ "id": "(outside)", "kind": "outside" });
    let edges = [
        edge(front, ledger, 8443, "denied", "no intention says that it may", 12),
        edge(orders, ledger, 8443, "shadow-denied", "it may, and would be denied", 3),
        edge("(outside)", front, 443, "failed", "it came to no decision", 1),
        edge(front, orders, 8080, "allowed", "it may", 40_000),
        edge(front, orders, 9090, "allowed", "it may", 2),
        edge(ledger, orders, 8080, "allowed", "it may", 5),
    ];
    graph(&edges, &[node("shop", "front"), node("shop", "orders"), node("bank", "ledger"), outside])
}

/// The text without the times of this run.
fn timeless(text: &str) -> String {
    let short = |seconds: i64| after(seconds).to_string();
    let text = text.replace(&short(-3_600), "SINCE").replace(&short(-60), "LAST");
    text.replace(&short(-3_000), "FIRST").replace(&short(-20), "TOLD").replace(&short(-600), "THEN")
}

#[tokio::test]
async fn the_graph_is_a_table_a_document_a_picture_and_dot() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    hub.script("GET /v1/clusters/dev/mesh/graph", 200, shop());
    let graph = ["mesh", "graph", "-c", "dev"];
    let with = |more: &[&'static str]| [&graph[..], more].concat();
    let done = person.run(&graph).await;
    assert!(done.err.contains("what is not shown is unknown"), "{}", done.err);
    insta::assert_snapshot!("mesh_table", done.ok());
    insta::assert_snapshot!("mesh_wide", person.run(&with(&["-o", "wide"])).await.ok());
    let out = person.run(&with(&["-o", "dot"])).await.ok();
    insta::assert_snapshot!("mesh_dot", timeless(&out));
    let out = person.run(&with(&["-o", "svg"])).await.ok();
    insta::assert_snapshot!("mesh_svg", timeless(&out));
    let out = person.run(&with(&["-o", "json"])).await.ok();
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&document["kind"], &document["apiVersion"]),
        (&json!("MeshGraph"), &json!("nullius.dev/v1alpha1"))
    );
    assert_eq!(
        (&document["unknown"], &document["edges"][0]["verdict"]),
        (&json!(true), &json!("denied"))
    );
    let out = person.run(&with(&["-o", "name"])).await.ok();
    assert_eq!(out.lines().count(), 4);
    let out = person.run(&["mesh", "status", "-c", "dev"]).await.ok();
    insta::assert_snapshot!("mesh_status", out);
    let err = person.run(&["session", "list", "-o", "svg"]).await.failed(Exit::Usage);
    assert!(err.contains("mesh graph"), "{err}");
    let err = person.run(&with(&["-o", "csv"])).await.failed(Exit::Usage);
    assert!(err.contains("findings list"), "{err}");
}

#[tokio::test]
async fn names_of_others_break_no_picture_and_drive_no_terminal() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let evil = |id: &str| {
        let mut node = node("shop", HOSTILE);
        node["id"] = json!(id);
        node["namespace"] = json!(HOSTILE);
        node
    };
    let (one, other) = (format!("1{HOSTILE}"), format!("2{HOSTILE}"));
    let edges: Vec<_> = ["allowed", "denied", "failed", "shadow-denied"]
        .iter()
        .flat_map(|verdict| {
            [
                edge(&one, &other, 1, verdict, HOSTILE, 1),
                edge(&other, &other, 2, verdict, HOSTILE, 1),
            ]
        })
        .collect();
    let nodes = [evil(&one), evil(&other)];
    hub.script("GET /v1/clusters/dev/mesh/graph", 200, graph(&edges, &nodes));
    for form in ["table", "wide", "json", "yaml", "name", "dot", "svg"] {
        let out = person.run(&["mesh", "graph", "-c", "dev", "-o", form]).await.ok();
        assert!(!out.contains(['\u{1b}', '\u{202e}']), "{form}");
    }
    let out = person.run(&["mesh", "graph", "-c", "dev", "-o", "svg"]).await.ok();
    let picture = roxmltree::Document::parse(&out).unwrap();
    let count = |name: &str| {
        picture
            .descendants()
            .filter(|it| it.has_tag_name(("http://www.w3.org/2000/svg", name)))
            .count()
    };
    assert_eq!((count("script"), count("polygon")), (0, 8));
    let texts: Vec<_> = picture.descendants().filter_map(|it| it.text()).collect();
    assert!(texts.iter().any(|text| text.contains("<script>")), "it is text");
    // Every verdict is told by a word, and not by its colour alone.
    for word in ["1 ×1", "1 denied ×1", "1 failed ×1", "1 shadow-denied ×1"] {
        assert!(texts.contains(&word), "{word}");
    }
    let out = person.run(&["mesh", "graph", "-c", "dev", "-o", "dot"]).await.ok();
    for line in out.lines().filter(|line| line.contains("label=\"")) {
        let quotes = line.replace("\\\\", "").replace("\\\"", "").matches('"').count();
        assert_eq!(quotes % 2, 0, "{line}");
        assert!(line.trim_end().ends_with(';'), "{line}");
    }
}

#[tokio::test]
async fn a_graph_that_is_empty_says_why_and_the_cluster_is_named_where_there_are_several() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let mut never = graph(&[], &[]);
    never["telling"] = Value::Null;
    hub.script("GET /v1/clusters/dev/mesh/graph", 200, never);
    for verb in ["graph", "status"] {
        let err = person.run(&["mesh", verb, "-c", "dev"]).await.err;
        assert!(err.contains("--identity --mesh"), "{err}");
    }
    hub.script("GET /v1/clusters/dev/mesh/graph", 200, graph(&[], &[]));
    let err = person.run(&["mesh", "graph", "-c", "dev", "--verdict", "denied"]).await.err;
    assert!(
        err.contains("leave a filter out") && err.contains("told of its mesh last 20s ago"),
        "{err}"
    );
    let out = person.run(&["mesh", "graph", "-c", "dev", "-o", "svg"]).await.ok();
    roxmltree::Document::parse(&out).unwrap();
    let cluster = |name: &str| json!({ "apiVersion": "nullius.dev/v1alpha1", "kind": "Cluster", "metadata": { "name": name }, "spec": { "ceiling": "edit" } });
    hub.script("GET /v1/objects/clusters", 200, json!({ "items": [cluster("dev")] }));
    person.run(&["mesh", "graph"]).await.ok();
    hub.script(
        "GET /v1/objects/clusters",
        200,
        json!({ "items": [cluster("dev"), cluster("prod")] }),
    );
    let err = person.run(&["mesh", "graph"]).await.failed(Exit::Usage);
    assert!(err.contains("`-c dev`, `-c prod`"), "{err}");
    person.run(&["mesh", "graph", "--verdict", "maybe"]).await.failed(Exit::Usage);
}
