//! What callers make the node hold: a process of its own, so that nobody else's memory is measured.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

#[allow(dead_code, reason = "shared with tests/it")]
#[path = "../it/world.rs"]
mod world;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Request;
use hyper::{
    body::{Bytes, Frame},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nullius_model::SystemClock;
use nullius_workload::{CgroupRoot, Limits};
use tokio::net::UnixStream;

use world::{Authority, DOMAIN, Node, entry, own_user, registered};

const MIB: usize = 1024 * 1024;
const CONNECTIONS: usize = 64;
const REQUESTS: usize = 100;
/// What the longest request may have.
const LONGEST: usize = 64 * 1024;

/// The beginning of a request, of which the end never comes.
struct Begun(Option<Bytes>);

impl hyper::body::Body for Begun {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
    }
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Begins as many requests as a connection takes, and holds them.
async fn hold(node: &Node, begun: &Bytes, path: &str) -> tokio::task::JoinHandle<()> {
    let stream = UnixStream::connect(&node.socket).await.unwrap();
    let (mut calls, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut all = Vec::new();
    for _ in 0..REQUESTS {
        let request = Request::post(format!("http://node{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Begun(Some(begun.clone())))
            .unwrap();
        if calls.ready().await.is_err() {
            break;
        }
        all.push(tokio::spawn(calls.send_request(request)));
    }
    tokio::spawn(async move {
        for one in all {
            let _ = one.await;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_an_end_fill_no_memory() {
    let authority = Authority::create(DOMAIN, Arc::new(SystemClock));
    let first = registered(&authority, vec![entry("/user", &[&own_user()])]);
    // Whoever has patience has all of these some time.
    let limits = Limits { burst: 1_000_000, requests_per_second: 1_000_000, ..Limits::default() };
    let node = Node::start_with(authority, Some(first), limits, CgroupRoot::default());
    let begun = {
        let length = u32::try_from(LONGEST).unwrap().to_be_bytes();
        let mut bytes = vec![0; LONGEST - 100];
        bytes[1..5].copy_from_slice(&length);
        Bytes::from(bytes)
    };
    let before = resident();
    let service = "/envoy.service.secret.v3.SecretDiscoveryService";
    let mut held = Vec::new();
    for at in 0..CONNECTIONS {
        let call = if at % 2 == 0 { "FetchSecrets" } else { "StreamSecrets" };
        held.push(hold(&node, &begun, &format!("{service}/{call}")).await);
    }
    // As long as a request may take at most: what is held then is held at any time.
    let mut most = 0;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        most = most.max(resident().saturating_sub(before));
    }
    assert!(most < 96 * MIB, "{} MiB", most / MIB);
    held.iter().for_each(tokio::task::JoinHandle::abort);
    println!("held {} MiB at most", most / MIB);
}
