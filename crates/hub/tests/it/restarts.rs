//! A hub that is restarted has forgotten no guess, no used code and no sign-in under way.

use http::Method;
use nullius_authn::TotpSecret;
use serde_json::{Value, json};

use crate::{
    harness::{PASSWORD, Person, TestHub, access, client, refresh, refresh_request, text},
    pages::{Browser, REDIRECT, VERIFIER, begin, hidden, location},
};

fn guesser(totp: &TotpSecret) -> Person {
    let totp = TotpSecret::from_bytes(totp.as_bytes()).unwrap();
    Person { name: "admin".into(), password: "wrong password 1".into(), totp }
}

#[tokio::test]
async fn guesses_and_used_codes_count_on() {
    let mut hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    hub.sign_in(&admin).await;
    hub.move_to("127.9.9.9");
    let guesser = guesser(&admin.totp);
    for _ in 0..8 {
        hub.try_sign_in(&guesser).await;
    }
    let waits = hub.try_sign_in(&guesser).await.refused(429, "wait");
    hub.restart().await;
    let still = hub.try_sign_in(&guesser).await.refused(429, "wait");
    assert_eq!(still.headers["retry-after"], waits.headers["retry-after"]);

    // Where the admin signed in from before, a stranger's guesses count for nothing: also that is remembered.
    hub.move_to("127.0.0.1");
    hub.try_sign_in(&admin).await.ok();
    hub.restart().await;
    let replayed = hub.try_sign_in(&admin).await.refused(401, "unauthenticated");
    assert!(text(&replayed.json()["message"]).contains("wrong"));
    hub.clock.advance(30);
    hub.try_sign_in(&admin).await.ok();
}

fn exchange(code: &str) -> Value {
    json!({"grantType": "authorization_code", "code": code, "verifier": VERIFIER,
        "redirect_uri": REDIRECT, "client": client()})
}

#[tokio::test]
async fn a_browser_completes_what_was_begun_before() {
    let mut hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let path = begin(&hub).await;
    hub.restart().await;
    let code = {
        let mut browser = Browser::new(&hub);
        browser.sign_in(&admin, "account").await;
        let page = browser.get(&path).await;
        assert!(page.text.contains("127.0.0.1:4711"), "{}", page.text);
        let (form, id) = (hidden(&page, "form"), hidden(&page, "id"));
        // The request cannot be changed on its way: who asked, and where the code goes.
        let forged = format!("{}x", &id[..id.len() - 1]);
        let fields = [("form", form.as_str()), ("id", &forged), ("answer", "approve")];
        assert_eq!(browser.post("/cli", &fields).await.status, 404);
        let fields = [("form", form.as_str()), ("id", &id), ("answer", "approve")];
        let back = location(&browser.post("/cli", &fields).await);
        back.split_once("code=").unwrap().1.split('&').next().unwrap().to_owned()
    };
    hub.restart().await;
    let tokens = hub.post("/v1/token", None, exchange(&code)).await.ok().json();
    hub.restart().await;
    hub.post("/v1/token", None, refresh_request(refresh(&tokens))).await.ok();
    let again = hub.post("/v1/token", None, exchange(&code)).await;
    again.refused(401, "unauthenticated");
    hub.get("/v1/whoami", access(&tokens)).await.refused(401, "unauthenticated");
    assert_kept_nowhere(&hub, &[&code, "state-1"]);
}

#[tokio::test]
async fn a_device_is_signed_in_across_restarts_once() {
    let mut hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let device = hub.call(Method::POST, "/v1/device", None, None).await.ok().json();
    let poll = json!({"grantType": "device_code", "device_code": device["deviceCode"], "client": client()});
    hub.restart().await;
    hub.post("/v1/token", None, poll.clone()).await.refused(400, "pending");
    {
        let mut browser = Browser::new(&hub);
        browser.sign_in(&admin, "device").await;
        let form = hidden(&browser.get("/device").await, "form");
        let fields =
            [("form", form.as_str()), ("id", text(&device["userCode"])), ("answer", "approve")];
        assert_eq!(browser.post("/device/confirm", &fields).await.status, 200);
    }
    hub.restart().await;
    let tokens = hub.post("/v1/token", None, poll.clone()).await.ok().json();
    hub.get("/v1/whoami", access(&tokens)).await.ok();
    hub.restart().await;
    hub.post("/v1/token", None, poll).await.refused(401, "unauthenticated");
    let (device_code, user_code) = (text(&device["deviceCode"]), text(&device["userCode"]));
    assert_kept_nowhere(&hub, &[device_code, user_code]);
}

#[tokio::test]
async fn an_approval_ends_with_the_factors_that_it_rests_on() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    let ada = hub.person(access(&tokens), "ada", &[]).await;
    let device = hub.call(Method::POST, "/v1/device", None, None).await.ok().json();
    let mut browser = Browser::new(&hub);
    browser.sign_in(&ada, "device").await;
    let form = hidden(&browser.get("/device").await, "form");
    let fields =
        [("form", form.as_str()), ("id", text(&device["userCode"])), ("answer", "approve")];
    assert_eq!(browser.post("/device/confirm", &fields).await.status, 200);
    hub.clock.advance(1);
    let link = hub.post("/v1/users/ada/enrolment", Some(access(&tokens)), json!({})).await;
    hub.enrol("ada", text(&link.ok().json()["token"])).await;
    let poll = json!({"grantType": "device_code", "device_code": device["deviceCode"], "client": client()});
    let refused = hub.post("/v1/token", None, poll).await.refused(401, "unauthenticated");
    assert!(text(&refused.json()["message"]).contains("new factors"), "{}", refused.text);
}

/// Looks through everything that the hub has written.
fn assert_kept_nowhere(hub: &TestHub, secrets: &[&str]) {
    for entry in std::fs::read_dir(hub.directory.path()).unwrap() {
        let path = entry.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        for secret in secrets.iter().chain([&PASSWORD]) {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "`{secret}` stands in {}", path.display());
        }
    }
}
