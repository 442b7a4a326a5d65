//! Whoever asks too much is held back, and nobody else is.

use futures::{StreamExt as _, stream::FuturesUnordered};
use http::Method;
use serde_json::json;

use crate::{
    harness::{TestHub, client, text},
    pages::{Browser, begin, hidden},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_passwords_from_one_source_leaves_sign_in_to_others() {
    let hub = TestHub::start_with(|settings| {
        settings.limits.password_checks = 1;
        settings.limits.password_queue = 8;
        settings.limits.burst = 10_000;
    })
    .await;
    let admin = hub.first_admin().await;
    hub.move_to("127.9.9.9");
    let try_one = |number: usize| {
        let hub = &hub;
        async move {
            let body = json!({"user": format!("x{number}"), "password": "p", "code": "000000", "client": client()});
            hub.post("/v1/sign-in", None, body).await.status.as_u16()
        }
    };
    let mut flood: FuturesUnordered<_> = (0..60).map(try_one).collect();
    let mut seen = Vec::new();
    while !seen.contains(&503) {
        seen.push(flood.next().await.unwrap());
    }
    // The places of the flood are taken while these are under way.
    hub.move_to("127.0.0.1");
    let (answer, rest) = tokio::join!(hub.try_sign_in(&admin), flood.collect::<Vec<_>>());
    answer.ok();
    seen.extend(rest);
    assert!(seen.iter().all(|status| [401, 503].contains(status)), "{seen:?}");
    assert!(seen.iter().filter(|status| **status == 503).count() > 20, "{seen:?}");
}

#[tokio::test]
async fn sign_ins_that_nobody_completes_keep_no_one_from_beginning_theirs() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    hub.move_to("127.9.9.9");
    let mut held = 0;
    for _ in 0..90 {
        let begun = hub.call(Method::POST, "/v1/device", None, None).await;
        held += u32::from(begun.status == 503);
    }
    assert!(held > 60, "{held}");
    hub.move_to("127.0.0.1");
    let device = hub.call(Method::POST, "/v1/device", None, None).await.ok().json();
    let path = begin(&hub).await;
    let mut browser = Browser::new(&hub);
    browser.sign_in(&admin, "device").await;
    let form = hidden(&browser.get("/device").await, "form");
    let fields = [("form", form.as_str()), ("code", text(&device["userCode"]))];
    assert_eq!(browser.post("/device", &fields).await.status, 200);
    assert_eq!(browser.get(&path).await.status, 200);
}
