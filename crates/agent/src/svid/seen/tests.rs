#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

use nullius_kube::identity::PodParts;
use nullius_proto::{
    agent_v1::{MeshPartyKind, MeshSide, ReportBatch},
    node_v1::{SeenAttempt, SeenFlow, SeenKind, SeenSide, SeenVerdict},
};

use super::*;
use crate::report::{self, Waiting};

const PROCESS: &str = "00000000000000000000000000000001";

struct Lab {
    sightings: Sightings,
    waiting: Waiting,
    now: Instant,
    millis: i64,
}

/// When the pods are listed, in milliseconds of Unix time.
const BEGUN: i64 = 1_800_000_000_000;

impl Lab {
    fn new() -> Self {
        let (reports, waiting) = report::open();
        let sightings = Sightings::new("dev.example".parse().unwrap(), reports);
        let lab = Self { sightings, waiting, now: Instant::now(), millis: BEGUN };
        lab.hear(News::All(vec![
            pod(
                "u-orders",
                "orders-7d9f8b-x2x",
                "n1",
                "10.0.0.5",
                Some(("ReplicaSet", "orders-7d9f8b")),
            ),
            pod("u-front", "front-0", "n2", "10.0.1.9", Some(("StatefulSet", "front"))),
        ]));
        lab
    }

    fn hear(&self, news: News<PodNews>) {
        self.sightings.pods.write().unwrap().hear(news, self.millis);
    }

    fn tell(&self, node: &str, batch: SeenBatch) -> Result<u64, Status> {
        Ok(self.sightings.take(node, batch, self.now, self.millis)?.number)
    }

    fn told(&self) -> ReportBatch {
        self.waiting.next().unwrap_or_default()
    }
}

fn pod(uid: &str, name: &str, node: &str, address: &str, owner: Option<(&str, &str)>) -> PodNews {
    let parts = PodParts {
        addresses: vec![address.parse().unwrap()],
        labels: [("pod-template-hash".to_owned(), "7d9f8b".to_owned())].into(),
        owner: owner.map(|(kind, name)| (kind.into(), name.into())),
        ..PodParts::default()
    };
    PodNews {
        namespace: "shop".into(),
        name: name.into(),
        uid: uid.into(),
        node: Some(node.into()),
        account: name.split('-').next().unwrap().into(),
        label: None,
        mesh: None,
        is_ended: false,
        is_on_host: false,
        parts: Arc::new(parts),
    }
}

fn kind(peer: &str, address: &str) -> SeenKind {
    SeenKind {
        side: SeenSide::Destination.into(),
        peer_id: peer.to_owned(),
        peer_address: address.to_owned(),
        port: 8080,
        wire: "hbone".to_owned(),
        protocol: "tcp".to_owned(),
        verdict: SeenVerdict::Denied.into(),
        reason: "no-intention".to_owned(),
        ..SeenKind::default()
    }
}

fn flow(pod: &str, kind: SeenKind) -> SeenFlow {
    flow_at(BEGUN, pod, kind)
}

fn flow_at(millis: i64, pod: &str, kind: SeenKind) -> SeenFlow {
    SeenFlow {
        pod: pod.to_owned(),
        kind: Some(kind),
        connections: 2,
        first_millis: millis,
        last_millis: millis,
        ..SeenFlow::default()
    }
}

fn attempt(pod: &str, kind: SeenKind) -> SeenAttempt {
    SeenAttempt {
        pod: pod.to_owned(),
        kind: Some(kind),
        count: 1,
        time_millis: BEGUN,
        ..SeenAttempt::default()
    }
}

fn batch(number: u64, flows: Vec<SeenFlow>, attempts: Vec<SeenAttempt>) -> SeenBatch {
    let process = PROCESS.to_owned();
    SeenBatch { version: 1, process, number, flows, attempts, ..SeenBatch::default() }
}

const FRONT: &str = "spiffe://dev.example/ns/shop/sa/front";

