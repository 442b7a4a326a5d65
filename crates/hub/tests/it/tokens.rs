//! Tokens open one door, live for minutes, and end with their session.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{CLIENT_SECRET, TestHub, access, client, refresh, refresh_request, text};

const REDIRECT: &str = "http://127.0.0.1:4711/";
const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters-0";

#[tokio::test]
async fn a_token_for_one_door_does_not_open_the_other() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    let kube = hub.post("/v1/kube-credential", Some(access(&tokens)), json!({})).await.ok().json();
    let kube = text(&kube["token"]);
    hub.get("/v1/whoami", kube).await.refused(401, "unauthenticated");
    hub.post("/v1/kube-credential", Some(kube), json!({})).await.refused(401, "unauthenticated");
    let status = hub.get("/clusters/dev/api/v1/pods", access(&tokens)).await;
    assert_eq!(status.status, 401);
    assert_eq!(status.json()["kind"], "Status");
    let status = hub.get("/clusters/dev/api/v1/pods", kube).await;
    assert_eq!(status.status, 404, "authenticated, and there is no such cluster: {}", status.text);
    let refresh = refresh(&tokens);
    hub.get("/v1/whoami", refresh).await.refused(401, "unauthenticated");
    let status = hub.call(Method::GET, "/clusters/dev/api/v1/pods", None, None).await;
    assert_eq!(status.status, 401);
    for token in ["", "x", "eyJhbGciOiJub25lIn0.e30."] {
        hub.get("/v1/whoami", token).await.refused(401, "unauthenticated");
    }
}

#[tokio::test]
async fn tokens_end_and_refresh_gives_new_ones_until_the_session_ends() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    hub.clock.advance(601);
    hub.get("/v1/whoami", access(&tokens)).await.refused(401, "unauthenticated");
    let new = hub.post("/v1/token", None, refresh_request(refresh(&tokens))).await.ok().json();
    hub.get("/v1/whoami", access(&new)).await.ok();
    assert_eq!(new["session"], tokens["session"]);

    let mut last = new;
    for _ in 0..11 {
        hub.clock.advance(3500);
        last = hub.post("/v1/token", None, refresh_request(refresh(&last))).await.ok().json();
    }
    let left = text(&last["accessExpiresAt"]) <= text(&last["sessionExpiresAt"]);
    assert!(left, "a token does not outlive its session: {last}");
    hub.clock.advance(4800);
    let over = hub.post("/v1/token", None, refresh_request(refresh(&last))).await;
    over.refused(401, "unauthenticated");
    hub.hub().act_on_time().await;
    assert!(hub.hub().sessions().is_empty());
}

#[tokio::test]
async fn an_idle_session_ends_by_itself() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    hub.clock.advance(4 * 3600);
    hub.hub().act_on_time().await;
    assert!(hub.hub().sessions().is_empty());
    hub.post("/v1/token", None, refresh_request(refresh(&tokens)))
        .await
        .refused(401, "unauthenticated");
    let again = hub.sign_in(&admin).await;
    let ends = hub.audit(access(&again), "session-end").await;
    assert_eq!(ends[0]["facts"]["reason"], "idle");
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_the_session_and_raises_an_alarm() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let stolen = hub.sign_in(&admin).await;
    let new = hub.post("/v1/token", None, refresh_request(refresh(&stolen))).await.ok().json();
    let retried = hub.post("/v1/token", None, refresh_request(refresh(&stolen))).await.ok().json();
    assert_eq!(
        retried["refreshToken"], new["refreshToken"],
        "an answer that was lost is given again"
    );
    hub.clock.advance(11);
    let reused = hub.post("/v1/token", None, refresh_request(refresh(&stolen))).await;
    reused.refused(401, "unauthenticated");
    hub.get("/v1/whoami", access(&new)).await.refused(401, "unauthenticated");
    hub.post("/v1/token", None, refresh_request(refresh(&new)))
        .await
        .refused(401, "unauthenticated");
    hub.clock.advance(30);
    let again = hub.sign_in(&admin).await;
    let alarms = hub.audit(access(&again), "alarm").await;
    assert_eq!(alarms[0]["facts"]["reason"], "reused");
    assert_eq!(alarms[0]["session"], stolen["session"]);
    let forged = refresh(&new).replace(".2.", ".3.");
    hub.post("/v1/token", None, refresh_request(&forged)).await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_refresh_token_is_worth_nothing_to_another_client_and_goes_where_its_own_goes() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    hub.move_to("127.0.0.77");
    let moved = hub.post("/v1/token", None, refresh_request(refresh(&tokens))).await.ok().json();
    let retried = hub.post("/v1/token", None, refresh_request(refresh(&tokens))).await.ok().json();
    assert_eq!(retried["refreshToken"], moved["refreshToken"], "a lost answer is given again");

    let stolen = |secret: Value| json!({"grantType": "refresh_token", "refresh_token": refresh(&moved), "client_secret": secret});
    let bare = json!({"grantType": "refresh_token", "refresh_token": refresh(&moved)});
    hub.post("/v1/token", None, bare).await.refused(422, "invalid");
    hub.get("/v1/whoami", access(&moved)).await.ok();
    // Even from the address of the one who signed in, the thief has no secret.
    let thief = hub.post("/v1/token", None, stolen(json!(format!("{CLIENT_SECRET}1")))).await;
    thief.refused(401, "unauthenticated");
    hub.get("/v1/whoami", access(&moved)).await.refused(401, "unauthenticated");
    hub.clock.advance(30);
    let again = hub.sign_in(&admin).await;
    assert_eq!(hub.audit(access(&again), "alarm").await[0]["facts"]["reason"], "reused");
    let mut plain = json!({"user": "admin", "password": "x", "code": "000000", "client": client()});
    plain["client"] = json!("plain");
    let refused = hub.post("/v1/sign-in", None, plain).await.refused(422, "invalid");
    assert!(refused.json()["fields"]["client"].is_string());
}

