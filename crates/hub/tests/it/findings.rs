//! Findings are read by those who may: all of them with a hub role, and by everybody else where they have grants.

use nullius_model::{
    Enforcement, FindingId, FindingSource, FoundObject, FoundPart, HubRole, Severity, Timestamp,
};
use nullius_store::{Looked, NewFinding, ScanEnd, ScanMark};
use serde_json::{Value, json};

use crate::harness::{TestHub, access, text};

const SOURCE: FindingSource = FindingSource::Admission;

/// Writes a finding as the agents of a cluster have told it.
async fn find(hub: &TestHub, id: u128, cluster: &str, namespace: &str, severity: Severity) {
    let now = Timestamp::now();
    let (kind, name) = if namespace.is_empty() { ("Namespace", "shop") } else { ("Pod", "web") };
    let object = FoundObject {
        api_version: "v1".into(),
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("uid-{id}"),
    };
    let cluster = cluster.parse().unwrap();
    let looked = Looked { source: SOURCE, cluster, object, part: FoundPart::Object };
    let found = NewFinding {
        id: FindingId::from_bits(id),
        policy: "PodSecurity/restricted".into(),
        binding: String::new(),
        check: "runAsNonRoot".into(),
        severity,
        enforcement: Enforcement::Deny,
        message: "it may run as root".into(),
        evidence: Vec::new(),
        fix: String::new(),
        waiver: None,
    };
    let mark = ScanMark { term: 1, number: 1 };
    let mut tx = hub.hub().store().begin().await.unwrap();
    let cluster = &looked.cluster;
    tx.findings().go_on(SOURCE, cluster, mark, now).await.unwrap();
    let mut room = tx.findings().room(cluster).await.unwrap();
    tx.findings().replace(&looked, &[found], mark, &mut room, now).await.unwrap();
    let end = ScanEnd { objects: 5, policies: 2, faults: Vec::new() };
    tx.findings().finish_scan(SOURCE, cluster, mark, &end, now).await.unwrap();
    tx.commit().await.unwrap();
}

fn ids(answer: &Value) -> Vec<u128> {
    let items = answer["items"].as_array().unwrap();
    items.iter().map(|item| u128::from_str_radix(text(&item["id"]), 16).unwrap()).collect()
}

#[tokio::test]
async fn findings_are_shown_by_role_and_by_grant() {
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
    find(&hub, 1 << 120, "dev", "shop", Severity::High).await;
    find(&hub, 2 << 120, "dev", "bank", Severity::Medium).await;
    find(&hub, 3 << 120, "dev", "", Severity::Low).await;
    find(&hub, 4 << 120, "prod", "shop", Severity::High).await;

    let all = hub.get("/v1/findings", admin).await.ok().json();
    assert_eq!(ids(&all), [1 << 120, 4 << 120, 2 << 120, 3 << 120], "the worst first");
    assert_eq!(all["scans"].as_array().unwrap().len(), 2);
    let page = hub.get("/v1/findings?limit=3", admin).await.ok().json();
    let next = text(&page["next"]);
    let rest = hub.get(&format!("/v1/findings?limit=3&after={next}"), admin).await.ok().json();
    assert_eq!((ids(&page).len(), ids(&rest)), (3, vec![3 << 120]));
    assert_eq!(rest.get("next"), None);
    let narrow = "/v1/findings?cluster=dev&namespace=shop&severity=high&kind=pod&policy=PodSecurity/restricted";
    assert_eq!(ids(&hub.get(narrow, admin).await.ok().json()), [1 << 120]);
    let resolved = hub.get("/v1/findings?state=resolved", admin).await.ok().json();
    assert!(ids(&resolved).is_empty());
    hub.get("/v1/findings?colour=red", admin).await.refused(422, "invalid");

    let person = hub.person(admin, "dana", &[]).await;
    let tokens = hub.sign_in(&person).await;
    let dana = access(&tokens);
    let nothing = hub.get("/v1/findings", dana).await.ok().json();
    assert_eq!((ids(&nothing).len(), nothing.get("scans")), (0, None), "nothing without a grant");
    let grant = json!({ "kind": "Grant", "metadata": { "name": "dev-shop" }, "spec": {
        "subjects": [{ "kind": "User", "name": "dana" }],
        "clusters": { "names": ["dev"] }, "namespaces": ["shop"], "role": "viewer" } });
    hub.apply(admin, "grants", grant).await.ok();
    let own = hub.get("/v1/findings", dana).await.ok().json();
    assert_eq!(ids(&own), [1 << 120], "of the namespace of the grant alone");
    let asked = hub.get("/v1/findings?cluster=prod", dana).await.ok().json();
    assert!(ids(&asked).is_empty());
    let one = |id: u128| format!("/v1/findings/{id:032x}");
    hub.get(&one(1 << 120), dana).await.ok();
    hub.get(&one(2 << 120), dana).await.refused(404, "not-found");
    hub.get(&one(4 << 120), dana).await.refused(404, "not-found");

    let grant = json!({ "kind": "Grant", "metadata": { "name": "dana-audits" }, "spec": {
        "subjects": [{ "kind": "User", "name": "dana" }], "hubRole": HubRole::Auditor } });
    hub.apply(admin, "grants", grant).await.ok();
    assert_eq!(ids(&hub.get("/v1/findings", dana).await.ok().json()).len(), 4);
}

#[tokio::test]
async fn one_finding_is_named_by_enough_of_its_beginning() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    let admin = access(&tokens);
    find(&hub, 0x0abc_def1 << 96, "dev", "shop", Severity::High).await;
    find(&hub, 0x0abc_def2 << 96, "dev", "bank", Severity::High).await;
    let one = hub.get("/v1/findings/0abcdef1", admin).await.ok().json();
    assert_eq!(one["object"]["namespace"], "shop");
    hub.get("/v1/findings/0abcdef", admin).await.refused(422, "invalid");
    for bad in ["0abc", "0ABCDEF1", "0abcdef%25", "0abcdef_"] {
        hub.get(&format!("/v1/findings/{bad}"), admin).await.refused(422, "invalid");
    }
    hub.get("/v1/findings/ffffffff", admin).await.refused(404, "not-found");
}

#[tokio::test]
async fn what_was_found_in_a_cluster_goes_with_it() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    let admin = access(&tokens);
    let cluster =
        json!({ "kind": "Cluster", "metadata": { "name": "dev" }, "spec": { "ceiling": "edit" } });
    hub.apply(admin, "clusters", cluster).await.ok();
    find(&hub, 1, "dev", "shop", Severity::High).await;
    hub.call(http::Method::DELETE, "/v1/objects/clusters/dev", Some(admin), None).await.ok();
    let gone = async {
        while !ids(&hub.get("/v1/findings", admin).await.ok().json()).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), gone).await.unwrap();
}
