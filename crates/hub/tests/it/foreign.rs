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

    // What it was fetched for is no more: it does not count for another address, and nothing is left of it.
    let one = "/v1/objects/federations/bank";
    with["bundleEndpointURL"] = json!(format!("{url}/nowhere"));
    hub.call(Method::PUT, one, Some(admin), Some(federation("bank", with))).await.ok();
    let other = shown(&hub, admin, |it| it["failure"].is_string()).await;
    assert!(text(&other["failure"]).contains("404"), "{other}");
    assert_eq!((&other["hasBundle"], other.get("sequence")), (&json!(false), None));
    hub.call(Method::DELETE, one, Some(admin), None).await.ok();
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
