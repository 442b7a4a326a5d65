//! Whoever fails learns that something was wrong and never what; the audit knows.

use std::os::unix::fs::PermissionsExt as _;

use http::Method;
use serde_json::json;

use crate::harness::{PASSWORD, Person, TestHub, access, client, text};

#[tokio::test]
async fn the_first_admin_enrols_once_signs_in_and_is_known() {
    let mut hub = TestHub::start().await;
    let link = hub.running.as_ref().unwrap().first_admin().unwrap().link.clone();
    assert_eq!(link.url, format!("{}/enrol?token={}", hub.origin(), link.token));
    let file = hub.running.as_ref().unwrap().first_link_file().unwrap().to_owned();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), link.url);
    hub.restart().await;
    assert!(file.exists(), "a restart keeps what is not used yet");
    let admin = hub.enrol("admin", &link.token).await;
    assert!(!file.exists(), "a used link is kept nowhere");
    let again = json!({"token": link.token, "password": PASSWORD});
    hub.post("/v1/enrol", None, again).await.refused(404, "not-found");

    let tokens = hub.sign_in(&admin).await;
    let who = hub.get("/v1/whoami", access(&tokens)).await.ok().json();
    assert_eq!(who["user"], "admin");
    assert_eq!(who["hubRoles"], json!(["admin"]));
    assert_eq!(who["factors"], json!(["password", "totp"]));

    hub.restart().await;
    assert!(hub.running.as_ref().unwrap().first_admin().is_none());
    assert_eq!(hub.get("/v1/whoami", access(&tokens)).await.ok().json()["user"], "admin");
}

#[tokio::test]
async fn each_failure_says_the_same_and_is_told_apart_in_the_audit() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    let ada = hub.person(access(&tokens), "ada", &[]).await;
    let never = json!({"metadata": {"name": "never"}, "spec": {}});
    hub.apply(access(&tokens), "users", never).await.ok();
    let code = hub.code(&ada);
    let tries = [
        ("ada", "wrong horse battery staple", code.as_str(), "wrong-password"),
        ("ada", PASSWORD, "000000", "wrong-code"),
        ("nobody", PASSWORD, code.as_str(), "unknown-user"),
        ("never", PASSWORD, code.as_str(), "not-enrolled"),
        ("a b\u{1b}[31m", PASSWORD, code.as_str(), "unknown-user"),
    ];
    let mut bodies = Vec::new();
    for (user, password, code, _) in tries {
        let body = json!({"user": user, "password": password, "code": code, "client": client()});
        bodies.push(hub.post("/v1/sign-in", None, body).await.refused(401, "unauthenticated").text);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");

    hub.try_sign_in(&ada).await.ok();
    let replayed = hub.try_sign_in(&ada).await.refused(401, "unauthenticated");
    assert_eq!(replayed.text, bodies[0]);

    let events = hub.audit(access(&tokens), "sign-in").await;
    let reasons: Vec<&str> = events
        .iter()
        .filter(|event| event["outcome"] == "denied")
        .map(|event| text(&event["facts"]["reason"]))
        .collect();
    let mut expected: Vec<&str> = tries.iter().map(|(_, _, _, reason)| *reason).collect();
    expected.push("code-replayed");
    expected.reverse();
    assert_eq!(reasons, expected);
    assert!(!format!("{events:?}").contains('\u{1b}'), "what was claimed is escaped");
}

#[tokio::test]
async fn guessing_is_slowed_down_and_then_forgiven() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let wrong =
        Person { name: "admin".into(), password: "wrong password 1".into(), totp: admin.totp };
    let mut waits = 0;
    for _ in 0..8 {
        let answer = hub.try_sign_in(&wrong).await;
        if answer.status == 429 {
            waits += 1;
            assert_eq!(answer.code(), "wait");
            assert!(answer.headers.contains_key("retry-after"));
        }
    }
    assert!(waits > 0);
    hub.clock.advance(3600);
    let right = Person { password: PASSWORD.into(), ..wrong };
    hub.try_sign_in(&right).await.ok();
}

#[tokio::test]
async fn a_storm_of_sign_ins_is_told_to_come_back() {
    let hub = TestHub::start_with(|settings| {
        settings.limits.burst = 10;
        settings.limits.per_second = 1;
    })
    .await;
    let body = json!({"user": "nobody", "password": "x", "code": "000000", "client": client()});
    let calls = (0..30).map(|_| hub.post("/v1/sign-in", None, body.clone()));
    let answers = futures::future::join_all(calls).await;
    let held: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(held.len() >= 20, "{}", held.len());
    assert!(held.iter().all(|answer| answer.headers.contains_key("retry-after")));
    hub.call(Method::GET, "/healthz", None, None).await.ok();
}

#[tokio::test]
async fn a_locked_or_disabled_person_cannot_sign_in() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    let ada = hub.person(access(&tokens), "ada", &[]).await;
    let lock = json!({"metadata": {"name": "l1"}, "spec": {"target": {"kind": "User", "name": "ada"}, "message": "under review"}});
    hub.apply(access(&tokens), "locks", lock).await.ok();
    let answer = hub.try_sign_in(&ada).await.refused(403, "denied");
    assert!(text(&answer.json()["message"]).contains("under review"), "{}", answer.text);
    hub.clock.advance(30);
    hub.call(Method::DELETE, "/v1/objects/locks/l1", Some(access(&tokens)), None).await.ok();
    hub.sign_in(&ada).await;
    let user = json!({"metadata": {"name": "ada"}, "spec": {"disabled": true}});
    hub.call(Method::PUT, "/v1/objects/users/ada", Some(access(&tokens)), Some(user)).await.ok();
    hub.try_sign_in(&ada).await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn enrolment_keeps_the_rules_and_replaces_factors_and_sessions() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    let ada = hub.person(access(&tokens), "ada", &[]).await;
    let old = hub.sign_in(&ada).await;

    let path = "/v1/users/ada/enrolment";
    let first = hub.post(path, Some(access(&tokens)), json!({})).await.ok().json();
    let link = hub.post(path, Some(access(&tokens)), json!({})).await.ok().json();
    let enrol = |token: &str, password: &str| json!({"token": token, "password": password});
    let stale = hub.post("/v1/enrol", None, enrol(text(&first["token"]), PASSWORD)).await;
    stale.refused(404, "not-found");
    let short = hub.post("/v1/enrol", None, enrol(text(&link["token"]), "short")).await;
    assert!(short.refused(422, "invalid").json()["fields"]["password"].is_string());
    hub.post("/v1/enrol", None, enrol(text(&link["token"]), PASSWORD)).await.ok();
    let confirm = json!({"token": link["token"], "code": "000000"});
    hub.post("/v1/enrol/confirm", None, confirm).await.refused(422, "invalid");
    hub.get("/v1/whoami", access(&old)).await.ok();

    let anew = hub.enrol("ada", text(&link["token"])).await;
    hub.get("/v1/whoami", access(&old)).await.refused(401, "unauthenticated");
    hub.try_sign_in(&ada).await.refused(401, "unauthenticated");
    hub.clock.advance(30);
    hub.try_sign_in(&anew).await.ok();

    hub.clock.advance(25 * 3600);
    let admin_tokens = hub.sign_in(&admin).await;
    let late = hub.post(path, Some(access(&admin_tokens)), json!({})).await.ok().json();
    hub.clock.advance(25 * 3600);
    let late = hub.post("/v1/enrol", None, enrol(text(&late["token"]), PASSWORD)).await;
    late.refused(404, "not-found");
}