#[tokio::test]
async fn logout_and_revocation_refuse_at_once() {
    let mut hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let one = hub.sign_in(&admin).await;
    let two = hub.sign_in(&admin).await;
    let kube = hub.post("/v1/kube-credential", Some(access(&two)), json!({})).await.ok().json();
    let sessions = hub.get("/v1/sessions", access(&one)).await.ok().json();
    assert_eq!(sessions["items"].as_array().unwrap().len(), 2);
    let path = format!("/v1/sessions/{}", text(&two["session"]));
    hub.call(Method::DELETE, &path, Some(access(&one)), None).await.ok();
    hub.get("/v1/whoami", access(&two)).await.refused(401, "unauthenticated");
    let refused = hub.get("/clusters/dev/api/v1/pods", text(&kube["token"])).await;
    assert_eq!(refused.status, 401);
    hub.call(Method::DELETE, &path, Some(access(&one)), None).await.refused(404, "not-found");
    hub.post("/v1/logout", Some(access(&one)), json!({})).await.ok();
    hub.get("/v1/whoami", access(&one)).await.refused(401, "unauthenticated");
    hub.restart().await;
    hub.get("/v1/whoami", access(&one)).await.refused(401, "unauthenticated");
    hub.post("/v1/token", None, refresh_request(refresh(&two)))
        .await
        .refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_change_asks_for_a_fresh_factor() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let mut tokens = hub.sign_in(&admin).await;
    for _ in 0..3 {
        hub.clock.advance(500);
        tokens = hub.post("/v1/token", None, refresh_request(refresh(&tokens))).await.ok().json();
    }
    let group = json!({"metadata": {"name": "dev"}, "spec": {}});
    let stale = hub.apply(access(&tokens), "groups", group.clone()).await.refused(403, "step-up");
    assert_eq!(stale.json()["explanation"]["reason"], "factor-too-old");
    hub.get("/v1/objects/groups", access(&tokens)).await.ok();
    let wrong = hub.post("/v1/step-up", Some(access(&tokens)), json!({"code": "000000"})).await;
    wrong.refused(401, "unauthenticated");
    let code = hub.code(&admin);
    hub.post("/v1/step-up", Some(access(&tokens)), json!({"code": code})).await.ok();
    let replayed = hub.post("/v1/step-up", Some(access(&tokens)), json!({"code": code})).await;
    replayed.refused(401, "unauthenticated");
    hub.apply(access(&tokens), "groups", group).await.ok();
}

fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))
}

#[tokio::test]
async fn a_login_goes_back_to_a_loopback_literal_and_nowhere_else() {
    let hub = TestHub::start().await;
    for redirect in [
        "https://evil.example/",
        "http://localhost:1/",
        "http://127.0.0.1:1/?x",
        "javascript:alert(1)",
    ] {
        let body = json!({"challenge": challenge(), "redirectUri": redirect, "state": "s"});
        let refused = hub.post("/v1/browser-login", None, body).await.refused(422, "invalid");
        assert!(refused.json()["fields"]["redirectUri"].is_string());
    }
    let plain = json!({"challenge": "plain", "redirectUri": REDIRECT, "state": "s"});
    hub.post("/v1/browser-login", None, plain).await.refused(422, "invalid");
    let method =
        json!({"challenge": challenge(), "redirectUri": REDIRECT, "state": "s", "method": "plain"});
    hub.post("/v1/browser-login", None, method).await.refused(422, "invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_refreshes_at_once_give_one_new_token() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    let body = refresh_request(refresh(&tokens));
    let calls = (0..40).map(|_| hub.post("/v1/token", None, body.clone()));
    let answers = futures::future::join_all(calls).await;
    let mut given: Vec<String> =
        answers.into_iter().map(|answer| refresh(&answer.ok().json()).to_owned()).collect();
    given.dedup();
    assert_eq!(given.len(), 1);
    let refreshes = hub.audit(access(&tokens), "refresh").await;
    assert_eq!(refreshes.len(), 1, "{refreshes:?}");
}
