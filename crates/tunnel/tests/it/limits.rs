//! What a client may take: heads in time, of bounded size, and no stream of resets.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use http::Request;
use http_body_util::BodyExt as _;
use nullius_tls::HttpVersions;
use nullius_tunnel::{Class, TunnelOptions};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    api::Api,
    client::{failure, get, http1, http2, raw, send, send_http2, text},
    world::{ADA, World, cluster, until},
};

#[tokio::test]
async fn a_head_that_does_not_end_in_time_ends_the_connection() {
    let world = World::start().await;
    for (address, start, trickled) in [
        (world.http1, &b"GET /clusters/dev/api HTTP/1.1\r\nhost: hub\r\n"[..], &b"x"[..]),
        (world.http1, &b""[..], &b""[..]),
        (world.http2, &b"PRI * HTTP/2.0\r\n"[..], &b""[..]),
    ] {
        let began = Instant::now();
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(start).await.unwrap();
        let mut rest = Vec::new();
        let trickle = async {
            let (mut read, mut write) = tcp.split();
            let read = read.read_to_end(&mut rest);
            let write = async {
                // A byte now and then must not buy more time.
                while write.write_all(trickled).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::select! { _ = read => {}, () = write => {} }
        };
        tokio::time::timeout(Duration::from_secs(60), trickle).await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn an_idle_connection_between_two_requests_is_not_a_slow_one() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let mut sender = http1(world.http1).await;
    for _ in 0..2 {
        let response = sender.send_request(get("/api/v1/pods")).await.unwrap();
        assert_eq!(text(response).await, "hello");
        // Longer than a head may take.
        tokio::time::sleep(Duration::from_millis(900)).await;
        sender.ready().await.unwrap();
    }
}

#[tokio::test]
async fn oversized_and_too_many_headers_are_refused() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let head = "GET /clusters/dev/api HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer ada\r\n";
    let large =
        raw(world.http1, format!("{head}x: {}\r\n\r\n", "a".repeat(70_000)).as_bytes()).await;
    assert!(large.starts_with("HTTP/1.1 431 "), "{large}");
    let many: String = (0..150).map(|index| format!("x-{index}: y\r\n")).collect();
    let many = raw(world.http1, format!("{head}{many}\r\n").as_bytes()).await;
    assert!(many.starts_with("HTTP/1.1 431 "), "{many}");
    let target = format!("/api?x={}", "a".repeat(9_000));
    assert_eq!(send(world.http1, get(&target)).await.status(), 400);
    assert_eq!(api.count(), 0);
}

#[tokio::test]
async fn a_rapid_reset_ends_the_connection_and_serves_the_others() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let mut of_bob = get("/api/v1/pods?watch=true");
    of_bob.headers_mut().insert("authorization", "Bearer bob".parse().unwrap());
    let mut of_bob = send(world.http1, of_bob).await;
    let tcp = TcpStream::connect(world.http2).await.unwrap();
    let (requests, connection) = h2::client::handshake(tcp).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut requests = requests.ready().await.unwrap();
    let mut sent = 0u32;
    let attack = async {
        loop {
            let request = Request::get("http://hub/clusters/dev/never")
                .header("authorization", "Bearer ada")
                .body(())
                .unwrap();
            let Ok((_, mut stream)) = requests.send_request(request, true) else { break };
            stream.send_reset(Reason::CANCEL);
            sent += 1;
            requests = match requests.ready().await {
                Ok(ready) => ready,
                Err(_) => break,
            };
            if sent.is_multiple_of(64) {
                tokio::task::yield_now().await;
            }
            if sent > 200_000 {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(180), attack).await.unwrap();
    assert!(sent < 200_000, "the connection survived {sent} resets");
    let ended = driver.await.unwrap();
    assert_eq!(ended.unwrap_err().reason(), Some(Reason::ENHANCE_YOUR_CALM));
    assert_eq!(text(send(world.http1, get("/api/v1/pods")).await).await, "hello");
    api.emit("still here");
    let frame = of_bob.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "still here");
}

#[tokio::test]
async fn a_person_who_cancels_much_costs_nobody_the_shared_connection() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let mut of_bob = get("/api/v1/pods?watch=true");
    of_bob.headers_mut().insert("authorization", "Bearer bob".parse().unwrap());
    let mut of_bob = send(world.http1, of_bob).await;
    let target = "/api/v1/namespaces/shop/services/web/proxy/big?bytes=10000000";
    for round in 0..300 {
        // On connections of several clients, as one client alone is stopped at the listener.
        let mut sender = http2(world.http2).await;
        let mut response = send_http2(&mut sender, get(target)).await;
        assert_eq!(response.status(), 200, "{round}");
        response.body_mut().frame().await.unwrap().unwrap();
    }
    until(|| world.live(ADA) == 0).await;
    api.emit("still here");
    let frame = of_bob.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "still here");
    assert_eq!(world.tunnels.agents(&cluster()).len(), 2);
}

