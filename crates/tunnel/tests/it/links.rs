//! Connections of agents: epochs, load, death, drain, versions.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use nullius_model::{InfraId, InstanceId};
use nullius_tls::HttpVersions;
use nullius_tunnel::{AgentState, AttachError, Class, TunnelOptions, Tunnels};

use crate::{
    api::Api,
    client::{SPDY, WEBSOCKET, failure, get, http2, send, send_http2, text, upgrade},
    world::{ADA, World, cluster, until},
};

const WATCH: &str = "/api/v1/pods?watch=true";

#[tokio::test]
async fn long_streams_and_short_requests_use_connections_of_their_own() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let _watch = send(world.http1, get(WATCH)).await;
    let _exec = upgrade(world.http1, "GET", WEBSOCKET).await;
    let load = |class| {
        let agents = world.tunnels.agents(&cluster());
        agents.iter().find(|agent| agent.class == class).unwrap().streams
    };
    assert_eq!((load(Class::Small), load(Class::Bulk)), (0, 2));
    let mut sender = http2(world.http2).await;
    let _body = send_http2(&mut sender, get("/big?bytes=100000000")).await;
    assert_eq!((load(Class::Small), load(Class::Bulk)), (1, 2));
}

#[tokio::test]
async fn several_agents_share_the_load() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _first) = World::with_agent(api.dial()).await;
    let second = world.agent(api.dial(), 8);
    second.connect(Class::Bulk, 1).await;
    world.attached(3).await;
    let mut sender = http2(world.http2).await;
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(send_http2(&mut sender, get(WATCH)).await);
    }
    for agent in world.tunnels.agents(&cluster()) {
        assert_eq!(agent.streams, if agent.class == Class::Bulk { 5 } else { 0 });
    }
}

#[tokio::test]
async fn a_newer_epoch_takes_over_and_an_older_one_never_comes_back() {
    let api = Api::start(HttpVersions::Either).await;
    let world = World::start().await;
    let agent = world.agent(api.dial(), 7);
    agent.connect(Class::Bulk, 5).await;
    world.attached(1).await;
    let mut running = send(world.http1, get(WATCH)).await;

    agent.connect(Class::Bulk, 6).await;
    world.attached(2).await;
    let states: Vec<(u64, AgentState)> =
        world.tunnels.agents(&cluster()).iter().map(|agent| (agent.epoch, agent.state)).collect();
    assert_eq!(states, [(5, AgentState::Draining), (6, AgentState::Serving)]);
    assert_eq!(text(send(world.http1, get("/api/v1/pods")).await).await, "hello");
    api.emit("still runs");
    let frame = running.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "still runs");

    drop(running);
    world.attached(1).await;

    // A replayed older epoch is refused, also after the newer one has gone.
    let mut older = agent.connect(Class::Small, 5).await;
    older.ended().await;
    world.tunnels.disconnect(&cluster());
    world.attached(0).await;
    let mut older = agent.connect(Class::Small, 5).await;
    older.ended().await;
    assert_eq!(world.tunnels.agents(&cluster()).len(), 0);
    agent.connect(Class::Small, 6).await;
    world.attached(1).await;
    assert_eq!(world.tunnels.agents(&cluster())[0].instance, agent.instance);
}

#[tokio::test]
async fn an_agent_that_dies_breaks_its_streams_and_the_next_takes_the_requests() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, first) = World::with_agent(api.dial()).await;
    let mut watch = send(world.http1, get(WATCH)).await;
    let (_, mut exec) = upgrade(world.http1, "POST", SPDY).await;
    until(|| first.agent.streams() == 2).await;
    let second = world.agent(api.dial(), 8);
    second.connect(Class::Small, 1).await;
    world.attached(3).await;

    // As a killed process does: its sockets close, and nothing is said.
    first.agent.cut_all();
    world.tunnels.disconnect(&cluster());
    assert!(watch.body_mut().frame().await.unwrap().is_err());
    let mut rest = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut exec, &mut rest).await;
    until(|| world.live(ADA) == 0).await;
    failure(send(world.http1, get("/api/v1/pods")).await, 503).await;
    second.connect(Class::Small, 2).await;
    world.attached(1).await;
    assert_eq!(text(send(world.http1, get("/api/v1/pods")).await).await, "hello");
}

