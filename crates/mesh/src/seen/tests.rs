#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

use std::net::SocketAddr;

use nullius_model::Reason;
use nullius_proto::node_v1::{SeenBatch, SeenReceipt, SeenSide, SeenVerdict};
use serde_json::Value;

use super::*;
use crate::{
    AccessLogTo, AccessLogWriter, Why,
    access_log::{Asked, Attempt},
};

const DENIED: Why = Why::Decided(Reason::NoIntention);
const ALLOWED: Why = Why::Decided(Reason::IntentionMatched);

struct Lab {
    seen: Arc<Seen>,
    metrics: Metrics,
    writer: AccessLogWriter,
    file: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.log");
        let (log, writer) = AccessLog::open(&AccessLogTo::File(file.clone())).unwrap();
        let metrics = Metrics::new();
        let seen = Seen::new(log, &metrics);
        Self { seen, metrics, writer, file, _folder: folder }
    }

    fn pod(&self, name: &str) -> Arc<Witness> {
        self.seen.workload(&format!("uid-{name}"), format!("shop/{name}").into(), Neighbours::Some)
    }

    fn flows(&self) -> Vec<SeenFlow> {
        self.seen.begin_round();
        std::iter::repeat_with(|| self.seen.take_flows(20_000))
            .take_while(|taken| !taken.is_empty())
            .flatten()
            .collect()
    }

    fn lines(self) -> Vec<Value> {
        drop(self.seen);
        self.writer.finish();
        let text = std::fs::read_to_string(self.file).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn inbound(pod: &Arc<Witness>, from: [u8; 4], port: u16) -> Attempt {
    let client = SocketAddr::from((from, 40_000));
    let mut attempt = Attempt::begin(pod, Direction::Inbound, &Arc::clone(&pod.name), client);
    attempt.address = Some(SocketAddr::from(([10, 0, 0, 5], port)));
    attempt
}

#[test]
fn who_is_flooded_takes_nothing_from_a_neighbour() {
    let lab = Lab::new();
    let (flooded, quiet) = (lab.pod("flooded"), lab.pod("quiet"));
    for turn in 0..20_000_u32 {
        let [.., high, low] = turn.to_be_bytes();
        let port = u16::try_from(turn % 2_000).unwrap();
        inbound(&flooded, [10, 1, high, low], port).denied(DENIED);
        if turn % 1_000 == 0 {
            inbound(&quiet, [10, 9, 9, 9], 80).denied(Why::MustProve);
        }
    }
    inbound(&quiet, [10, 9, 9, 9], 81).denied(DENIED);
    let (attempts, lost) = lab.seen.take_attempts(1 << 20);
    let of = |uid: &str| attempts.iter().filter(|it| it.pod == uid).count();
    assert_eq!(of("uid-quiet"), 2, "one of each kind, at once");
    assert!(of("uid-flooded") <= 64 && lost > 0, "{} {lost}", of("uid-flooded"));
    // What is said of both is in turns: a small batch has something of each.
    let flows = lab.flows();
    let sum =
        |uid: &str| flows.iter().filter(|it| it.pod == uid).map(|it| it.connections).sum::<u64>();
    assert_eq!((sum("uid-flooded"), sum("uid-quiet")), (20_000, 21), "nothing is uncounted");
    assert!(flows.len() < 1_000, "{}", flows.len());
    lab.seen.finish();
    let lines = {
        drop((flooded, quiet));
        lab.lines()
    };
    let named = |name: &str| lines.iter().filter(|it| it["name"] == *name).collect::<Vec<_>>();
    let all = named("shop/quiet");
    assert_eq!(all.len(), 21);
    assert!(all.iter().all(|line| line["verdict"] == "denied" && line["lost"].is_null()));
    let all = named("shop/flooded");
    let count = |line: &&Value| match (&line["lost"], &line["count"]) {
        (Value::Null, Value::Null) => 1,
        (Value::Null, count) => count.as_u64().unwrap(),
        (lost, _) => lost.as_u64().unwrap(),
    };
    assert!(all.len() < 2_500, "{}", all.len());
    assert_eq!(all.iter().map(count).sum::<u64>(), 20_000, "each is in a line, a count or a loss");
    let lost = all.iter().find(|line| !line["lost"].is_null()).unwrap();
    assert_eq!(lost["direction"], "inbound");
}

#[test]
fn sums_are_exact_whoever_counts_at_the_same_time() {
    let lab = Lab::new();
    let pod = lab.pod("orders");
    let (mut connections, mut bytes) = (0, 0);
    let mut add = |flows: Vec<SeenFlow>| {
        connections += flows.iter().map(|it| it.connections).sum::<u64>();
        bytes += flows.iter().map(|it| it.bytes_to_destination).sum::<u64>();
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4_u8)
            .map(|thread| {
                let pod = Arc::clone(&pod);
                scope.spawn(move || {
                    for turn in 0..2_000 {
                        let mut attempt = inbound(&pod, [10, 0, thread, 9], 80 + turn % 7);
                        attempt.allowed(ALLOWED);
                        attempt.moved.to_destination.fetch_add(3, Ordering::Relaxed);
                        attempt.ended(crate::End::Closed);
                    }
                })
            })
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            add(lab.flows());
            lab.seen.tick();
        }
    });
    add(lab.flows());
    assert_eq!((connections, bytes), (8_000, 24_000));
    let text = lab.metrics.render();
    for line in [
        "nullius_mesh_decisions_total{verdict=\"allowed\",direction=\"inbound\",reason=\"intention-matched\"} 8000",
        "nullius_mesh_bytes_total{direction=\"inbound\",to=\"destination\"} 24000",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn both_directions_are_told_as_they_were_seen() {
    let lab = Lab::new();
    let pod = lab.pod("orders");
    let peer: nullius_model::SpiffeId = "spiffe://dev.example/ns/shop/sa/front".parse().unwrap();
    let mut called = inbound(&pod, [10, 0, 0, 9], 8080);
    called.source = Some(peer.clone());
    called.wire = Some("hbone");
    called.asked = Some(Asked::new(&http::Method::GET, b"/orders/42?card=4111"));
    called.denied(DENIED);
    drop(called);
    let mut calls = Attempt::begin(
        &pod,
        Direction::Outbound,
        &"shop/orders".into(),
        SocketAddr::from(([10, 0, 0, 5], 50_000)),
    );
    calls.service = Some("bank/ledger".into());
    calls.address = Some(SocketAddr::from(([10, 96, 0, 1], 443)));
    calls.failed(Why::NoEndpoint, None);
    drop(calls);
    let (attempts, lost) = lab.seen.take_attempts(1 << 20);
    let [denied] = attempts.as_slice() else { panic!("{attempts:?}") };
    let kind = denied.kind.clone().unwrap();
    assert_eq!((kind.side(), kind.verdict()), (SeenSide::Destination, SeenVerdict::Denied));
    assert_eq!((kind.peer_id.as_str(), kind.peer_address.as_str()), (peer.as_str(), "10.0.0.9"));
    assert_eq!((kind.method.as_str(), kind.path.as_str(), kind.port), ("GET", "/orders/42", 8080));
    assert_eq!((denied.pod.as_str(), denied.count, lost), ("uid-orders", 1, 0));
    let flows = lab.flows();
    let kinds: Vec<_> = flows.iter().map(|it| it.kind.clone().unwrap()).collect();
    assert_eq!((kinds[0].path.as_str(), kinds[0].protocol.as_str()), ("/orders/{}", "http"));
    assert_eq!((flows[0].requests, flows[0].connections), (1, 0));
    assert_eq!(flows[0].sample, denied.id, "a flow names an attempt");
    assert_eq!((kinds[1].side(), kinds[1].verdict()), (SeenSide::Source, SeenVerdict::Failed));
    assert_eq!(
        (kinds[1].service.as_str(), kinds[1].peer_address.as_str()),
        ("bank/ledger", ""),
        "a Service's own address is nobody's"
    );
    let id = denied.id.clone();
    drop(pod);
    assert_eq!(lab.lines()[0]["id"], *id, "and its line the same");
}

#[test]
fn a_pod_that_is_gone_is_told_to_its_end_and_then_forgotten() {
    let lab = Lab::new();
    let pod = lab.pod("job");
    let mut attempt = inbound(&pod, [10, 0, 0, 9], 80);
    attempt.allowed(ALLOWED);
    attempt.moved.to_source.fetch_add(9, Ordering::Relaxed);
    drop(pod);
    assert_eq!(lab.flows()[0].bytes_to_source, 9);
    assert_eq!(lab.seen.all().len(), 1, "its connection lives");
    attempt.cut(Why::MustProve);
    drop(attempt);
    let (attempts, _) = lab.seen.take_attempts(1 << 20);
    assert_eq!(attempts[0].kind.clone().unwrap().reason, "must-prove", "a cut is told");
    assert!(lab.flows().is_empty());
    assert!(lab.seen.all().is_empty());
}

#[test]
fn a_cut_is_told_by_its_own_id_and_names_the_call_that_it_ends() {
    let lab = Lab::new();
    let pod = lab.pod("orders");
    let mut attempt = inbound(&pod, [10, 0, 0, 9], 80);
    attempt.told = Some(crate::judge::Told {
        is_recorded: true,
        permission: None,
        shadow: None,
        explanation: nullius_model::Explanation::new(Reason::IntentionMatched, "it may".to_owned()),
    });
    attempt.allowed(ALLOWED);
    let (begun, _) = lab.seen.take_attempts(1 << 20);
    attempt.cut(DENIED);
    drop(attempt);
    let (ended, _) = lab.seen.take_attempts(1 << 20);
    let ([begun], [ended]) = (begun.as_slice(), ended.as_slice()) else {
        panic!("{begun:?} {ended:?}")
    };
    assert_eq!((begun.of.as_str(), &ended.of), ("", &begun.id));
    assert_ne!(ended.id, begun.id);
    let verdict = |it: &SeenAttempt| it.kind.clone().unwrap().verdict();
    assert_eq!((verdict(begun), verdict(ended)), (SeenVerdict::Allowed, SeenVerdict::Denied));
    assert_eq!(lab.flows().iter().map(|it| it.connections).sum::<u64>(), 1, "it is one call");
    drop(pod);
    assert_eq!(lab.lines()[0]["id"], *begun.id);
}

#[test]
fn pods_that_come_and_go_while_nobody_hears_take_bounded_room_and_are_counted() {
    let lab = Lab::new();
    let jobs = GONE + 200;
    for job in 0..jobs {
        let pod = lab.pod(&job.to_string());
        inbound(&pod, [10, 0, 0, 9], 80).denied(DENIED);
    }
    assert!(lab.seen.all().len() <= GONE + 1, "{}", lab.seen.all().len());
    let (mut told, mut lost) = (0, 0);
    loop {
        let (attempts, more) = lab.seen.take_attempts(1 << 20);
        told += attempts.iter().map(|it| it.count).sum::<u64>();
        lost += more;
        if attempts.is_empty() {
            break;
        }
    }
    let all = u64::try_from(jobs).unwrap();
    assert_eq!(told + lost, all);
    let calls = lab.flows().iter().map(|it| it.connections).sum::<u64>();
    assert_eq!(calls + lab.seen.take_lost_calls(), all);
    assert!(told > 900 && calls > 900, "the newest are told: {told} {calls}");
}

/// An agent that takes a number once, and whose receipts a test may lose.
#[derive(Clone)]
struct Agent {
    taken: Arc<Mutex<Vec<SeenBatch>>>,
    receipts: Arc<Mutex<Receipts>>,
}

#[derive(Default)]
struct Receipts {
    /// What becomes of the next ones: taken and lost, or refused.
    lost: usize,
    refused: usize,
    tries: usize,
}

impl Hears for Agent {
    async fn tell(&self, batch: SeenBatch) -> Result<SeenReceipt, Unheard> {
        let mut receipts = self.receipts.lock().unwrap();
        receipts.tries += 1;
        if receipts.refused > 0 {
            receipts.refused -= 1;
            return Err(Unheard::Refused("no".to_owned()));
        }
        let number = batch.number;
        let mut taken = self.taken.lock().unwrap();
        if taken.last().is_none_or(|last| last.number < number) {
            taken.push(batch);
        }
        if receipts.lost > 0 {
            receipts.lost -= 1;
            return Err(Unheard::NotNow("the connection broke".to_owned()));
        }
        Ok(SeenReceipt { number })
    }
}

#[tokio::test(start_paused = true)]
async fn receipts_that_are_lost_lose_nothing_and_double_nothing() {
    let lab = Lab::new();
    let pod = lab.pod("orders");
    let receipts = Receipts { lost: 3, ..Receipts::default() };
    let agent = Agent { taken: Arc::default(), receipts: Arc::new(Mutex::new(receipts)) };
    let stop = tokio_util::sync::CancellationToken::new();
    let teller = Teller::new(agent.clone(), Arc::clone(&lab.seen));
    let telling = tokio::spawn(teller.run(stop.clone()));
    let mut connections = 0;
    for minute in 0..5_u16 {
        for port in 0..300 {
            inbound(&pod, [10, 0, 0, 9], 1_000 + port).allowed(ALLOWED);
            connections += 1;
        }
        if minute == 3 {
            agent.receipts.lock().unwrap().lost = 5;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    inbound(&pod, [10, 0, 0, 9], 1).denied(DENIED);
    inbound(&pod, [10, 0, 0, 9], 1).denied(DENIED);
    stop.cancel();
    telling.await.unwrap();
    let taken = agent.taken.lock().unwrap();
    let numbers: Vec<u64> = taken.iter().map(|batch| batch.number).collect();
    assert_eq!(numbers, (1..=u64::try_from(taken.len()).unwrap()).collect::<Vec<_>>());
    assert!(agent.receipts.lock().unwrap().tries >= taken.len() + 8);
    let flows = taken.iter().flat_map(|batch| &batch.flows);
    assert_eq!(flows.map(|flow| flow.connections).sum::<u64>(), connections + 2);
    let attempts = taken.iter().flat_map(|batch| &batch.attempts);
    assert_eq!(
        attempts.map(|attempt| attempt.count).sum::<u64>(),
        2,
        "the end waits for no window"
    );
    assert!(taken.iter().all(|batch| nullius_proto::encoded_len(batch) < 48 * 1024));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_never_taken_is_said_to_be_lost() {
    let lab = Lab::new();
    let pod = lab.pod("orders");
    let receipts = Receipts { refused: 1, ..Receipts::default() };
    let agent = Agent { taken: Arc::default(), receipts: Arc::new(Mutex::new(receipts)) };
    inbound(&pod, [10, 0, 0, 9], 1).denied(DENIED);
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();
    Teller::new(agent.clone(), Arc::clone(&lab.seen)).run(stop).await;
    let taken = agent.taken.lock().unwrap();
    let [batch] = taken.as_slice() else { panic!("{taken:?}") };
    assert_eq!((batch.number, batch.lost_attempts, batch.lost_calls), (2, 1, 1));
}
