//! What ends a running stream: logout, a lock on a person or a cluster, an expired right, a changed permission.

use std::{sync::atomic::Ordering, time::Duration};

use http_body_util::BodyExt as _;
use nullius_tls::HttpVersions;
use nullius_tunnel::{Ended, TunnelBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    api::Api,
    client::{SPDY, WEBSOCKET, ask, empty, failure, get, http1, http2, send, send_http2, upgrade},
    world::{ADA, BOB, World, cluster, session, until},
};

const WATCH: &str = "/api/v1/namespaces/shop/pods?watch=true";

#[tokio::test]
async fn a_cut_session_ends_watch_and_exec_at_once_and_leaves_others_alone() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let mut over_http1 = send(world.http1, get(WATCH)).await;
    let mut sender = http2(world.http2).await;
    let mut over_http2 = send_http2(&mut sender, get(WATCH)).await;
    let (_, mut exec) = upgrade(world.http1, "POST", SPDY).await;
    let of_bob = ask("GET", WATCH).body(empty()).unwrap();
    let mut of_bob = {
        let (mut parts, body) = of_bob.into_parts();
        parts.headers.insert("authorization", "Bearer bob".parse().unwrap());
        send(world.http1, http::Request::from_parts(parts, body)).await
    };
    until(|| api.watches.load(Ordering::SeqCst) == 3 && api.pipes.load(Ordering::SeqCst) == 1)
        .await;
    assert_eq!((world.live(ADA), world.live(BOB)), (3, 1));

    world.signed_out.lock().unwrap().insert(ADA);
    assert_eq!(world.tunnels.cut(&session(ADA)), 3);
    let abrupt = over_http1.body_mut().frame().await;
    assert!(abrupt.unwrap().is_err(), "a cut watch must not look like one that ended");
    assert!(over_http2.body_mut().frame().await.unwrap().is_err());
    let mut rest = Vec::new();
    // The socket is closed, by end or by reset.
    let _ = exec.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
    until(|| api.watches.load(Ordering::SeqCst) == 1 && api.pipes.load(Ordering::SeqCst) == 0)
        .await;
    until(|| world.live(ADA) == 0 && world.reports.lock().unwrap().len() == 3).await;
    assert!(world.reports.lock().unwrap().iter().all(|report| report.ended == Ended::Cut));
    failure(send(world.http1, get("/api/v1/pods")).await, 401).await;

    api.emit("still here");
    let frame = of_bob.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "still here");
    assert_eq!(world.live(BOB), 1);
}

#[tokio::test]
async fn an_exec_over_websocket_is_told_why_it_is_cut_between_two_messages() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    // The echo makes messages of the API server of what is sent: one whole, one in the middle.
    let sent: [&[u8]; 2] = [&[0x82, 3, 1, b'h', b'i'], &[0x82, 3, 1, b'h']];
    let mut pipes = Vec::new();
    for sent in sent {
        let (_, mut pipe) = upgrade(world.http1, "GET", WEBSOCKET).await;
        pipe.write_all(sent).await.unwrap();
        let mut echo = vec![0; sent.len()];
        pipe.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, sent);
        pipes.push(pipe);
    }
    assert_eq!(world.tunnels.cut(&session(ADA)), 2);
    let mut said = Vec::new();
    for pipe in &mut pipes {
        let mut rest = Vec::new();
        let _ = pipe.read_to_end(&mut rest).await;
        said.push(rest);
    }
    let [head @ .., _, _, _, _] = &said[0][..] else { panic!("{said:?}") };
    assert_eq!(head[..2], [0x82, 126], "a whole binary message");
    assert_eq!(u16::from_be_bytes([head[2], head[3]]) as usize, head.len() - 4);
    assert_eq!(head[4], 3, "on the error channel");
    let status: serde_json::Value = serde_json::from_slice(&head[5..]).unwrap();
    assert_eq!(status["message"], "the session of ada has ended");
    assert_eq!(status["status"], "Failure");
    assert!(said[0].ends_with(&[0x88, 2, 0x03, 0xe8]), "and a normal close: {said:?}");
    assert!(said[1].is_empty(), "nothing in the middle of a message: {said:?}");
    until(|| world.reports.lock().unwrap().len() == 2).await;
    assert!(world.reports.lock().unwrap().iter().all(|report| report.ended == Ended::Cut));
}