#[tokio::test]
async fn a_request_that_ran_when_the_connection_broke_is_not_sent_again() {
    let api = Api::start(HttpVersions::Either).await;
    let world = World::start().await;
    let agent = world.agent(api.dial(), 7);
    let served = agent.connect(Class::Small, 1).await;
    let other = agent.connect(Class::Bulk, 1).await;
    world.attached(2).await;
    let waiting = tokio::spawn(send(world.http1, get("/never")));
    until(|| api.count() == 1).await;
    served.close();
    let status = failure(waiting.await.unwrap(), 503).await;
    assert!(status.message.contains("see whether it took effect"), "{}", status.message);
    assert_eq!(api.count(), 1);
    drop(other);
}

#[tokio::test]
async fn a_draining_agent_gets_nothing_new_and_finishes_what_runs() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, first) = World::with_agent(api.dial()).await;
    let mut watch = send(world.http1, get(WATCH)).await;
    until(|| api.watches.load(Ordering::SeqCst) == 1).await;
    let second = world.agent(api.dial(), 8);
    second.connect(Class::Small, 1).await;
    second.connect(Class::Bulk, 1).await;
    world.attached(4).await;

    let draining = first.agent.clone();
    let drained = tokio::spawn(async move { draining.drain().await });
    let before = second.agent.streams();
    let mut sender = http2(world.http2).await;
    let mut open = Vec::new();
    for _ in 0..20 {
        let response = send_http2(&mut sender, get(WATCH)).await;
        assert_eq!(response.status(), 200);
        open.push(response);
    }
    until(|| second.agent.streams() == before + 20).await;
    assert_eq!(first.agent.streams(), 1);
    api.emit("last words");
    let frame = watch.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "last words");
    assert!(!drained.is_finished());
    drop(watch);
    drained.await.unwrap();
    world.attached(2).await;
}

#[tokio::test]
async fn a_draining_hub_tells_its_agents_and_waits_for_what_runs() {
    let api = Api::start(HttpVersions::Either).await;
    let world = World::start().await;
    let agent = world.agent(api.dial(), 7);
    let served = agent.connect(Class::Bulk, 1).await;
    world.attached(1).await;
    let (_, exec) = upgrade(world.http1, "POST", SPDY).await;
    let tunnels = world.tunnels.clone();
    let drained = tokio::spawn(async move { tunnels.drain().await });
    served.hub_drains().await;
    failure(send(world.http1, get("/api/v1/pods")).await, 503).await;
    assert!(!drained.is_finished());
    assert_eq!(world.live(ADA), 1);
    drop(exec);
    drained.await.unwrap();
    world.attached(0).await;
}

/// A hub and the far end of a connection that claims to be an agent's.
async fn claim(id: &InfraId, answer: &'static str) -> AttachError {
    let tunnels = Tunnels::new(TunnelOptions::default());
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let mut builder = h2::server::Builder::new();
        let mut connection = builder.enable_connect_protocol().handshake(far).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::OK;
            let mut send = respond.send_response(response, false).unwrap();
            send.send_data(Bytes::from_static(answer.as_bytes()), true).unwrap();
        }
    });
    tunnels.attach(near, id, Class::Small, [0; 32]).await.unwrap_err()
}

#[tokio::test]
async fn who_speaks_another_version_or_is_no_proxy_is_refused() {
    let proxy = InfraId::AgentProxy { cluster: cluster(), instance: InstanceId::from_bits(1) };
    let newer = claim(&proxy, r#"{"version":2,"surprise":true}"#).await;
    assert!(matches!(newer, AttachError::Version { theirs: 2 }), "{newer}");
    let nonsense = claim(&proxy, "hello").await;
    assert!(matches!(nonsense, AttachError::Hello(_)), "{nonsense}");
    let control = InfraId::AgentControl { cluster: cluster(), instance: InstanceId::from_bits(1) };
    let control = claim(&control, "").await;
    assert!(matches!(control, AttachError::NotAProxy(_)), "{control}");
}
