//! Exec, attach and port-forward: raw bytes after a verified 101, half-close, large and stalled pipes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nullius_tls::HttpVersions;
use nullius_tunnel::Ended;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    api::{Api, Counted, LAST_WORDS},
    client::{SPDY, WEBSOCKET, get, send, text, upgrade, upgrade_for},
    world::{ADA, World, until},
};

#[tokio::test]
async fn spdy_and_websocket_open_a_pipe_that_closes_each_side_by_itself() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    for (method, headers, token) in
        [("POST", SPDY, "SPDY/3.1"), ("GET", SPDY, "SPDY/3.1"), ("GET", WEBSOCKET, "websocket")]
    {
        let (head, mut pipe) = upgrade(world.http1, method, headers).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let lower = head.to_ascii_lowercase();
        assert!(lower.contains("connection: upgrade\r\n"), "{head}");
        assert!(head.contains(&format!("upgrade: {token}\r\n")), "{head}");
        if token == "websocket" {
            assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
            assert!(head.contains("sec-websocket-protocol: v5.channel.k8s.io"), "{head}");
        } else {
            assert!(head.contains("x-stream-protocol-version: v4.channel.k8s.io"), "{head}");
        }
        assert_eq!(world.live(ADA), 1);
        let mut buffer = [0; 5];
        for word in [b"hello", b"again"] {
            pipe.write_all(word).await.unwrap();
            pipe.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, word);
        }
        // Half a close: what the other side still has to say arrives.
        pipe.shutdown().await.unwrap();
        let mut rest = String::new();
        pipe.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "bye");
        until(|| world.live(ADA) == 0 && api.pipes.load(Ordering::SeqCst) == 0).await;
        let seen = api.last();
        assert_eq!(
            (seen.method.as_str(), &seen.headers["authorization"]),
            (method, &"Bearer token-of-ada".parse().unwrap())
        );
        let report = world.reports.lock().unwrap().pop().unwrap();
        assert_eq!((report.ended, report.to_client), (Ended::Finished, 13));
    }
    assert_eq!(world.gate.refused.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn bytes_sent_right_behind_the_request_reach_the_pipe() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let headers = format!("{SPDY}\r\neager");
    let (head, mut pipe) = upgrade(world.http1, "POST", &headers).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let mut buffer = [0; 7];
    pipe.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"eager\r\n");
}

#[tokio::test]
async fn a_pipe_carries_much_both_ways_at_once_and_a_stalled_one_stalls_nobody() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;

    let (_, mut stalled) = upgrade(world.http1, "POST", SPDY).await;
    let stall = async {
        // The echo comes back to somebody who does not read it, until everything is full.
        let chunk = vec![1; 64 * 1024];
        loop {
            let write = stalled.write_all(&chunk);
            if tokio::time::timeout(Duration::from_millis(500), write).await.is_err() {
                break;
            }
        }
    };
    stall.await;

    let (_, pipe) = upgrade(world.http1, "GET", WEBSOCKET).await;
    let (mut read, mut write) = pipe.into_split();
    let bytes = 64 << 20;
    let writer = tokio::spawn(async move {
        let chunk: Vec<u8> = (0..=255).cycle().take(128 * 1024).collect();
        for _ in 0..bytes / chunk.len() {
            write.write_all(&chunk).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let mut received = 0;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = read.read(&mut buffer).await.unwrap();
        if count == 0 {
            break;
        }
        let whole = received..received + count;
        let right = whole.zip(&buffer).all(|(at, byte)| at >= bytes || *byte == at as u8);
        assert!(right, "bytes changed after {received}");
        received += count;
    }
    writer.await.unwrap();
    assert_eq!(received, bytes + 3);
    assert_eq!(text(send(world.http1, get("/api/v1/pods")).await).await, "hello");
}

#[tokio::test]
async fn a_client_that_vanishes_ends_the_pipe_upstream() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let (_, pipe) = upgrade(world.http1, "POST", SPDY).await;
    until(|| api.pipes.load(Ordering::SeqCst) == 1).await;
    pipe.set_zero_linger().unwrap();
    drop(pipe);
    until(|| api.pipes.load(Ordering::SeqCst) == 0 && world.live(ADA) == 0).await;
}

#[tokio::test]
async fn an_api_server_that_goes_is_heard_to_its_last_byte_by_a_client_that_still_talks() {
    let api = Api::start(HttpVersions::Either).await;
    let agent_read = Arc::new(AtomicUsize::new(0));
    let counted = Counted { dial: api.dial(), read: Arc::clone(&agent_read) };
    let (world, _agent) = World::with_agent(Arc::new(counted)).await;
    for (command, wanted) in [("close", Ended::Finished), ("break", Ended::ServerGone)] {
        let (head, pipe) = upgrade_for(world.http1, "POST", SPDY, command).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let (mut read, mut write) = pipe.into_split();
        agent_read.store(0, Ordering::SeqCst);
        write.write_all(b"g").await.unwrap();
        // The API server has gone when the client begins to talk, and its words wait in hub and agent: what still were
        // in its own system, that would throw away when it hears somebody talk to nobody.
        until(|| api.pipes.load(Ordering::SeqCst) == 0).await;
        until(|| agent_read.load(Ordering::SeqCst) >= LAST_WORDS.len()).await;
        let talk = tokio::spawn(async move {
            while write.write_all(&[b't'; 1024]).await.is_ok() {
                tokio::task::yield_now().await;
            }
        });
        let mut heard = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        // Slower than anybody would wait with a close, so that much is on its way when all was sent.
        let mut pause = tokio::time::interval(Duration::from_millis(40));
        loop {
            pause.tick().await;
            // What is cut short has no clean end.
            match read.read(&mut buffer).await {
                Ok(0) => break,
                Ok(count) => heard.extend_from_slice(&buffer[..count]),
                Err(_) if command == "break" => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(heard == LAST_WORDS, "{command}: {} of {} bytes", heard.len(), LAST_WORDS.len());
        talk.abort();
        let _ = talk.await;
        drop(read);
        until(|| !world.reports.lock().unwrap().is_empty()).await;
        let report = world.reports.lock().unwrap().pop().unwrap();
        assert_eq!((report.ended, report.to_client), (wanted, LAST_WORDS.len() as u64));
        until(|| world.live(ADA) == 0).await;
    }
}

#[tokio::test]
async fn an_upgrade_over_http2_is_refused_clearly() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let mut sender = crate::client::http2(world.http2).await;
    let response =
        crate::client::send_http2(&mut sender, get("/api/v1/namespaces/shop/pods/p/exec")).await;
    assert_eq!(response.status(), 400);
    assert_eq!(text(response).await, "upgrade required");
}