#[test]
fn both_sides_are_named_by_their_top_owner() {
    let lab = Lab::new();
    let told = batch(
        1,
        vec![flow("u-orders", kind(FRONT, "10.0.1.9"))],
        vec![attempt("u-orders", kind(FRONT, "::ffff:10.0.1.9"))],
    );
    assert_eq!(lab.tell("n1", told).unwrap(), 1);
    let told = lab.told();
    let [flow] = told.mesh_flows.as_slice() else { panic!("{told:?}") };
    let (source, destination) = (flow.source.clone().unwrap(), flow.destination.clone().unwrap());
    assert_eq!(flow.side(), MeshSide::Destination);
    assert_eq!((source.owner_kind.as_str(), source.owner_name.as_str()), ("StatefulSet", "front"));
    assert_eq!((source.spiffe_id.as_str(), source.namespace.as_str()), (FRONT, "shop"));
    assert_eq!(
        (destination.owner_kind.as_str(), destination.owner_name.as_str()),
        ("Deployment", "orders")
    );
    assert_eq!((source.pod.as_str(), source.address.as_str()), ("", ""), "flows name no pods");
    let [denial] = told.mesh_denials.as_slice() else { panic!("{told:?}") };
    let source = denial.source.clone().unwrap();
    assert_eq!((source.pod.as_str(), source.address.as_str()), ("front-0", "10.0.1.9"));
    assert_eq!(
        (denial.node.as_str(), denial.destination.clone().unwrap().pod.as_str()),
        ("n1", "orders-7d9f8b-x2x")
    );
}

#[test]
fn a_node_is_believed_of_no_pod_but_its_own() {
    let mut lab = Lab::new();
    lab.millis += 700_000;
    let of = |pod: &str| flow(pod, kind(FRONT, "10.0.1.9"));
    let mut calls = kind("", "10.0.0.5");
    calls.side = SeenSide::Source.into();
    let told = batch(
        1,
        vec![of("u-orders"), of("u-front"), of("u-nobody"), flow("u-orders", calls.clone())],
        vec![attempt("u-orders", calls)],
    );
    lab.tell("n2", told).unwrap();
    let told = lab.told();
    assert_eq!(told.mesh_flows.len(), 1, "its own");
    assert!(told.mesh_denials.is_empty());
    assert_eq!(told.disbelieved_nodes, [("n2".to_owned(), 4)].into());
}

#[test]
fn who_the_other_side_is_counts_by_proof_and_then_by_address() {
    let lab = Lab::new();
    let others = [
        // Proven, and another pod has the address now.
        ("spiffe://dev.example/ns/bank/sa/ledger", "10.0.1.9", MeshPartyKind::Elsewhere, ""),
        ("spiffe://far.example/x", "", MeshPartyKind::Elsewhere, ""),
        // Not proven.
        ("", "10.0.1.9", MeshPartyKind::Pod, "front"),
        ("", "192.0.2.7", MeshPartyKind::Outside, ""),
        ("not an id\n", "", MeshPartyKind::Unspecified, ""),
    ];
    for (number, (id, address, expected, owner)) in (1..).zip(others) {
        let told = batch(number, Vec::new(), vec![attempt("u-orders", kind(id, address))]);
        lab.tell("n1", told).unwrap();
        let denial = lab.told().mesh_denials.remove(0);
        let source = denial.source.unwrap();
        assert_eq!(
            (source.kind(), source.owner_name.as_str()),
            (expected, owner),
            "{id} {address}"
        );
        assert_eq!(source.address, address);
        assert!(source.spiffe_id.is_empty() || source.spiffe_id == id);
    }
}

