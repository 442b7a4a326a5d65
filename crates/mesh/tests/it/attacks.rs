//! Those who pretend, and those who send what two programs could read in two ways.

use std::{net::SocketAddr, sync::Arc};

use http::{Method, Request};
use rustls::HandshakeKind;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::world::{
    Application, Domain, Running, Shown, Tunnel, Workload, connect, foreign, read_end,
};

const FRONT: &str = "{namespace: shop, serviceAccount: front, action: allow}";
pub(crate) const HBONE: &[u8] = b"nullius-hbone";

/// `shop/orders`, which `shop/front` may call, and who believes also in another trust domain.
pub(crate) struct Target {
    pub(crate) domain: Domain,
    other: Domain,
    orders: Workload,
    application: Application,
    inbound: Running,
}

impl Target {
    pub(crate) async fn new() -> Self {
        let (domain, other) = (Domain::new("dev.example"), Domain::new("other.example"));
        let orders = Workload::new(&domain, "shop", "orders", &[&domain, &other]);
        orders.allow(FRONT);
        let application = Application::echo().await;
        let inbound = orders.serve("127.0.0.2", "hbone", application.address).await;
        Self { domain, other, orders, application, inbound }
    }

    pub(crate) fn at(&self) -> SocketAddr {
        self.inbound.at("in")
    }

    pub(crate) async fn tunnel(&self, who: &str) -> Tunnel {
        let svid = self.domain.svid(&self.domain.id("shop", who));
        Tunnel::open(svid, HBONE, self.at()).await
    }

    /// Somebody shows this and is refused: nothing reaches the application.
    async fn refuses(&self, shown: Option<Shown>, words: &str) {
        // TLS 1.3 clients hear of it when they read.
        if let Ok(mut stream) = connect(&foreign(shown, &[HBONE]), self.at()).await {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.expect_err("it is refused");
        }
        let line = self
            .inbound
            .line(|line| line["detail"].as_str().is_some_and(|detail| detail.contains(words)));
        let line = line.await;
        assert_eq!((&line["verdict"], &line["reason"]), (&"failed".into(), &"svid-refused".into()));
        assert_eq!(self.application.count(), 0);
    }
}

