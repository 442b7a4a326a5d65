//! Requests and answers: headers, bodies in both directions, trailers, watches, failures.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use nullius_tls::HttpVersions;
use nullius_tunnel::{AnsweredBy, Class, Dial, Ended, Forward, MAX_UNREAD, Refusal, TunnelBody};

use crate::{
    api::{Absent, Api, Mood, Moody},
    client::{ask, empty, failure, full, get, http1, http2, names, send, send_http2, text},
    world::{ADA, World, cluster, permit, session, until},
};

#[tokio::test]
async fn a_request_reaches_the_api_server_as_the_session_and_nothing_else_of_the_client_does() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let request = ask("GET", "/api/v1/namespaces/shop/pods?limit=5&labelSelector=a%3Db")
        .header("accept", "application/vnd.kubernetes.protobuf")
        .header("accept-encoding", "gzip")
        .header("user-agent", "kubectl/v1.36")
        .header("kubectl-command", "kubectl get")
        .header("cookie", "session=browser")
        .header("x-forwarded-for", "10.0.0.1")
        .header("audit-id", "forged")
        .header("x-custom", "1")
        .body(empty())
        .unwrap();
    let response = send(world.http1, request).await;
    assert_eq!(response.status(), 200);
    assert!(response.headers()["audit-id"].to_str().unwrap().starts_with("audit-"));
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(response.headers()["content-security-policy"], "sandbox");
    let audit_id = response.headers()["audit-id"].clone();
    assert_eq!(text(response).await, "hello");

    let seen = api.last();
    assert_eq!(seen.method, "GET");
    assert_eq!(seen.target, "/api/v1/namespaces/shop/pods?limit=5&labelSelector=a%3Db");
    assert_eq!(
        names(&seen.headers),
        ["accept", "accept-encoding", "audit-id", "authorization", "kubectl-command", "user-agent"]
    );
    assert_eq!(seen.headers["authorization"], "Bearer token-of-ada");
    assert_eq!(seen.headers["audit-id"], audit_id);
    until(|| world.live(ADA) == 0).await;
    let reports = world.reports.lock().unwrap();
    assert_eq!((reports[0].ended.clone(), reports[0].to_client), (Ended::Finished, 5));
}

#[tokio::test]
async fn bodies_go_both_ways_over_every_pair_of_http_versions() {
    for speaks in [HttpVersions::Either, HttpVersions::Http1] {
        let api = Api::start(speaks).await;
        let (world, _agent) = World::with_agent(api.dial()).await;
        let body = Bytes::from((0..300_000u32).map(|byte| byte as u8).collect::<Vec<_>>());
        for round in 0..3 {
            let request = || {
                let sized = ask("POST", "/echo").header("content-type", "application/json");
                sized.body(full(body.clone())).unwrap()
            };
            let over_http1 = send(world.http1, request()).await;
            assert_eq!(over_http1.into_body().collect().await.unwrap().to_bytes(), body);
            let mut sender = http2(world.http2).await;
            let over_http2 = send_http2(&mut sender, request()).await;
            assert_eq!(over_http2.into_body().collect().await.unwrap().to_bytes(), body);
            let chunks = stream::iter(
                body.chunks(7_000)
                    .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))))
                    .collect::<Vec<_>>(),
            );
            let chunked = ask("POST", "/echo").body(StreamBody::new(chunks).boxed()).unwrap();
            let answer = send(world.http1, chunked).await;
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), body, "{round}");
        }
        assert_eq!(world.gate.refused.lock().unwrap().len(), 0);
        assert_eq!(api.count(), 9);
    }
}

#[tokio::test]
async fn trailers_pass_without_what_could_harm() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let mut sender = http2(world.http2).await;
    let response = send_http2(&mut sender, get("/trailers")).await;
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap().clone();
    assert_eq!(names(&trailers), ["x-checksum"]);
    assert_eq!(collected.to_bytes(), "body");
}

#[tokio::test]
async fn a_watch_delivers_each_event_when_it_happens_and_ends_upstream_with_its_client() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let mut response = send(world.http1, get("/api/v1/namespaces/shop/pods?watch=true")).await;
    until(|| api.watches.load(Ordering::SeqCst) == 1).await;
    for event in ["{\"type\":\"ADDED\"}\n", "{\"type\":\"MODIFIED\"}\n"] {
        api.emit(event);
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), event);
    }
    assert_eq!(world.live(ADA), 1);
    drop(response);
    until(|| api.watches.load(Ordering::SeqCst) == 0 && world.live(ADA) == 0).await;
    assert_eq!(world.reports.lock().unwrap()[0].ended, Ended::ClientGone);
}

#[tokio::test]
async fn a_client_that_goes_before_the_answer_cancels_the_request() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let mut sender = http1(world.http1).await;
    let waiting = tokio::spawn(async move { sender.send_request(get("/never")).await.is_ok() });
    until(|| api.count() == 1 && world.live(ADA) == 1).await;
    waiting.abort();
    until(|| world.live(ADA) == 0).await;
}