#[tokio::test]
async fn a_cut_reaches_the_api_server_though_the_client_does_not_read() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, agent) = World::with_agent(api.dial()).await;
    let stalled = send(world.http1, get("/big?bytes=268435456")).await;
    let mut last = 0;
    let produced = || api.produced.load(Ordering::SeqCst);
    until(|| std::mem::replace(&mut last, produced()) == produced() && produced() > 0).await;
    assert_eq!(agent.agent.streams(), 1);
    world.tunnels.cut(&session(ADA));
    until(|| agent.agent.streams() == 0).await;
    assert!(stalled.into_body().collect().await.is_err());
}

#[tokio::test]
async fn a_cut_answers_a_request_that_still_waits() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, agent) = World::with_agent(api.dial()).await;
    let mut sender = http1(world.http1).await;
    let waiting = tokio::spawn(async move { sender.send_request(get("/never")).await.unwrap() });
    until(|| api.count() == 1).await;
    let user = "ada".parse().unwrap();
    assert_eq!(world.tunnels.cut_all_of(&user), 1);
    let status = failure(waiting.await.unwrap(), 401).await;
    assert!(status.message.contains("nullius login"), "{}", status.message);
    until(|| agent.agent.streams() == 0).await;
}

#[tokio::test]
async fn clusters_people_and_permissions_can_be_cut() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let permission = crate::world::permit(ADA, "GET", WATCH).permission().cloned().unwrap();
    for cut in 0..4 {
        let mut watch = send(world.http1, get(WATCH)).await;
        until(|| api.watches.load(Ordering::SeqCst) == 1).await;
        let ended = match cut {
            0 => world.tunnels.cut_cluster(&cluster()),
            1 => world.tunnels.cut_all_of(&"ada".parse().unwrap()),
            2 => world.tunnels.cut_permission(&permission),
            _ => world.tunnels.cut_where(|owner| owner.user.is_some()),
        };
        assert_eq!(ended, 1, "{cut}");
        assert!(watch.body_mut().frame().await.unwrap().is_err());
        until(|| api.watches.load(Ordering::SeqCst) == 0).await;
    }
    assert_eq!(world.tunnels.cut_cluster(&"prod".parse().unwrap()), 0);
}

#[tokio::test]
async fn the_agent_can_cut_too() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, agent) = World::with_agent(api.dial()).await;
    let mut watch = send(world.http1, get(WATCH)).await;
    let (_, mut exec) = upgrade(world.http1, "POST", SPDY).await;
    until(|| agent.agent.live(&session(ADA)) == 2).await;
    assert_eq!(agent.agent.cut(&session(ADA)), 2);
    assert!(watch.body_mut().frame().await.unwrap().is_err());
    let mut rest = Vec::new();
    let _ = exec.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
    until(|| api.watches.load(Ordering::SeqCst) == 0 && api.pipes.load(Ordering::SeqCst) == 0)
        .await;
    until(|| world.live(ADA) == 0).await;
}

#[tokio::test]
async fn a_request_decided_before_a_cut_is_not_forwarded_after_it() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let permit = crate::world::permit(ADA, "GET", WATCH);
    let mark = world.tunnels.mark();
    world.tunnels.cut(&session(ADA));
    let request = http::Request::builder().uri(WATCH).body(TunnelBody::empty()).unwrap();
    let audit_id = "a".parse().unwrap();
    let forward = nullius_tunnel::Forward {
        permit: &permit,
        mark,
        audit_id: &audit_id,
        assert: world.assert.as_ref(),
        on_end: None,
        on_cut: None,
    };
    let response = world.tunnels.forward(forward, request).await;
    assert_eq!(response.status(), 401);
    tokio::time::timeout(Duration::from_secs(1), async { assert_eq!(api.count(), 0) })
        .await
        .unwrap();
}
