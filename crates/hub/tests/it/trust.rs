//! How authorities of workloads stand is shown to those who may see the cluster; another one is ordered by those who may.

use nullius_model::{AuthorityStage, HubRole, Ttl};
use nullius_store::{CertifiedAuthority, ToldAuthority, ToldTrust, TrustStanding};
use serde_json::{Value, json};

use crate::harness::{TestHub, access, text};

/// Writes what the agent of `dev` told and had certified: one that signs, and one that is in no bundle any more.
async fn tell(hub: &TestHub, uid: &str) {
    let now = hub.hub().now();
    let mut tx = hub.hub().store().begin().await.unwrap();
    for serial in ["0a", "0b"] {
        let authority = CertifiedAuthority {
            serial: serial.to_owned(),
            cluster: "dev".parse().unwrap(),
            trust_domain: "dev.nullius.internal".parse().unwrap(),
            key_digest: serial.repeat(32),
            certified_at: nullius_model::Timestamp::from_second(now.as_second() - 60).unwrap(),
            not_after: Ttl::from_secs(3_600).after(now),
        };
        tx.clusters().put_authority(&authority).await.unwrap();
    }
    let active = ToldAuthority {
        stage: AuthorityStage::Active,
        serial: "0b".to_owned(),
        jwt_key: "k1".to_owned(),
    };
    let told = ToldTrust {
        since: now,
        authorities: vec![active],
        bundle: None,
        wish: String::new(),
        rotated: String::new(),
    };
    let standing = TrustStanding {
        cluster: "dev".parse().unwrap(),
        uid: uid.to_owned(),
        trust_domain: "dev.nullius.internal".parse().unwrap(),
        sequence: 7,
        told,
        told_at: now,
    };
    tx.trust().put_standing(&standing).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn who_may_sees_authorities_and_orders_another_one_with_a_reason() {
    let hub = TestHub::start().await;
    let first = hub.first_admin().await;
    let tokens = hub.sign_in(&first).await;
    let admin = access(&tokens);
    let made = hub.apply(admin, "clusters", json!({"metadata": {"name": "dev"}, "spec": {}})).await;
    let uid = text(&made.ok().json()["metadata"]["uid"]).to_owned();
    let path = "/v1/clusters/dev/rotation";
    let wanted = |mode: &str, reason: &str| json!({ "mode": mode, "reason": reason });
    // Nobody knows of an authority yet.
    let none = hub.post(path, Some(admin), wanted("taint", "drill")).await;
    assert!(none.refused(409, "conflict").json()["next"].to_string().contains("--identity"));
    let shown = hub.get("/v1/trust", admin).await.ok().json();
    assert_eq!(shown["items"][0]["authorities"], json!([]));

    tell(&hub, &uid).await;
    let shown = hub.get("/v1/trust?cluster=dev", admin).await.ok().json();
    let item = &shown["items"][0];
    assert_eq!(
        (&item["trustDomain"], &item["sequence"]),
        (&json!("dev.nullius.internal"), &json!(7))
    );
    let of = |index: usize, field: &str| item["authorities"][index][field].clone();
    assert_eq!(
        (of(0, "stage"), of(0, "serial"), of(0, "jwtKey")),
        (json!("active"), json!("0b"), json!("k1"))
    );
    assert_eq!(
        (of(1, "stage"), of(1, "serial"), of(1, "jwtKey")),
        (json!("revoked"), json!("0a"), Value::Null)
    );
    assert_eq!(of(0, "certifiedBy"), shown["root"]["serial"]);

    for reason in ["", "  ", "a\nb", &"x".repeat(501)] {
        hub.post(path, Some(admin), wanted("taint", reason)).await.refused(422, "invalid");
    }
    hub.post(path, Some(admin), wanted("burn", "drill")).await.refused(422, "invalid");
    let auditor = hub.person(admin, "eve", &[]).await;
    let grant = json!({ "metadata": { "name": "eve-reads" }, "spec": {
        "subjects": [{ "kind": "User", "name": "eve" }], "hubRole": HubRole::Auditor } });
    hub.apply(admin, "grants", grant).await.ok();
    let tokens_of_eve = hub.sign_in(&auditor).await;
    let eve = access(&tokens_of_eve);
    hub.get("/v1/trust", eve).await.ok();
    hub.post(path, Some(eve), wanted("taint", "drill")).await.refused(403, "denied");
    hub.post(path, None, wanted("taint", "drill")).await.refused(401, "unauthenticated");

    let taint = hub.post(path, Some(admin), wanted("taint", "drill")).await.ok().json();
    assert_eq!((&taint["progress"], &taint["mode"]), (&json!("ordered"), &json!("taint")));
    hub.post(path, Some(admin), wanted("taint", "again")).await.refused(409, "conflict");
    // Who revokes waits for no other, but for another that revokes.
    hub.clock.advance(1);
    let revoke = hub.post(path, Some(admin), wanted("revoke", "INC-42")).await.ok().json();
    hub.post(path, Some(admin), wanted("revoke", "again")).await.refused(409, "conflict");
    let shown = hub.get("/v1/trust", admin).await.ok().json();
    let rotation = &shown["items"][0]["rotation"];
    assert_eq!((&rotation["id"], &rotation["reason"]), (&revoke["id"], &json!("INC-42")));
    // Nobody took it for an hour: who wants one orders it again.
    hub.clock.advance(3_601);
    let again = hub.sign_in(&first).await;
    let shown = hub.get("/v1/trust", access(&again)).await.ok().json();
    assert_eq!(shown["items"][0]["rotation"]["progress"], json!("lapsed"));

    let events = hub.audit(access(&again), "rotate").await;
    let reasons: Vec<_> = events.iter().map(|event| text(&event["facts"]["reason"])).collect();
    assert_eq!(reasons, ["INC-42", "drill"]);
}