#[tokio::test]
async fn control_bytes_in_an_http2_header_never_become_header_lines() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    for hostile in ["a\r\nimpersonate-user: root", "a\nx: y", "a\0b", "a\rb"] {
        let mut tcp = TcpStream::connect(world.http2).await.unwrap();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, b""));
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "hub"),
            (":path", "/clusters/dev/api"),
            ("authorization", "Bearer ada"),
            ("kubectl-command", hostile),
        ] {
            literal(&mut block, name, value);
        }
        bytes.extend(frame(1, 0x5, 1, &block));
        tcp.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = async {
            // Until the stream or the connection is refused: RST_STREAM or GOAWAY.
            while !refused(&answer) {
                if tcp.read_buf(&mut answer).await.unwrap() == 0 {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), read).await.unwrap();
    }
    assert_eq!(api.count(), 0);
}

#[tokio::test]
async fn a_session_can_run_so_many_streams_and_no_more() {
    let api = Api::start(HttpVersions::Either).await;
    let world = World::start_with(TunnelOptions { session_streams: 3, ..Default::default() }).await;
    let agent = world.agent(api.dial(), 7);
    agent.connect(Class::Bulk, 1).await;
    world.attached(1).await;
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(send(world.http1, get("/api/v1/pods?watch=1")).await);
    }
    let status = failure(send(world.http1, get("/api/v1/pods?watch=1")).await, 429).await;
    assert_eq!(status.reason, "TooManyRequests");
    let mut of_bob = get("/api/v1/pods");
    of_bob.headers_mut().insert("authorization", "Bearer bob".parse().unwrap());
    assert_eq!(send(world.http1, of_bob).await.status(), 200);
    running.pop();
    until(|| world.live(ADA) == 2).await;
    assert_eq!(send(world.http1, get("/api/v1/pods")).await.status(), 200);
}

#[tokio::test]
async fn a_listener_that_shuts_down_finishes_what_runs() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let mut over_http1 = send(world.http1, get("/api/v1/pods?watch=1")).await;
    let mut sender = http2(world.http2).await;
    let mut over_http2 = send_http2(&mut sender, get("/api/v1/pods?watch=1")).await;
    let mut idle = http1(world.http1).await;
    assert_eq!(text(idle.send_request(get("/api/v1/pods")).await.unwrap()).await, "hello");
    world.shutdown.cancel();
    until(|| idle.is_closed()).await;
    api.emit("last words");
    for watch in [&mut over_http1, &mut over_http2] {
        let frame = watch.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "last words");
    }
    drop((over_http1, over_http2));
    until(|| sender.is_closed()).await;
}

/// An HTTP/2 frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Bytes {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame.into()
}

/// A header field that is not indexed (RFC 7541, section 6.2.2), without compression.
fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap());
        block.extend(text.as_bytes());
    }
}

/// Whether a RST_STREAM or a GOAWAY is among the frames.
fn refused(mut frames: &[u8]) -> bool {
    while frames.len() >= 9 {
        let length = u32::from_be_bytes([0, frames[0], frames[1], frames[2]]) as usize;
        if matches!(frames[3], 3 | 7) {
            return true;
        }
        if frames.len() < 9 + length {
            break;
        }
        frames = &frames[9 + length..];
    }
    false
}