#[test]
fn a_batch_is_taken_once_whoever_tells_it_how_often() {
    let mut lab = Lab::new();
    let told = |number| batch(number, vec![flow("u-orders", kind(FRONT, "10.0.1.9"))], Vec::new());
    for number in [1, 1, 2, 1, 2] {
        assert_eq!(lab.tell("n1", told(number)).unwrap(), number);
    }
    assert_eq!(lab.told().mesh_flows[0].connections, 4);
    // After a restart it counts anew.
    let other = "f".repeat(32);
    lab.tell("n1", SeenBatch { process: other, ..told(1) }).unwrap();
    assert_eq!(lab.told().mesh_flows[0].connections, 2);
    // Who tells too much waits, and nothing of it counts meanwhile.
    let many = |number| batch(number, vec![flow("u-orders", kind("", "")); MOST], Vec::new());
    let mut number = 3;
    let refused = loop {
        match lab.tell("n1", many(number)) {
            Ok(_) => number += 1,
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert!(lab.tell("n2", batch(1, Vec::new(), Vec::new())).is_ok(), "others do not");
    lab.now += Duration::from_secs(60);
    assert_eq!(lab.tell("n1", many(number)).unwrap(), number);
    for wrong in [
        SeenBatch { process: "x".repeat(32), ..told(9) },
        told(0),
        batch(9, vec![SeenFlow::default(); MOST + 1], Vec::new()),
    ] {
        assert_eq!(lab.tell("n1", wrong).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}

#[test]
fn a_pod_that_is_gone_is_known_for_some_minutes() {
    let lab = Lab::new();
    let job =
        pod("u-job", "backup-28888888-abcde", "n1", "10.0.0.7", Some(("Job", "backup-28888888")));
    lab.hear(News::Put(job.clone()));
    lab.hear(News::Gone(job));
    lab.hear(News::Put(pod("u-new", "new", "n1", "10.0.0.8", None)));
    let told = batch(1, vec![flow("u-job", kind("", "10.0.0.8"))], Vec::new());
    lab.tell("n1", told).unwrap();
    let flow = lab.told().mesh_flows.remove(0);
    let (source, destination) = (flow.source.unwrap(), flow.destination.unwrap());
    assert_eq!(
        (destination.owner_kind.as_str(), destination.owner_name.as_str()),
        ("CronJob", "backup")
    );
    assert_eq!((source.owner_kind.as_str(), source.owner_name.as_str()), ("Pod", "new"));
    let mut pods = lab.sightings.pods.write().unwrap();
    assert!(pods.on_node("u-job", "n1").is_some());
    pods.hear(News::Put(pod("u-late", "late", "n1", "10.0.0.9", None)), BEGUN + 700_000);
    assert!(pods.on_node("u-job", "n1").is_none());
}

#[test]
fn an_address_is_that_of_who_had_it_when_it_happened() {
    let mut lab = Lab::new();
    let evil = pod("u-evil", "evil", "n2", "10.0.1.7", None);
    lab.hear(News::Put(evil.clone()));
    lab.millis += 60_000;
    lab.hear(News::Gone(evil));
    lab.millis += 60_000;
    lab.hear(News::Put(pod("u-ledger", "ledger", "n2", "10.0.1.7", None)));
    lab.millis += 60_000;
    let mut number = 0;
    let mut whose = |first: i64, last: i64| {
        number += 1;
        let flow = SeenFlow {
            last_millis: BEGUN + last * 1_000,
            ..flow_at(BEGUN + first * 1_000, "u-orders", kind("", "10.0.1.7"))
        };
        let attempt = SeenAttempt {
            time_millis: BEGUN + first * 1_000,
            last_millis: BEGUN + last * 1_000,
            ..attempt("u-orders", kind("", "10.0.1.7"))
        };
        lab.tell("n1", batch(number, vec![flow], vec![attempt])).unwrap();
        let told = lab.told();
        let of_flow = told.mesh_flows[0].source.clone().unwrap();
        let of_denial = told.mesh_denials[0].source.clone().unwrap();
        assert_eq!(of_flow.owner_name, of_denial.owner_name);
        (of_denial.kind(), of_denial.pod)
    };
    assert_eq!(whose(10, 40), (MeshPartyKind::Pod, "evil".to_owned()), "told two minutes later");
    assert_eq!(whose(121, 150), (MeshPartyKind::Pod, "ledger".to_owned()));
    for (first, last) in [(80, 90), (10, 90), (10, 150), (90, 150)] {
        assert_eq!(
            whose(first, last),
            (MeshPartyKind::Unspecified, String::new()),
            "{first} {last}"
        );
    }
}

#[test]
fn after_a_start_what_nobody_can_know_accuses_nobody() {
    let mut lab = Lab::new();
    let told = |number| {
        // Of a pod that went before the pods were listed, and from an address that one may have had.
        let calls = vec![
            flow("u-gone", kind("", "192.0.2.7")),
            flow_at(BEGUN - 20_000, "u-orders", kind("", "10.0.3.3")),
        ];
        batch(number, calls, vec![attempt("u-gone", kind("", ""))])
    };
    lab.tell("n1", told(1)).unwrap();
    let first = lab.told();
    assert!(first.disbelieved_nodes.is_empty());
    assert_eq!((first.lost_mesh_flows, first.lost_mesh_denials), (2, 1));
    let [flow] = first.mesh_flows.as_slice() else { panic!("{first:?}") };
    assert_eq!(flow.source.clone().unwrap().kind(), MeshPartyKind::Unspecified);
    lab.tell("n1", batch(2, vec![self::flow("u-front", kind("", ""))], Vec::new())).unwrap();
    assert_eq!(lab.told().disbelieved_nodes["n1"], 1, "it is known to be on another node");
    lab.millis += 601_000;
    lab.tell("n1", told(3)).unwrap();
    assert_eq!(lab.told().disbelieved_nodes["n1"], 2);
}

#[test]
fn pods_that_come_and_go_in_one_namespace_do_not_make_others_forgotten() {
    let mut lab = Lab::new();
    lab.millis += 700_000;
    let ledger =
        PodNews { namespace: "bank".into(), ..pod("u-ledger", "ledger", "n1", "10.0.0.8", None) };
    lab.hear(News::Put(ledger.clone()));
    lab.hear(News::Gone(ledger));
    for number in 0..10_100 {
        lab.millis += 1;
        let uid = format!("u-{number}");
        let churn = PodNews { namespace: "evil".into(), ..pod(&uid, &uid, "n1", "10.0.0.9", None) };
        lab.hear(News::Put(churn.clone()));
        lab.hear(News::Gone(churn));
    }
    let calls = vec![flow("u-ledger", kind("", "")), flow("u-0", kind("", ""))];
    lab.tell("n1", batch(1, calls, Vec::new())).unwrap();
    let told = lab.told();
    assert_eq!(told.mesh_flows.len(), 1);
    assert_eq!(told.mesh_flows[0].destination.clone().unwrap().namespace, "bank");
    assert!(told.disbelieved_nodes.is_empty(), "what is forgotten early accuses nobody");
    assert_eq!(told.lost_mesh_flows, 2);
}

#[test]
fn nobody_writes_a_line_of_their_own() {
    let lab = Lab::new();
    let evil = SeenKind {
        service: "a\nb/c".to_owned(),
        port: 70_000,
        reason: "Allowed!\n".to_owned(),
        rule: "\u{1b}[31m".to_owned(),
        permission: "zz".to_owned(),
        method: "BREW".to_owned(),
        path: format!("/\r\n{}", "x".repeat(9_000)),
        ..kind("", "192.0.2.7")
    };
    let one = SeenAttempt {
        sentence: "a\u{202e}b".to_owned(),
        id: "x".to_owned(),
        ..attempt("u-orders", evil)
    };
    lab.tell("n1", batch(1, Vec::new(), vec![one])).unwrap();
    let denial = lab.told().mesh_denials.remove(0);
    assert_eq!((denial.service.as_str(), denial.port, denial.reason.as_str()), ("", 0, "other"));
    assert_eq!(
        (denial.permission.as_str(), denial.method.as_str(), denial.id.as_str()),
        ("", "(other)", "")
    );
    assert_eq!((denial.rule.as_str(), denial.sentence.as_str()), ("?[31m", "a?b"));
    assert!(denial.path.len() == 400 && denial.path.starts_with("/??x"));
}
