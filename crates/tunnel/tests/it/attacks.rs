//! What clients and hostile clusters try, over real sockets.

use std::sync::{Arc, atomic::Ordering};

use nullius_tls::HttpVersions;

use crate::{
    api::{Api, Scripted},
    client::{SPDY, WEBSOCKET, ask, empty, failure, get, names, raw, send, text, upgrade},
    world::{World, until},
};

const HEAD: &str = "host: hub\r\nauthorization: Bearer ada\r\n";
const PODS: &str = "/clusters/dev/api/v1/pods";

async fn behaved() -> (World, crate::world::TestAgent, Arc<Api>) {
    let api = Api::start(HttpVersions::Either).await;
    let (world, agent) = World::with_agent(api.dial()).await;
    (world, agent, api)
}

#[tokio::test]
async fn impersonation_headers_in_any_form_are_refused() {
    let (world, _agent, api) = behaved().await;
    for name in [
        "Impersonate-User",
        "IMPERSONATE-GROUP",
        "impersonate-uid",
        "Impersonate-Extra-scopes",
        "Impersonate_User",
        "X-Remote-User",
        "x-remote-extra-a",
        "X_REMOTE_GROUP",
    ] {
        let answer = raw(
            world.http1,
            format!(
                "GET {PODS} HTTP/1.1\r\n{HEAD}{name}: system:admin\r\nconnection: close\r\n\r\n"
            )
            .as_bytes(),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{name}: {answer}");
        assert!(answer.contains("nobody acts as somebody else"), "{name}: {answer}");
    }
    let mut sender = crate::client::http2(world.http2).await;
    let request = ask("GET", "/api/v1/pods").header("impersonate-user", "root");
    let response = crate::client::send_http2(&mut sender, request.body(empty()).unwrap()).await;
    failure(response, 403).await;
    assert_eq!(api.count(), 0);
}

#[tokio::test]
async fn a_connection_header_that_names_identity_headers_is_refused() {
    let (world, _agent, api) = behaved().await;
    for name in
        ["Impersonate-User", "Authorization", "nullius-assertion", "Audit-ID", "x-remote-user"]
    {
        let answer = raw(
            world.http1,
            format!("GET {PODS} HTTP/1.1\r\n{HEAD}connection: close, {name}\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{name}: {answer}");
    }
    assert_eq!(api.count(), 0);
}

#[tokio::test]
async fn smuggling_by_length_and_coding_is_refused() {
    let (world, _agent, api) = behaved().await;
    let hidden = format!("GET {PODS}?hidden HTTP/1.1\r\n{HEAD}\r\n");
    for framing in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        "content-length: 0\r\ncontent-length: 0\r\n\r\n",
        "content-length: 0\r\ncontent-length: 50\r\n\r\n",
        "content-length: +0\r\n\r\n",
        "content-length: 0,0\r\n\r\n",
        "content-length : 0\r\n\r\n",
        "transfer-encoding: identity\r\n\r\n",
        "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        "x: a\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "x: a\rb\r\n\r\n",
        "x: a\0b\r\n\r\n",
        "x: a\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "host: other\r\n\r\n",
    ] {
        let bytes = format!("POST {PODS} HTTP/1.1\r\n{HEAD}{framing}{hidden}");
        let answer = raw(world.http1, bytes.as_bytes()).await;
        let refused = answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 4");
        assert!(refused, "{framing:?}: {answer}");
        assert!(!answer.contains(" 200 "), "{framing:?}: {answer}");
    }
    assert_eq!(api.count(), 0);
}

#[tokio::test]
async fn an_http10_request_is_refused() {
    let (world, _agent, api) = behaved().await;
    let answer = raw(world.http1, format!("GET {PODS} HTTP/1.0\r\n{HEAD}\r\n").as_bytes()).await;
    assert!(answer.contains("only HTTP/1.1 and HTTP/2"), "{answer}");
    assert_eq!(api.count(), 0);
}

#[tokio::test]
async fn an_upgrade_to_h2c_or_anything_unknown_is_refused() {
    let (world, _agent, api) = behaved().await;
    for headers in [
        "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        "connection: Upgrade\r\nupgrade: h2c\r\n",
        "connection: Upgrade\r\nupgrade: TLS/1.2\r\n",
        "connection: Upgrade\r\n",
        "upgrade: websocket\r\n",
        "connection: close\r\nupgrade: h2c\r\n",
        "http2-settings: AAMAAABkAAQAAP__\r\n",
    ] {
        let hidden = format!("GET {PODS}?hidden HTTP/1.1\r\n{HEAD}\r\n");
        let bytes = format!("GET {PODS} HTTP/1.1\r\n{HEAD}{headers}\r\n");
        let pipelined = headers.contains("upgrade:");
        let bytes = if pipelined {
            format!("{bytes}{hidden}")
        } else {
            bytes.replace("\r\n\r\n", "\r\nx: close\r\n\r\n")
        };
        let answer = raw(world.http1, bytes.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{headers}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1").count(),
            1 + usize::from(answer.contains("HTTP/1.1 and")),
            "{answer}"
        );
    }
    assert_eq!(api.count(), 0);
    let preface = raw(world.http1, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(!preface.contains(" 200 "), "{preface}");
}

/// An upgrade request, a second request right behind it, and an API server that says `answer`.
async fn upgrade_then_pipelined(answer: &str, headers: &str) -> (String, String, usize) {
    let api = Scripted::new(answer.as_bytes());
    let (world, _agent) =
        World::with_agent(Arc::clone(&api) as Arc<dyn nullius_tunnel::Dial>).await;
    let target = "/clusters/dev/api/v1/namespaces/shop/pods/p/exec?command=sh";
    let second = format!("DELETE {PODS} HTTP/1.1\r\n{HEAD}\r\n");
    let bytes =
        format!("GET {target} HTTP/1.1\r\n{HEAD}connection: Upgrade\r\n{headers}\r\n{second}");
    let said = raw(world.http1, bytes.as_bytes()).await;
    until(|| api.closed.load(Ordering::SeqCst) == api.dialled.load(Ordering::SeqCst)).await;
    let got = String::from_utf8(api.got.lock().unwrap().clone()).unwrap();
    (said, got, api.dialled.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_request_behind_an_upgrade_that_did_not_come_reaches_nobody() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "HTTP/1.1 200 OK"),
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", "HTTP/1.1 403 Forbidden"),
        (
            "HTTP/1.1 200 OK\r\nupgrade: SPDY/3.1\r\nconnection: upgrade\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            "HTTP/1.1 502 ",
        ),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: SPDY/3.1\r\n\r\n", "HTTP/1.1 502 "),
        ("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\r\n", "HTTP/1.1 502 "),
        (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: SPDY/3.1\r\nupgrade: h2c\r\n\r\n",
            "HTTP/1.1 502 ",
        ),
        ("garbage\r\n\r\n", "HTTP/1.1 503 "),
    ] {
        let (said, got, dialled) = upgrade_then_pipelined(answer, SPDY).await;
        assert!(said.starts_with(expected), "{answer}: {said}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{answer}: {said}");
        assert!(said.to_ascii_lowercase().contains("connection: close"), "{answer}: {said}");
        assert!(!got.contains("DELETE"), "{answer}: {got}");
        assert_eq!((got.matches("HTTP/1.1").count(), dialled), (1, 1), "{got}");
    }
    let (said, got, _) = upgrade_then_pipelined(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        WEBSOCKET,
    )
    .await;
    assert!(said.starts_with("HTTP/1.1 502 ") && !got.contains("DELETE"), "{said} {got}");
    let (said, ..) = upgrade_then_pipelined(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: evil\r\n\r\n",
        WEBSOCKET,
    )
    .await;
    assert!(said.starts_with("HTTP/1.1 502 "), "{said}");
}

#[tokio::test]
async fn an_upgrade_cannot_bring_a_body_or_a_token_of_its_own() {
    let (world, _agent, api) = behaved().await;
    for headers in
        [format!("{SPDY}content-length: 5\r\n"), format!("{SPDY}transfer-encoding: chunked\r\n")]
    {
        let (head, _) = upgrade(world.http1, "POST", &headers).await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    }
    let smuggled =
        WEBSOCKET.replace("v4.channel", "base64url.bearer.authorization.k8s.io.dG9r, v4.channel");
    let (head, _) = upgrade(world.http1, "GET", &smuggled).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(api.count(), 0);
}

#[tokio::test]
async fn an_answer_that_switches_though_nobody_asked_opens_nothing() {
    let api = Scripted::new(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nraw bytes");
    let (world, _agent) = World::with_agent(api).await;
    let response = send(world.http1, get("/api/v1/pods")).await;
    assert!(response.status().is_server_error(), "{}", response.status());
}

#[tokio::test]
async fn redirects_are_not_followed_and_lead_nowhere_else() {
    let (world, _agent, api) = behaved().await;
    let response =
        send(world.http1, get("/redirect?to=/api/v1/namespaces/x/services/y/proxy/")).await;
    assert_eq!(response.status(), 302);
    assert_eq!(
        response.headers()["location"],
        "/clusters/dev/api/v1/namespaces/x/services/y/proxy/"
    );
    for to in ["https://evil.example/", "//evil.example/", "http://169.254.169.254/latest"] {
        let before = api.count();
        let response = send(world.http1, get(&format!("/redirect?to={to}"))).await;
        assert!(!response.headers().contains_key("location"), "{to}");
        failure(response, 502).await;
        assert_eq!(api.count(), before + 1, "{to}");
    }
}

#[tokio::test]
async fn path_tricks_are_refused() {
    let (world, _agent, api) = behaved().await;
    for target in [
        "//api/v1/pods",
        "/api//v1/pods",
        "/api/v1/../v1/pods",
        "/api/v1/%2e%2e/pods",
        "/api/v1%2fpods",
        "/api/v1/pods%00",
        "/api/v1/./pods",
        "/api\\v1\\pods",
        "/api/v1/namespaces/nullius-sessions/secrets",
        "/api/v1/namespaces/nullius-sessions/serviceaccounts/x/token",
        "/nullius/hello",
        "/nullius/drain",
    ] {
        let method = if target.ends_with("token") { "POST" } else { "GET" };
        let bytes = format!(
            "{method} /clusters/dev{target} HTTP/1.1\r\n{HEAD}content-length: 0\r\nx: y\r\n\r\n"
        );
        let tcp = raw_short(world.http1, &bytes).await;
        assert!(tcp.starts_with("HTTP/1.1 40"), "{target}: {tcp}");
    }
    assert_eq!(api.count(), 0);
    assert_eq!(world.tunnels.agents(&crate::world::cluster()).len(), 2);
}

/// As `raw`, for answers after which the connection stays open.
async fn raw_short(address: std::net::SocketAddr, bytes: &str) -> String {
    raw(address, bytes.replacen("x: y", "connection: close", 1).as_bytes()).await
}

#[tokio::test]
async fn a_hostile_cluster_plants_nothing_in_a_browser() {
    let (world, _agent, _api) = behaved().await;
    let response = send(world.http1, get("/hostile")).await;
    assert_eq!(
        names(response.headers()),
        [
            "audit-id",
            "content-length",
            "content-security-policy",
            "content-type",
            "date",
            "x-content-type-options"
        ]
    );
    assert_eq!(response.headers()["content-security-policy"], "sandbox");
    assert_eq!(text(response).await, "<script>alert(1)</script>");
}
