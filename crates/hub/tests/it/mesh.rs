//! The service graph is read by those who may: all of it with a hub role, and by everybody else where they have grants.

use nullius_model::{
    CallKey, Calls, HubRole, MeshParty, MeshSide, MeshVerdict, PartyKind, Timestamp,
};
use nullius_store::MeshLosses;
use serde_json::{Value, json};

use crate::harness::{TestHub, access, text};

fn workload(namespace: &str, name: &str) -> MeshParty {
    MeshParty {
        kind: PartyKind::Workload,
        namespace: namespace.into(),
        owner_kind: "Deployment".into(),
        owner_name: name.into(),
        spiffe_id: format!("spiffe://dev.nullius.internal/ns/{namespace}/sa/{name}"),
    }
}

/// Writes a call as the agents of a cluster have told it.
async fn call(hub: &TestHub, source: MeshParty, destination: MeshParty, verdict: MeshVerdict) {
    let now = Timestamp::now();
    let told = Calls {
        key: CallKey {
            source,
            destination,
            side: MeshSide::Destination,
            service: String::new(),
            port: 8080,
            protocol: "tcp".into(),
            wire: "hbone".into(),
            verdict,
            reason: if verdict == MeshVerdict::Denied {
                "no-intention"
            } else {
                "intention-matched"
            }
            .into(),
            rule: "Intention shop/orders sources[0]".into(),
            permission: None,
            shadow: None,
        },
        connections: 3,
        requests: 0,
        bytes_to_destination: 10,
        bytes_to_source: 20,
        first: now,
        last: now,
        sample: String::new(),
    };
    let cluster = "dev".parse().unwrap();
    let mut tx = hub.hub().store().begin().await.unwrap();
    tx.mesh().merge(&cluster, &[told]).await.unwrap();
    tx.mesh().note(&cluster, MeshLosses::default(), now).await.unwrap();
    tx.commit().await.unwrap();
}

fn edges(answer: &Value) -> Vec<(String, String, String)> {
    let edges = answer["edges"].as_array().unwrap();
    let word = |value: &Value| text(value).to_owned();
    edges
        .iter()
        .map(|it| (word(&it["source"]), word(&it["destination"]), word(&it["verdict"])))
        .collect()
}

#[tokio::test]
async fn the_graph_is_shown_by_role_and_by_grant() {
    const GRAPH: &str = "/v1/clusters/dev/mesh/graph";
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    let admin = access(&tokens);
    for name in ["dev", "prod"] {
        let cluster = json!({ "kind": "Cluster", "metadata": { "name": name }, "spec": { "ceiling": "edit" } });
        hub.apply(admin, "clusters", cluster).await.ok();
    }
    let role = json!({ "kind": "Role", "metadata": { "name": "viewer" },
        "spec": { "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }] } });
    hub.apply(admin, "roles", role).await.ok();
    let never = hub.get(GRAPH, admin).await.ok().json();
    assert_eq!((edges(&never), never.get("telling")), (vec![], None));
    let (front, orders) = (workload("shop", "front"), workload("shop", "orders"));
    let (ledger, vault) = (workload("bank", "ledger"), workload("safe", "vault"));
    call(&hub, front.clone(), orders.clone(), MeshVerdict::Allowed).await;
    call(&hub, orders.clone(), ledger.clone(), MeshVerdict::Denied).await;
    call(&hub, ledger.clone(), vault.clone(), MeshVerdict::Allowed).await;
    let edge = |source: &MeshParty, destination: &MeshParty, verdict: &str| {
        (source.label(), destination.label(), verdict.to_owned())
    };
    let denied = edge(&orders, &ledger, "denied");
    let in_shop = edge(&front, &orders, "allowed");
    let elsewhere = edge(&ledger, &vault, "allowed");

    let all = hub.get(GRAPH, admin).await.ok().json();
    assert_eq!(edges(&all), [denied.clone(), elsewhere.clone(), in_shop.clone()]);
    assert_eq!(all["nodes"].as_array().unwrap().len(), 4);
    assert_eq!(all["unknown"], false);
    let first = &all["edges"][0];
    assert_eq!((&first["connections"], &first["bytesToSource"]), (&json!(3), &json!(20)));
    assert_eq!(first["explain"]["reason"], "no-intention");
    assert!(text(&first["explain"]["next"]).contains("Intention of namespace `bank`"));
    let narrow =
        async |query: &str| edges(&hub.get(&format!("{GRAPH}?{query}"), admin).await.ok().json());
    assert_eq!(narrow("verdict=denied").await, std::slice::from_ref(&denied));
    assert_eq!(narrow("namespace=safe").await, [elsewhere]);
    assert_eq!(narrow("since=2099-01-01T00:00:00Z").await, []);
    hub.get(&format!("{GRAPH}?colour=red"), admin).await.refused(422, "invalid");
    hub.get("/v1/clusters/none/mesh/graph", admin).await.refused(404, "not-found");

    let person = hub.person(admin, "dana", &[]).await;
    let tokens = hub.sign_in(&person).await;
    let dana = access(&tokens);
    hub.get(GRAPH, dana).await.refused(404, "not-found");
    let grant = |name: &str, namespaces: Value| {
        json!({ "kind": "Grant", "metadata": { "name": name }, "spec": {
            "subjects": [{ "kind": "User", "name": "dana" }],
            "clusters": { "names": ["dev"] }, "namespaces": namespaces, "role": "viewer" } })
    };
    hub.apply(admin, "grants", grant("dev-shop", json!(["shop"]))).await.ok();
    let own = hub.get(GRAPH, dana).await.ok().json();
    assert_eq!(edges(&own), [denied, in_shop], "of the namespace of the grant alone");
    assert_eq!(own["nodes"].as_array().unwrap().len(), 3);
    let asked = hub.get(&format!("{GRAPH}?namespace=safe"), dana).await.ok().json();
    assert_eq!(edges(&asked), []);
    hub.get("/v1/clusters/prod/mesh/graph", dana).await.refused(404, "not-found");
    hub.apply(admin, "grants", grant("dev-bank", json!(["bank"]))).await.ok();
    assert_eq!(edges(&hub.get(GRAPH, dana).await.ok().json()).len(), 3, "grants add up");

    let person = hub.person(admin, "aud", &[]).await;
    let tokens = hub.sign_in(&person).await;
    let auditor = json!({ "kind": "Grant", "metadata": { "name": "aud-audits" }, "spec": {
        "subjects": [{ "kind": "User", "name": "aud" }], "hubRole": HubRole::Auditor } });
    hub.apply(admin, "grants", auditor).await.ok();
    assert_eq!(edges(&hub.get(GRAPH, access(&tokens)).await.ok().json()).len(), 3);
}
