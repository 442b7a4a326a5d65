//! While the audit cannot be written, those who can mend that sign in and look; nothing else happens, and all of it is in
//! the audit afterwards.

use http::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Person, TestHub, access, refresh, refresh_request, text},
    process::SmallDisk,
};

/// Fills the disk, and makes the hub find out.
async fn fill(disk: &SmallDisk, hub: &TestHub, token: &str) -> std::path::PathBuf {
    let filler = disk.fill();
    for number in 0..500 {
        // The journal may still have some room of its own.
        let group = json!({"metadata": {"name": format!("g{number}")}, "spec": {"description": "x".repeat(500)}});
        if hub.apply(token, "groups", group).await.status == 503 {
            return filler;
        }
    }
    panic!("the disk is not full");
}

async fn with_people(hub: &TestHub) -> (Person, Person, Value) {
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    let ada = hub.person(access(&tokens), "ada", &[]).await;
    (admin, ada, tokens)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_signs_in_to_look_while_the_disk_is_full_and_the_audit_tells_of_it() {
    let Some(disk) = SmallDisk::mount() else { return };
    let state = disk.0.path().join("state");
    let hub = TestHub::start_with(|settings| settings.state_dir = state).await;
    let (admin, ada, before) = with_people(&hub).await;
    let filler = fill(&disk, &hub, access(&before)).await;

    let refused = hub.try_sign_in(&ada).await.refused(503, "unavailable");
    assert!(text(&refused.json()["message"]).contains("cannot record sign-ins"));
    let tokens = hub.try_sign_in(&admin).await.ok().json();
    let replayed = hub.try_sign_in(&admin).await;
    replayed.refused(401, "unauthenticated");

    // They look.
    let token = access(&tokens);
    hub.get("/v1/whoami", token).await.ok();
    hub.get("/v1/audit?kind=object-change", token).await.ok();
    hub.get("/v1/audit/verify", token).await.ok();
    hub.get("/v1/objects/users", token).await.ok();
    // And nothing else.
    let group = json!({"metadata": {"name": "during"}, "spec": {}});
    let change = hub.apply(token, "groups", group.clone()).await;
    assert!([403, 503].contains(&change.status.as_u16()), "{}", change.text);
    let credential = hub.post("/v1/kube-credential", Some(token), json!({})).await;
    credential.refused(403, "denied");
    let renewed = hub.post("/v1/token", None, refresh_request(refresh(&tokens))).await;
    renewed.refused(401, "unauthenticated");

    // The reserve ends: reads are refused before sign-ins are.
    let mut reads = 0;
    while hub.get("/v1/audit", token).await.status == 200 {
        reads += 1;
        assert!(reads < 100, "the reserve has an end");
    }
    assert!(reads > 20, "{reads}");
    hub.get("/v1/audit", token).await.refused(503, "unavailable");
    hub.clock.advance(30);
    hub.try_sign_in(&admin).await.ok();

    std::fs::remove_file(filler).unwrap();
    ready(&hub).await;
    hub.apply(token, "groups", group.clone()).await.refused(403, "denied");
    hub.clock.advance(30);
    let after = hub.sign_in(&admin).await;
    let token = access(&after);
    hub.apply(token, "groups", group).await.ok();
    let sign_ins = hub.audit(token, "sign-in").await;
    let kept: Vec<&Value> =
        sign_ins.iter().filter(|event| event["facts"]["reserve"].is_string()).collect();
    assert_eq!(kept.len(), 2, "{sign_ins:#?}");
    assert!(kept.iter().all(|event| event["facts"]["client"] == "repair"));
    let order: Vec<&str> = kept.iter().map(|event| text(&event["at"])).collect();
    assert!(order[0] > order[1], "newest first: {order:?}");
    let read = hub.get("/v1/audit?kind=read&limit=500", token).await.ok().json();
    let events = read["items"].as_array().unwrap().iter();
    let kept = events.filter(|row| row["event"]["facts"]["reserve"].is_string()).count();
    assert_eq!(kept, reads + 2);
    let gap = hub.audit(token, "lifecycle").await;
    let gap = gap.iter().find(|event| event["facts"]["not-taken"].is_string());
    assert!(gap.is_some(), "what was not taken is counted");
    assert_eq!(hub.get("/v1/audit/verify", token).await.ok().json()["intact"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_opened_the_reserve_is_used_up_after_a_restart_too() {
    let Some(disk) = SmallDisk::mount() else { return };
    let state = disk.0.path().join("state");
    let mut hub = TestHub::start_with(|settings| settings.state_dir.clone_from(&state)).await;
    let (admin, _, before) = with_people(&hub).await;
    let filler = fill(&disk, &hub, access(&before)).await;
    hub.try_sign_in(&admin).await.ok();
    hub.stop().await;
    std::fs::remove_file(filler).unwrap();
    hub.restart_in(state).await;
    hub.try_sign_in(&admin).await.refused(401, "unauthenticated");
    hub.clock.advance(30);
    let tokens = hub.sign_in(&admin).await;
    let sign_ins = hub.audit(access(&tokens), "sign-in").await;
    let kept = sign_ins.iter().filter(|event| event["facts"]["reserve"].is_string()).count();
    assert_eq!(kept, 1, "{sign_ins:#?}");
    assert_eq!(hub.get("/v1/audit/verify", access(&tokens)).await.ok().json()["intact"], true);
}

async fn ready(hub: &TestHub) {
    let mut tries = 0;
    while hub.call(Method::GET, "/readyz", None, None).await.status != 200 {
        tries += 1;
        assert!(tries < 2000, "the audit recovers by itself");
        tokio::task::yield_now().await;
    }
}