/// What comes back for some bytes; a refusal may come before they are sent.
async fn said(outbound: &Running, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(outbound.at("out")).await?;
    stream.write_all(bytes).await?;
    read_end(&mut stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_no_intention_allows_is_denied_before_the_application_hears_of_it() {
    let target = Target::new().await;
    let back = Workload::new(&target.domain, "shop", "back", &[&target.domain]);
    let outbound = back.call("hbone", target.at(), target.at(), &target.orders.id).await;
    assert!(said(&outbound, b"").await.is_err(), "it is reset");
    let line = target.inbound.reason("no-intention").await;
    assert_eq!(line["verdict"], "denied");
    assert_eq!(line["source"], back.id.as_str());
    let line = outbound.reason("refused-by-destination").await;
    assert_eq!(
        (&line["verdict"], &line["detail"]),
        (&"denied".into(), &"403 Forbidden: no-intention".into())
    );
    assert_eq!(target.application.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_server_with_another_id_hears_nothing() {
    let target = Target::new().await;
    for wire in ["hbone", "tls"] {
        let bank = Workload::new(&target.domain, "bank", "front", &[&target.domain]);
        let inbound = bank.serve("127.0.0.3", wire, target.application.address).await;
        let to = inbound.at("in");
        let front = Workload::new(&target.domain, "shop", "front", &[&target.domain]);
        let outbound = front.call(wire, to, to, &target.orders.id).await;
        assert!(said(&outbound, b"for orders alone").await.is_err());
        let line = outbound.reason("unexpected-server").await;
        assert_eq!(line["verdict"], "failed");
        assert!(line["detail"].as_str().unwrap().contains("/ns/bank/sa/front"), "{line}");
        // Not even who called.
        let line = inbound.reason("handshake-failed").await;
        assert_eq!(line.get("source"), None, "{line}");
    }
    assert_eq!(target.application.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_proven_by_the_bundle_of_its_own_trust_domain_alone() {
    let target = Target::new().await;
    let front = target.domain.id("shop", "front");
    target.refuses(Some(target.other.forge(&[front.as_str()])), "does not stand behind").await;
    let stranger = Domain::new("stranger.example");
    let shown = stranger.svid(&stranger.id("shop", "front"));
    target.refuses(Some(shown), "no bundle of the trust domain `stranger.example`").await;
    // The same name under another key.
    let twin = Domain::new("dev.example");
    target.refuses(Some(twin.svid(&front)), "does not stand behind").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_is_no_svid_proves_nobody() {
    let target = Target::new().await;
    let front = target.domain.id("shop", "front");
    let both = [front.as_str(), "spiffe://dev.example/ns/shop/sa/other"];
    target.refuses(Some(target.domain.forge(&both)), "has 2 URI names").await;
    target.refuses(Some(target.domain.forge(&[])), "has 0 URI names").await;
    let dots = "spiffe://dev.example/ns/bank/../shop/sa/front";
    target.refuses(Some(target.domain.forge(&[dots])), "URI name is refused").await;
    target.refuses(None, "the chain has 0 certificates").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_is_resumed() {
    let target = Target::new().await;
    let svid = target.domain.svid(&target.domain.id("shop", "front"));
    let config = foreign(Some(svid), &[HBONE]);
    for _ in 0..3 {
        let stream = connect(&config, target.at()).await.unwrap();
        // An answer has come, so that a ticket would have come before it.
        let (sender, mut connection) = h2::client::handshake(stream).await.unwrap();
        let mut pings = connection.ping_pong().unwrap();
        let driver = tokio::spawn(connection);
        pings.ping(h2::Ping::opaque()).await.unwrap();
        drop((sender, pings));
        driver.await.unwrap().unwrap();
        let stream = connect(&config, target.at()).await.unwrap();
        let tls = stream.get_ref().1;
        assert_eq!(tls.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(tls.tls13_tickets_received(), 0);
        assert_eq!(
            tls.negotiated_key_exchange_group().unwrap().name(),
            rustls::NamedGroup::X25519MLKEM768
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_are_not_spoken() {
    let target = Target::new().await;
    let svid = || Some(target.domain.svid(&target.domain.id("shop", "front")));
    for other in [&b"h2"[..], b"http/1.1", b"nullius-tunnel-small/1"] {
        connect(&foreign(svid(), &[other]), target.at()).await.unwrap_err();
    }
    let line = target.inbound.reason("no-protocol").await;
    assert_eq!(line["verdict"], "failed");
    // Without a word of it.
    let mut stream = connect(&foreign(svid(), &[]), target.at()).await.unwrap();
    let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    assert_eq!(bytes, b"");
    target.inbound.line(|line| line["reason"] == "no-protocol" && line["source"].is_string()).await;
    assert_eq!(target.application.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_leads_to_this_workload_and_nowhere_else() {
    let target = Target::new().await;
    let tunnel = target.tunnel("front").await;
    let (host, port) = (target.at().ip(), target.at().port());
    let other_port = if port == 1 { 2 } else { port - 1 };
    for (authority, status, reason) in [
        (format!("127.0.0.1:{port}"), 403, "wrong-destination"),
        (format!("127.0.0.3:{port}"), 403, "wrong-destination"),
        (format!("[::1]:{port}"), 403, "wrong-destination"),
        (format!("{host}:{other_port}"), 403, "wrong-destination"),
        (target.application.address.to_string(), 403, "wrong-destination"),
        ("169.254.169.254:80".to_owned(), 403, "wrong-destination"),
        (format!("{host}:70000"), 400, "bad-connect"),
        (format!("{host}:0"), 400, "bad-connect"),
        (format!("localhost:{port}"), 400, "bad-connect"),
        (format!("user@{host}:{port}"), 400, "bad-connect"),
        (format!("[::ffff:{host}]:{port}"), 400, "bad-connect"),
        (format!("{host}"), 400, "bad-connect"),
    ] {
        let (response, _) = tunnel.connect(&authority).await.unwrap();
        assert_eq!(response.status(), status, "{authority}");
        assert_eq!(response.headers()["nullius-reason"], reason, "{authority}");
    }
    assert_eq!(target.application.count(), 0);
    let (response, _) = tunnel.connect(&target.at().to_string()).await.unwrap();
    assert_eq!(response.status(), 200, "the tunnel is as good as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plain_connect_opens_nothing() {
    let target = Target::new().await;
    let tunnel = target.tunnel("front").await;
    let authority = target.at().to_string();
    let request = |method: Method, uri: String| Request::builder().method(method).uri(uri);
    for builder in [
        request(Method::CONNECT, authority.clone()).header("content-length", "5"),
        request(Method::CONNECT, authority.clone()).header("host", "127.0.0.2:1"),
        request(Method::GET, format!("http://{authority}/")),
        request(Method::POST, format!("https://{authority}/")).header("content-length", "5"),
    ] {
        // h2 itself may refuse what contradicts its own length.
        match tunnel.send(builder, b"hello").await {
            Ok((response, _)) => assert_eq!(response.status(), 400),
            Err(error) => assert!(error.is_reset(), "{error}"),
        }
    }
    assert_eq!(target.application.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_behind_a_connect_that_is_denied_reach_nobody() {
    let target = Target::new().await;
    let tunnel = target.tunnel("back").await;
    let connect = || Request::builder().method(Method::CONNECT).uri(target.at().to_string());
    for _ in 0..3 {
        let early = b"GET /admin HTTP/1.1\r\nhost: orders\r\n\r\n";
        let (response, _) = tunnel.send(connect(), early).await.unwrap();
        assert_eq!(response.status(), 403);
    }
    assert_eq!(target.application.count(), 0);
    // Where it is allowed they arrive whole and once.
    let tunnel = target.tunnel("front").await;
    let (response, mut send) = tunnel.send(connect(), b"early ").await.unwrap();
    assert_eq!(response.status(), 200);
    send.send_data("late".into(), true).unwrap();
    let (mut body, mut back) = (response.into_body(), Vec::new());
    while let Some(piece) = body.data().await {
        back.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(back, b"early late");
}

/// A HEADERS frame of literal fields, as no library would send it.
pub(crate) fn headers_frame(stream: u8, fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text);
        }
    }
    let length = u32::try_from(block.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], 1, 4, 0, 0, 0, stream];
    frame.append(&mut block);
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn line_ends_and_forbidden_headers_in_http2_open_nothing() {
    let target = Target::new().await;
    let svid = target.domain.svid(&target.domain.id("shop", "front"));
    let config = foreign(Some(svid), &[HBONE]);
    let authority = target.at().to_string();
    let method: (&[u8], &[u8]) = (b":method", b"CONNECT");
    let good = authority.as_bytes();
    let evil = format!("{authority}\r\nx: y");
    for fields in [
        vec![method, (b":authority", evil.as_bytes())],
        vec![method, (b":authority", good), (b"x", b"y\r\nhost: z")],
        vec![method, (b":authority", good), (b"x\r\ny", b"z")],
        vec![method, (b":authority", good), (b"transfer-encoding", b"chunked")],
        vec![method, (b":authority", good), (b"connection", b"close")],
        vec![method, (b":authority", good), (b":authority", b"127.0.0.3:1")],
        vec![method, (b":authority", good), (b":path", b"/")],
        vec![
            method,
            (b":authority", good),
            (b":protocol", b"websocket"),
            (b":scheme", b"http"),
            (b":path", b"/"),
        ],
        vec![method],
    ] {
        let mut stream = connect(&config, target.at()).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        stream.write_all(&headers_frame(1, &fields)).await.unwrap();
        // Behind it a PING, whose answer says that the head was read; where the connection ends at once, that is well too.
        stream.write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).await.unwrap();
        let mut refused = false;
        let mut head = [0; 9];
        while stream.read_exact(&mut head).await.is_ok() {
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).await.unwrap();
            match head[3] {
                // Of the static table: `:status` 200.
                1 => {
                    assert_ne!(payload.first(), Some(&0x88), "{fields:?} was opened");
                    refused = true;
                }
                3 | 7 => refused = true,
                _ => {}
            }
            if refused {
                break;
            }
        }
        assert!(refused, "{fields:?}");
    }
    assert_eq!(target.application.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_bytes_and_old_tls_are_no_handshake() {
    let target = Target::new().await;
    let mut stream = TcpStream::connect(target.at()).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n{\"verdict\":\"allowed\"}\n")
        .await
        .unwrap();
    let _ = read_end(&mut stream).await;
    let line = target.inbound.reason("handshake-failed").await;
    assert_eq!(line["verdict"], "failed");
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_protocol_versions(&[&rustls::version::TLS12])
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    connect(&Arc::new(config), target.at()).await.unwrap_err();
    assert_eq!(target.application.count(), 0);
}
