//! Trust domains of somebody else: whom a federation may be with, what is fetched, and what becomes of it.

use std::time::Duration;

use http::Method;
use nullius_tunnel::Reach;
use serde_json::{Value, json};

use crate::{
    bundles::Cluster,
    harness::{TestHub, access, text},
};

/// A federation of `shop` with another trust domain.
fn federation(name: &str, with: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"clusters": ["shop"], "federatesWith": with}})
}

fn web(domain: &str, url: &str) -> Value {
    json!({
        "trustDomain": domain, "bundleEndpointURL": url,
        "bundleEndpointProfile": {"type": "https_web"},
    })
}

/// What is shown of the other trust domain that `shop` believes, once it is as somebody waits for it.
async fn shown(hub: &TestHub, token: &str, look: impl Fn(&Value) -> bool) -> Value {
    let wait = async {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            let all = hub.get("/v1/trust?cluster=shop", token).await.ok().json();
            let other = &all["items"][0]["federated"][0];
            if look(other) {
                return other.clone();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the hub fetches")
}

#[tokio::test]
async fn a_hub_fetches_the_bundle_that_another_hub_publishes() {
    let bank = TestHub::start().await;
    let first = bank.first_admin().await;
    let tokens = bank.sign_in(&first).await;
    let cluster = Cluster::add(&bank, access(&tokens), "bank").await;
    cluster.tells(&bank, &cluster.bundle(9)).await;
    let url = format!("{}/v1/trust/{}/bundle", bank.origin(), cluster.domain);

    let hub = TestHub::start_with(|settings| settings.foreign_reach = Reach::All).await;
    let first = hub.first_admin().await;
    let tokens = hub.sign_in(&first).await;
    let admin = access(&tokens);
    Cluster::add(&hub, admin, "shop").await;
    let mut with = web(cluster.domain.as_str(), &url);
    with["bundleEndpointProfile"]["authorities"] =
        json!(bank.hub().keys().root().certificate_pem());
    hub.apply(admin, "federations", federation("bank", with.clone())).await.ok();
    let other = shown(&hub, admin, |it| it["hasBundle"] == true).await;
    assert_eq!(other["from"], "Federation/bank");
    assert_eq!(other["trustDomain"], cluster.domain.as_str());
    assert_eq!(other["sequence"], 9);
    assert!(other["toldAt"].is_string() && other.get("failure").is_none(), "{other}");

    // What came last counts on, wherever it is fetched from next and whatever comes of that.
    let one = "/v1/objects/federations/bank";
    with["bundleEndpointURL"] = json!(format!("{url}/nowhere"));
    hub.call(Method::PUT, one, Some(admin), Some(federation("bank", with))).await.ok();
    let other = shown(&hub, admin, |it| it["failure"].is_string()).await;
    assert!(text(&other["failure"]).contains("404"), "{other}");
    assert_eq!((&other["hasBundle"], &other["sequence"]), (&json!(true), &json!(9)));
    hub.call(Method::DELETE, one, Some(admin), None).await.ok();
    shown(&hub, admin, Value::is_null).await;
}

#[tokio::test]
async fn an_older_bundle_counts_only_once_somebody_says_so_and_the_audit_has_the_keys() {
    let bank = TestHub::start().await;
    let first = bank.first_admin().await;
    let tokens = bank.sign_in(&first).await;
    let mut cluster = Cluster::add(&bank, access(&tokens), "bank").await;
    let first_key = cluster.jwt.authority().kid().to_owned();
    cluster.tells(&bank, &cluster.bundle(9)).await;
    let url = format!("{}/v1/trust/{}/bundle", bank.origin(), cluster.domain);

    let hub = TestHub::start_with(|settings| settings.foreign_reach = Reach::All).await;
    let first = hub.first_admin().await;
    let tokens = hub.sign_in(&first).await;
    let admin = access(&tokens);
    Cluster::add(&hub, admin, "shop").await;
    let with = |url: &str, given: u64| {
        let mut with = web(cluster.domain.as_str(), url);
        with["bundleEndpointProfile"]["authorities"] =
            json!(bank.hub().keys().root().certificate_pem());
        with["trustDomainBundle"] = json!(cluster.bundle(given).to_json().to_string());
        with
    };
    let (begun, moved) = (with(&url, 1), with(&format!("{url}?a"), 2));
    hub.apply(admin, "federations", federation("bank", begun)).await.ok();
    shown(&hub, admin, |it| it["sequence"] == 9).await;
    // Its owner tells of another key, and of a lower number. Neither that nor what is given with an edit brings back what was before.
    cluster.jwt = nullius_pki::workload::JwtSigner::create(cluster.domain.clone()).unwrap();
    let second_key = cluster.jwt.authority().kid().to_owned();
    cluster.tells(&bank, &cluster.bundle(5)).await;
    let one = "/v1/objects/federations/bank";
    hub.call(Method::PUT, one, Some(admin), Some(federation("bank", moved.clone()))).await.ok();
    let other = shown(&hub, admin, |it| it["failure"].is_string()).await;
    assert!(text(&other["failure"]).contains("number 5, and 9"), "{other}");
    assert_eq!(other["sequence"], 9);
    let alarm = hub.audit(admin, "alarm").await.remove(0);
    let keys = |event: &Value, fact: &str| text(&event["facts"][fact]).to_owned();
    assert!(keys(&alarm, "token-keys-that-count").starts_with(&first_key), "{alarm}");
    assert!(keys(&alarm, "token-keys-refused").starts_with(&second_key), "{alarm}");

    let accept = "/v1/federations/bank/accept-older";
    let why = |reason: &str| json!({ "reason": reason });
    let operator = hub.person(admin, "olaf", &[]).await;
    let grant = json!({ "metadata": { "name": "olaf-operates" }, "spec": {
        "subjects": [{ "kind": "User", "name": "olaf" }], "hubRole": "operator" } });
    hub.apply(admin, "grants", grant).await.ok();
    let tokens_of_olaf = hub.sign_in(&operator).await;
    let olaf = access(&tokens_of_olaf);
    hub.post(accept, Some(olaf), why("it is theirs")).await.refused(403, "denied");
    hub.post(accept, None, why("it is theirs")).await.refused(401, "unauthenticated");
    hub.post(accept, Some(admin), why(" ")).await.refused(422, "invalid");
    hub.post("/v1/federations/other/accept-older", Some(admin), why("x"))
        .await
        .refused(404, "not-found");
    assert_eq!(shown(&hub, admin, |_| true).await["sequence"], 9);
    let accepted = hub.post(accept, Some(admin), why("it is theirs")).await;
    assert_eq!(accepted.status, 204, "{}", accepted.text);
    shown(&hub, admin, |it| it["sequence"] == 5 && it.get("failure").is_none()).await;

    let events = hub.audit(admin, "certify").await;
    let of_bank: Vec<_> = events.iter().filter(|it| it["target"] == "Federation/bank").collect();
    let [taken, accepted] = &of_bank[..] else { panic!("{of_bank:?}") };
    assert!(keys(taken, "token-keys").starts_with(&second_key), "{taken}");
    assert_eq!(
        (keys(accepted, "reason"), keys(accepted, "number-before")),
        ("it is theirs".to_owned(), "9".to_owned())
    );
    assert!(keys(taken, "token-keys-before").starts_with(&first_key), "{taken}");
    assert_eq!(keys(taken, "anchors").len(), 64, "{taken}");
    let changes = hub.audit(admin, "object-change").await;
    let made = changes.iter().rfind(|it| it["target"] == "Federation/bank").unwrap();
    assert!(keys(made, "token-keys-given").starts_with(&first_key), "{made}");
    // With whom it was stands in the audit when it is gone.
    hub.call(Method::DELETE, one, Some(admin), None).await.ok();
    let gone = hub.audit(admin, "object-change").await.remove(0);
    assert_eq!(keys(&gone, "verb"), "delete");
    assert_eq!(keys(&gone, "trust-domain"), cluster.domain.as_str());
    assert_eq!(
        (keys(&gone, "clusters"), keys(&gone, "profile")),
        ("shop".to_owned(), "https_web".to_owned())
    );
}

#[tokio::test]
async fn what_is_shown_is_whom_a_cluster_believes_and_not_whom_it_should() {
    let hub = TestHub::start().await;
    let first = hub.first_admin().await;
    let tokens = hub.sign_in(&first).await;
    let admin = access(&tokens);
    let [shop, stage] =
        [Cluster::add(&hub, admin, "shop").await, Cluster::add(&hub, admin, "stage").await];
    stage.tells(&hub, &stage.bundle(7)).await;
    let both = json!({"metadata": {"name": "both"}, "spec": {"clusters": ["shop", "stage"]}});
    hub.apply(admin, "federations", both).await.ok();
    let keeps = async |bundle: Option<Option<u64>>| {
        let digest = |number| {
            let text = stage.bundle(number).to_json().to_string();
            (stage.domain.clone(), nullius_pki::token_hash(&text)[..32].to_owned())
        };
        let kept = nullius_store::TrustKept {
            cluster: shop.name.parse().unwrap(),
            uid: shop.uid.clone(),
            kept: bundle.map(|one| one.into_iter().map(digest).collect()),
            heard_at: hub.hub().now(),
        };
        let mut tx = hub.hub().store().begin().await.unwrap();
        tx.trust().put_kept(&kept).await.unwrap();
        tx.commit().await.unwrap();
    };
    let belief = async |wanted: &str| {
        let other = shown(&hub, admin, |it| it["belief"] == wanted).await;
        assert_eq!(other["trustDomain"], stage.domain.as_str());
        other
    };
    belief("unknown").await;
    keeps(None).await;
    belief("unknown").await;
    keeps(Some(None)).await;
    belief("not-taken").await;
    keeps(Some(Some(6))).await;
    belief("other").await;
    keeps(Some(Some(7))).await;
    assert_eq!(belief("believed").await["from"], "Cluster/stage");

    // Who sees one of the clusters is told whom it believes, and nothing of another.
    let viewer = hub.person(admin, "vera", &[]).await;
    let role = json!({ "kind": "Role", "metadata": { "name": "viewer" },
        "spec": { "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }] } });
    hub.apply(admin, "roles", role).await.ok();
    let grant = json!({ "metadata": { "name": "vera-looks" }, "spec": {
        "subjects": [{ "kind": "User", "name": "vera" }], "role": "viewer",
        "clusters": { "names": ["shop"] }, "namespaces": ["shop"] } });
    hub.apply(admin, "grants", grant).await.ok();
    let tokens_of_vera = hub.sign_in(&viewer).await;
    let seen = hub.get("/v1/trust", access(&tokens_of_vera)).await.ok().json();
    let other = &seen["items"][0]["federated"][0];
    assert_eq!((&other["belief"], other.get("from")), (&json!("believed"), None), "{seen}");

    // The agent is away while the federation goes: its nodes believe on.
    hub.call(Method::DELETE, "/v1/objects/federations/both", Some(admin), None).await.ok();
    let left = belief("not-forgotten").await;
    assert_eq!((left.get("from"), &left["hasBundle"]), (None, &json!(false)), "{left}");
    keeps(Some(None)).await;
    shown(&hub, admin, Value::is_null).await;
}

#[tokio::test]
async fn nothing_is_fetched_from_the_hubs_own_machine_or_where_clouds_tell_secrets() {
    let hub = TestHub::start().await;
    let first = hub.first_admin().await;
    let tokens = hub.sign_in(&first).await;
    let admin = access(&tokens);
    Cluster::add(&hub, admin, "shop").await;
    for host in ["169.254.169.254", "127.0.0.1:8443", "localhost", "[::1]", "[fd00:ec2::254]"] {
        let with = web("bank.example", &format!("https://{host}/latest/meta-data"));
        hub.apply(admin, "federations", federation("bank", with)).await.ok();
        let other = shown(&hub, admin, |it| it["failure"].is_string()).await;
        assert!(text(&other["failure"]).contains("which is not asked"), "{host}: {other}");
        hub.call(Method::DELETE, "/v1/objects/federations/bank", Some(admin), None).await.ok();
    }
}

#[tokio::test]
async fn nobody_elses_bundle_takes_over_a_trust_domain_of_ours_or_of_another() {
    let hub = TestHub::start().await;
    let first = hub.first_admin().await;
    let tokens = hub.sign_in(&first).await;
    let admin = access(&tokens);
    for name in ["shop", "dev"] {
        Cluster::add(&hub, admin, name).await;
    }
    let url = "https://bank.example/bundle";
    hub.apply(admin, "federations", federation("bank", web("bank.example", url))).await.ok();
    for domain in [
        "shop.nullius.internal",
        "dev.nullius.internal",
        "infra.nullius",
        "bank.example",
        "BANK.example",
        "bank.example/x",
        "\u{1b}[2J",
        "",
    ] {
        let refused = hub.apply(admin, "federations", federation("more", web(domain, url))).await;
        refused.refused(422, "invalid");
    }
    for step in [".", ".."] {
        let cluster = json!({"metadata": {"name": "new"}, "spec": {"trustDomain": step}});
        hub.apply(admin, "clusters", cluster).await.refused(422, "invalid");
    }
    // Nor does a cluster get the trust domain of somebody else.
    let cluster = json!({"metadata": {"name": "new"}, "spec": {"trustDomain": "bank.example"}});
    hub.apply(admin, "clusters", cluster).await.refused(422, "invalid");
    // A cluster that was removed can still speak for its own until its authority ends.
    hub.call(Method::DELETE, "/v1/objects/clusters/dev", Some(admin), None).await.ok();
    let of_gone = federation("more", web("dev.nullius.internal", url));
    hub.apply(admin, "federations", of_gone).await.refused(422, "invalid");

    let spiffe = |id: &str, bundle: Value| {
        let mut with = web("shop.example", url);
        with["bundleEndpointProfile"] = json!({"type": "https_spiffe", "endpointSPIFFEID": id});
        with["trustDomainBundle"] = bundle;
        federation("more", with)
    };
    let empty = json!(r#"{"keys":[]}"#);
    for wrong in [
        spiffe("spiffe://bank.example/x", empty.clone()),
        spiffe("spiffe://shop.example/x", Value::Null),
        spiffe("spiffe://shop.example/x", json!("{}")),
        spiffe("https://shop.example/x", empty.clone()),
        federation("more", web("shop.example", "http://bank.example/bundle")),
    ] {
        hub.apply(admin, "federations", wrong).await.refused(422, "invalid");
    }
    hub.apply(admin, "federations", spiffe("spiffe://shop.example/x", empty)).await.ok();
}

#[tokio::test]
async fn a_cluster_that_a_federation_names_is_not_exchanged_for_another_of_its_name() {
    let hub = TestHub::start().await;
    let first = hub.first_admin().await;
    let tokens = hub.sign_in(&first).await;
    let admin = access(&tokens);
    for name in ["shop", "stage"] {
        Cluster::add(&hub, admin, name).await;
    }
    let both = json!({"metadata": {"name": "both"}, "spec": {"clusters": ["shop", "stage"]}});
    hub.apply(admin, "federations", both).await.ok();
    let stage = "/v1/objects/clusters/stage";
    let refused = hub.call(Method::DELETE, stage, Some(admin), None).await;
    assert!(refused.status.is_client_error(), "{}", refused.text);
    assert!(refused.text.contains("Federation `both` names it"), "{}", refused.text);
    let mut object = hub.get(stage, admin).await.ok().json();
    object["spec"]["trustDomain"] = json!("other.example");
    let refused = hub.call(Method::PUT, stage, Some(admin), Some(object)).await;
    assert!(refused.text.contains("Federation `both` names it"), "{}", refused.text);
    // Once it is taken out, both are for who may change clusters.
    hub.call(Method::DELETE, "/v1/objects/federations/both", Some(admin), None).await.ok();
    hub.call(Method::DELETE, stage, Some(admin), None).await.ok();
}