#[tokio::test]
async fn many_watches_open_further_connections_to_the_api_server() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, agent) = World::with_agent(api.dial()).await;
    let mut sender = http2(world.http2).await;
    let mut second = http2(world.http2).await;
    let mut open = Vec::new();
    for index in 0..240 {
        let sender = if index % 2 == 0 { &mut sender } else { &mut second };
        open.push(send_http2(sender, get("/api/v1/pods?watch=1")).await);
    }
    until(|| api.watches.load(Ordering::SeqCst) == 240).await;
    assert_eq!(api.connections.load(Ordering::SeqCst), 3);
    assert_eq!(agent.agent.streams(), 240);
    drop(open);
    until(|| api.watches.load(Ordering::SeqCst) == 0 && world.live(ADA) == 0).await;
    until(|| api.connections.load(Ordering::SeqCst) == 1).await;
    assert_eq!(agent.agent.streams(), 0);
}

/// Bytes that hub, agent and sockets may hold of one stream that nobody reads.
const IN_FLIGHT: u64 = 24 << 20;

#[tokio::test]
async fn a_reader_that_stalls_holds_no_body_in_memory_and_stalls_nobody_else() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let bytes: u64 = 256 << 20;
    let stalled = send(world.http1, get(&format!("/big?bytes={bytes}"))).await;
    let before = || api.produced.load(Ordering::SeqCst);
    let mut last = 0;
    // Until nothing more moves.
    until(|| std::mem::replace(&mut last, before()) == before() && before() > 0).await;
    assert!(before() < IN_FLIGHT, "{} bytes are in flight", before());

    let began = Instant::now();
    for _ in 0..50 {
        assert_eq!(text(send(world.http1, get("/api/v1/pods")).await).await, "hello");
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(before() < IN_FLIGHT, "{} bytes are in flight", before());

    let mut read = 0;
    let mut body = stalled.into_body();
    while let Some(frame) = body.frame().await {
        read += frame.unwrap().data_ref().map_or(0, |data| data.len() as u64);
    }
    assert_eq!(read, bytes);
}

#[tokio::test]
async fn a_large_upload_arrives_whole() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let chunk = Bytes::from(vec![7; 256 * 1024]);
    let frames = stream::iter((0..1024).map(move |_| Ok(Frame::data(chunk.clone()))));
    let request = ask("PUT", "/sink").body(StreamBody::new(frames).boxed()).unwrap();
    let mut sender = http2(world.http2).await;
    let response = send_http2(&mut sender, request).await;
    assert_eq!(text(response).await, (256u64 << 20).to_string());
}

#[tokio::test]
async fn what_cannot_be_served_says_why() {
    let world = World::start().await;
    let status = failure(send(world.http1, get("/api/v1/pods")).await, 503).await;
    assert!(status.message.contains("cluster `dev` has no agent connected"), "{}", status.message);
    assert_eq!(status.reason, "ServiceUnavailable");

    let agent = world.agent(Arc::new(Absent), 7);
    agent.connect(Class::Small, 1).await;
    world.attached(1).await;
    let status = failure(send(world.http1, get("/api/v1/pods")).await, 503).await;
    assert!(status.message.contains("API server of cluster `dev`"), "{}", status.message);
    let head = ask("HEAD", "/api/v1/pods").body(empty()).unwrap();
    let mut sender = http2(world.http2).await;
    let response = send_http2(&mut sender, head).await;
    assert_eq!((response.status().as_u16(), text(response).await.as_str()), (503, ""));
    let mut request = get("/api/v1/pods");
    request.headers_mut().insert("authorization", "Bearer eve".parse().unwrap());
    failure(send(world.http1, request).await, 401).await;
}

#[tokio::test]
async fn a_head_request_has_no_body_and_an_empty_answer_ends() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, _agent) = World::with_agent(api.dial()).await;
    let mut sender = http1(world.http1).await;
    for _ in 0..2 {
        let head = ask("HEAD", "/healthz").body(empty()).unwrap();
        let response = sender.send_request(head).await.unwrap();
        assert_eq!((response.status().as_u16(), text(response).await.as_str()), (200, ""));
        sender.ready().await.unwrap();
    }
}

