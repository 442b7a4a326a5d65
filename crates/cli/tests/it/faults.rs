//! What goes wrong around a hub, told clearly and soon.

use std::time::Instant;

use nullius_cli::Exit;
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::{
    hub::{Hub, error},
    person::Person,
};

#[tokio::test]
async fn a_hub_that_is_down_is_told_within_five_seconds() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    drop(hub);
    let began = Instant::now();
    let err = person.run(&["access", "list"]).await.failed(Exit::Failed);
    assert!(err.starts_with("error: cannot reach the hub `https://127.0.0.1:"), "{err}");
    assert!(err.contains("\n  why: ") && err.contains("\n  next: "), "{err}");
    assert!(began.elapsed().as_secs() < 5);
    let verbose = person.run(&["access", "list", "-v"]).await.failed(Exit::Failed);
    assert!(verbose.contains("\n  cause: "), "{verbose}");
}

#[tokio::test]
async fn a_hub_that_says_nothing_is_told_within_five_seconds() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    // Takes connections and never speaks.
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let contexts = person.config().join("contexts.json");
    let address = format!("https://{}", silent.local_addr().unwrap());
    for entry in std::fs::read_dir(person.config().join("sessions")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().ends_with(".json") {
            let text = std::fs::read_to_string(&path).unwrap().replace(&hub.url(), &address);
            std::fs::write(&path, text).unwrap();
        }
    }
    let text = std::fs::read_to_string(&contexts).unwrap().replace(&hub.url(), &address);
    std::fs::write(&contexts, text).unwrap();
    let began = tokio::time::Instant::now();
    let err = person.run(&["access", "list"]).await.failed(Exit::Failed);
    assert!(err.contains("cannot reach the hub"), "{err}");
    assert!(began.elapsed().as_secs() < 5);
}

#[tokio::test]
async fn something_that_is_no_hub_is_told() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let person = Person { answers: vec!["yes"], ..Person::new() };
    let url = format!("https://{address}");
    let err = person.run(&["login", "--hub", &url]).await.failed(Exit::Failed);
    assert!(err.contains(&format!("`{url}`")), "{err}");
    task.abort();
}

#[tokio::test]
async fn a_denial_is_explained_and_has_its_own_exit_code() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let mut denied = error("denied", "no");
    denied["explanation"] = json!({ "reason": "no-hub-role", "sentence": "no hub role of `ada` lets them read audit\u{1b}[2J",
                                    "next": "ask an admin for the hub role `auditor`" });
    hub.script("GET /v1/audit", 403, denied);
    let err = person.run(&["audit", "list"]).await.failed(Exit::Denied);
    insta::assert_snapshot!(err);
}

#[tokio::test]
async fn an_answer_from_something_between_is_not_taken_for_the_hubs() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    hub.script("GET /v1/whoami", 502, json!("<html>bad gateway</html>"));
    let err = person.run(&["whoami"]).await.failed(Exit::Failed);
    assert!(err.contains("502 Bad Gateway"), "{err}");
    hub.script("GET /v1/whoami", 200, json!({ "user": "ada" }));
    let err = person.run(&["whoami"]).await.failed(Exit::Failed);
    assert!(err.contains("nullius version"), "{err}");
}

#[tokio::test]
async fn nobody_signed_in_says_how_to() {
    let person = Person::new();
    let err = person.run(&["whoami"]).await.failed(Exit::Usage);
    assert!(err.contains("nullius login --hub"), "{err}");
    let err = person.run(&["whoami", "--hub", "http://hub.example"]).await.failed(Exit::Usage);
    assert!(err.contains("by https only"), "{err}");
    let err = person.run(&["whoami", "--context", "none"]).await.failed(Exit::Usage);
    assert!(err.contains("no context is named `none`"), "{err}");
}