#[tokio::test]
async fn what_an_api_server_did_not_process_is_sent_again_and_nothing_else() {
    let post = |text: String| ask("POST", "/echo").body(full(text)).unwrap();
    let moody = Moody::new(Mood::RefusesFirst);
    let (world, _agent) = World::with_agent(Arc::clone(&moody) as Arc<dyn Dial>).await;
    assert_eq!(text(send(world.http1, post("short".to_owned())).await).await, "short");
    assert_eq!(moody.served.load(Ordering::SeqCst), 1);

    let moody = Moody::new(Mood::RefusesFirst);
    let (world, _agent) = World::with_agent(Arc::clone(&moody) as Arc<dyn Dial>).await;
    let long = post("x".repeat(65_000).repeat(2));
    failure(send(world.http1, long).await, 503).await;
    assert_eq!(moody.served.load(Ordering::SeqCst), 0);

    let moody = Moody::new(Mood::GoesAway);
    let (world, _agent) = World::with_agent(Arc::clone(&moody) as Arc<dyn Dial>).await;
    for round in 0..20 {
        let said = text(send(world.http1, post(round.to_string())).await).await;
        assert_eq!(said, round.to_string());
    }
    assert_eq!(moody.served.load(Ordering::SeqCst), 20);
    assert!(moody.connections.load(Ordering::SeqCst) > 10);

    let moody = Moody::new(Mood::Breaks);
    let (world, _agent) = World::with_agent(Arc::clone(&moody) as Arc<dyn Dial>).await;
    let status = failure(send(world.http1, get("/api/v1/pods")).await, 503).await;
    assert!(status.message.contains("see whether it took effect"), "{}", status.message);
    assert_eq!(moody.served.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_hub_knows_who_answered_and_hears_the_end_once() {
    let api = Api::start(HttpVersions::Either).await;
    let world = World::start().await;
    let ask = async |target: &'static str, asked: &'static str| {
        let permit = permit(ADA, "GET", target);
        let reports = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&reports);
        let forward = Forward {
            permit: &permit,
            mark: world.tunnels.mark(),
            audit_id: &"a-1".parse().unwrap(),
            assert: world.assert.as_ref(),
            on_end: Some(Box::new(move |report| heard.lock().unwrap().push(report.ended))),
            on_cut: None,
        };
        let request = http::Request::builder().uri(asked).body(TunnelBody::empty()).unwrap();
        let response = world.tunnels.forward(forward, request).await;
        let by = *response.extensions().get::<AnsweredBy>().unwrap();
        let refusal = response.extensions().get::<Refusal>().map(Refusal::code);
        response.into_body().collect().await.unwrap();
        let ended = reports.lock().unwrap().clone();
        (by, refusal, ended)
    };
    let no_agent = ask("/hostile", "/hostile").await;
    assert_eq!(no_agent, (AnsweredBy::Hub, Some(503), vec![Ended::Refused]));
    let agent = world.agent(Arc::new(Absent), 7);
    agent.connect(Class::Small, 1).await;
    world.attached(1).await;
    let unreachable = ask("/hostile", "/hostile").await;
    assert_eq!(unreachable, (AnsweredBy::Agent, None, vec![Ended::Finished]));
    world.tunnels.disconnect(&cluster());
    let agent = world.agent(api.dial(), 8);
    agent.connect(Class::Small, 1).await;
    until(|| world.tunnels.agents(&cluster()).iter().any(|view| view.instance == agent.instance))
        .await;
    world.attached(1).await;
    let answered = ask("/hostile", "/hostile").await;
    assert_eq!(answered, (AnsweredBy::ApiServer, None, vec![Ended::Finished]));
    // The permit is for that request and no other.
    let other = ask("/hostile", "/api/v1/secrets").await;
    assert_eq!(other, (AnsweredBy::Hub, Some(403), vec![Ended::Refused]));
    let other = ask("/hostile", "/hostile?x=1").await;
    assert_eq!(other, (AnsweredBy::Hub, Some(403), vec![Ended::Refused]));
    assert_eq!(api.count(), 1);
}

#[tokio::test]
async fn a_session_that_leaves_much_unread_loses_streams_before_it_costs_others_anything() {
    let api = Api::start(HttpVersions::Either).await;
    let (world, agent) = World::with_agent(api.dial()).await;
    let target = "/api/v1/namespaces/shop/services/web/proxy/big?bytes=1000000000";
    let mut of_bob = get("/api/v1/pods?watch=true");
    of_bob.headers_mut().insert("authorization", "Bearer bob".parse().unwrap());
    let mut of_bob = send(world.http1, of_bob).await;
    let mut stalled = Vec::new();
    for _ in 0..30 {
        stalled.push(send(world.http1, get(target)).await);
    }
    until(|| !world.reports.lock().unwrap().is_empty()).await;
    assert_eq!(world.reports.lock().unwrap()[0].ended, Ended::Unread);
    // How many streams that takes depends on how full each is; the bytes are what is promised.
    assert!(world.live(ADA) < stalled.len());
    until(|| world.tunnels.unread(&session(ADA)) <= MAX_UNREAD).await;
    assert!(world.tunnels.unread(&session(ADA)) > MAX_UNREAD / 2, "no more is cut than it takes");
    until(|| agent.agent.streams() == world.live(ADA) as u64 + 1).await;
    api.emit("still here");
    let frame = of_bob.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "still here");
    drop(stalled);
    until(|| world.live(ADA) == 0).await;
    assert_eq!(text(send(world.http1, get("/api/v1/pods")).await).await, "hello");
}
