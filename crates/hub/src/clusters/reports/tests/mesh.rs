//! What `agent identity` tells of the mesh: calls, uses and events of the audit.

use nullius_model::{Calls, MeshVerdict, Plane, Principal, Reason, UseKey};
use nullius_proto::agent_v1::{
    MeshDenial, MeshFlow, MeshParty, MeshPartyKind, MeshShadow, MeshSide,
    MeshVerdict as WireVerdict,
};
use nullius_store::{CallFilter, MeshTold};

use super::*;

fn pod(name: &str) -> MeshParty {
    MeshParty {
        kind: MeshPartyKind::Pod.into(),
        spiffe_id: format!("spiffe://dev.nullius.internal/ns/shop/sa/{name}"),
        namespace: "shop".into(),
        owner_kind: "Deployment".into(),
        owner_name: name.into(),
        ..MeshParty::default()
    }
}

fn outside() -> MeshParty {
    MeshParty { kind: MeshPartyKind::Outside.into(), ..MeshParty::default() }
}

fn flow(verdict: WireVerdict, reason: &str, connections: u64) -> MeshFlow {
    MeshFlow {
        side: MeshSide::Destination.into(),
        source: Some(pod("front")),
        destination: Some(pod("orders")),
        port: 8080,
        wire: "hbone".into(),
        protocol: "tcp".into(),
        verdict: verdict.into(),
        reason: reason.into(),
        permission: format!("{:032x}", 7),
        connections,
        bytes_to_destination: 100,
        sample: "sample-1".into(),
        ..MeshFlow::default()
    }
}

fn denied(id: &str) -> MeshDenial {
    let address = |party: MeshParty, address: &str| MeshParty {
        pod: format!("{}-7d", party.owner_name),
        address: address.into(),
        ..party
    };
    MeshDenial {
        id: id.into(),
        side: MeshSide::Destination.into(),
        source: Some(address(pod("front"), "10.0.0.9")),
        destination: Some(address(pod("orders"), "10.0.0.5")),
        service: "shop/orders".into(),
        port: 8080,
        wire: "hbone".into(),
        verdict: WireVerdict::Denied.into(),
        reason: "no-intention".into(),
        sentence: "no intention says that it may \u{1b}[31m".into(),
        next: "name the source".into(),
        node: "worker-1".into(),
        count: 3,
        ..MeshDenial::default()
    }
}

fn batch(number: u64, flows: Vec<MeshFlow>, denials: Vec<MeshDenial>) -> ReportBatch {
    ReportBatch { number, mesh_flows: flows, mesh_denials: denials, ..Default::default() }
}

impl Joined {
    async fn identity(&self) -> TestAgent {
        self.enrol(AgentRole::Identity, IDENTITY).await
    }

    async fn calls(&self) -> Vec<Calls> {
        let filter = CallFilter {
            cluster: self.lab.cluster.clone(),
            namespace: None,
            namespaces: None,
            verdict: None,
            since: None,
            limit: 10_000,
        };
        self.lab.hub.store().read().await.unwrap().mesh().list(&filter).await.unwrap().0
    }

    async fn told(&self) -> MeshTold {
        let mut reader = self.lab.hub.store().read().await.unwrap();
        reader.mesh().told(&self.lab.cluster).await.unwrap().unwrap()
    }

    async fn mesh_uses(&self) -> Vec<(UseKey, u64)> {
        let mut reader = self.lab.hub.store().read().await.unwrap();
        let uses = reader.usage().list(&UseFilter::default()).await.unwrap();
        let uses = uses.into_iter().filter(|used| used.key.plane == Plane::Mesh);
        uses.map(|used| (used.key, used.count)).collect()
    }
}

#[tokio::test]
async fn flows_are_calls_and_uses_and_denials_events_each_once() {
    let joined = Joined::start().await;
    let agent = joined.identity().await;
    let shadow = MeshShadow {
        verdict: WireVerdict::Denied.into(),
        reason: "no-intention".into(),
        ..MeshShadow::default()
    };
    let by_source = |mut flow: MeshFlow| {
        flow.side = MeshSide::Source.into();
        flow.service = "shop/orders".into();
        flow
    };
    let mut outward = by_source(flow(WireVerdict::Allowed, "not-in-mesh", 2));
    outward.destination = Some(outside());
    let mut refused = by_source(flow(WireVerdict::Denied, "refused-by-destination", 3));
    refused.destination = Some(MeshParty { spiffe_id: String::new(), ..pod("orders") });
    let asked = MeshFlow {
        method: "GET".into(),
        path: "/v1/items/{}".into(),
        requests: 9,
        ..flow(WireVerdict::Allowed, "intention-matched", 0)
    };
    let flows = vec![
        flow(WireVerdict::Allowed, "intention-matched", 5),
        by_source(flow(WireVerdict::Allowed, "intention-matched", 5)),
        MeshFlow { shadow: Some(shadow), ..flow(WireVerdict::Allowed, "permissive", 4) },
        flow(WireVerdict::Denied, "no-intention", 3),
        refused,
        flow(WireVerdict::Failed, "handshake-failed", 1),
        flow(WireVerdict::Allowed, "requests", 6),
        asked,
        outward,
    ];
    let denials = vec![
        denied("denial-1"),
        denied("denial-1"),
        MeshDenial {
            verdict: WireVerdict::Allowed.into(),
            reason: "intention-matched".into(),
            ..denied("allowed-1")
        },
        // Who is refused does not always know as whom the destination has proven itself.
        MeshDenial {
            side: MeshSide::Source.into(),
            destination: Some(MeshParty { spiffe_id: String::new(), ..pod("orders") }),
            reason: "refused-by-destination".into(),
            ..denied("seen-by-both")
        },
    ];
    let first = batch(1, flows, denials.clone());
    let mut reporter = joined.report_by(&agent, 1, Protocol::Identity).await.unwrap();
    assert_eq!(reporter.tell(first.clone()).await.unwrap(), 1);
    // Its receipt was lost: it is told again. Another replica heard of the denials from the same node.
    drop(reporter);
    let mut reporter = joined.report_by(&agent, 2, Protocol::Identity).await.unwrap();
    assert_eq!(reporter.tell(first).await.unwrap(), 1);
    let replica = joined.identity().await;
    let mut other = joined.report_by(&replica, 1, Protocol::Identity).await.unwrap();
    assert_eq!(other.tell(batch(1, vec![], denials)).await.unwrap(), 1);

    let calls = joined.calls().await;
    let count = |verdict| {
        let of = calls.iter().filter(|it| it.key.verdict == verdict);
        of.map(|it| it.connections).collect::<Vec<_>>()
    };
    assert_eq!(count(MeshVerdict::ShadowDenied), [4]);
    assert_eq!(count(MeshVerdict::Denied), [3, 3], "as both ends saw it");
    assert_eq!(count(MeshVerdict::Failed), [1]);
    assert_eq!(count(MeshVerdict::Allowed).iter().sum::<u64>(), 5 + 5 + 6 + 2);

    let uses = joined.mesh_uses().await;
    let of = |action: &str, resource: &str, allowed: bool| {
        let same = |key: &UseKey| {
            (key.action.as_str(), key.resource.as_str(), key.allowed) == (action, resource, allowed)
        };
        uses.iter().filter(|(key, _)| same(key)).map(|(_, count)| *count).collect::<Vec<_>>()
    };
    assert_eq!(
        of("connect", "Deployment/shop/orders:8080", true),
        [5 + 4],
        "once, by its destination"
    );
    assert_eq!(of("connect", "Deployment/shop/orders:8080", false), [3]);
    assert_eq!(of("GET", "Deployment/shop/orders:8080/v1/items/{}", true), [9]);
    assert_eq!(of("connect", "(outside):8080", true), [2]);
    assert_eq!(uses.len(), 4);
    let front = "workload:dev/spiffe://dev.nullius.internal/ns/shop/sa/front";
    assert!(uses.iter().all(|(key, _)| key.principal == front), "by what is proven: {uses:?}");

    let events = joined.events(AuditKind::Mesh).await;
    let [event, audited] = events.as_slice() else { panic!("{events:#?}") };
    assert_eq!(event.audit_id.as_str(), "denial-1");
    assert_eq!(event.outcome, AuditOutcome::Denied);
    let id = "spiffe://dev.nullius.internal/ns/shop/sa/front".parse().unwrap();
    let cluster = joined.lab.cluster.clone();
    assert_eq!(event.principal, Principal::Workload { cluster, id });
    assert_eq!(event.source, "10.0.0.9".parse().ok());
    assert_eq!(event.target.as_deref(), Some("Deployment/shop/orders:8080"));
    let why = event.explanation.as_ref().unwrap();
    assert_eq!(why.reason, Reason::NoIntention);
    assert_eq!(why.sentence, "no intention says that it may \\u{1b}[31m");
    for (name, value) in [
        ("namespace", "shop"),
        ("source-pod", "front-7d"),
        ("destination-pod", "orders-7d"),
        ("count", "3"),
        ("seen-by", "destination"),
        ("node", "worker-1"),
    ] {
        assert_eq!(event.facts[name], value);
    }
    assert_eq!(audited.outcome, AuditOutcome::Done);
    let in_shop = nullius_audit::Filter {
        namespace: Some("shop".into()),
        ..nullius_audit::Filter::default()
    };
    assert!(in_shop.matches(event));
}

#[tokio::test]
async fn a_cluster_speaks_of_its_own_pods_and_in_one_way() {
    let joined = Joined::start().await;
    let agent = joined.identity().await;
    let good = || flow(WireVerdict::Allowed, "intention-matched", 1);
    let party = |change: fn(&mut MeshParty)| {
        let mut told = good();
        let mut party = pod("orders");
        change(&mut party);
        told.destination = Some(party);
        told
    };
    let with = |change: fn(&mut MeshFlow)| {
        let mut told = good();
        change(&mut told);
        told
    };
    let lies = vec![
        party(|it| it.spiffe_id = "spiffe://prod/ns/shop/sa/orders".into()),
        party(|it| it.spiffe_id = "spiffe://dev.nullius.internal/ns/shop/../sa/orders".into()),
        party(|it| it.kind = MeshPartyKind::Outside.into()),
        party(|it| it.kind = MeshPartyKind::Elsewhere.into()),
        party(|it| it.kind = MeshPartyKind::Unspecified.into()),
        party(|it| it.namespace = "Shop".into()),
        with(|it| it.destination = None),
        with(|it| it.side = MeshSide::Unspecified.into()),
        with(|it| it.verdict = WireVerdict::Unspecified.into()),
        with(|it| it.reason = "Not A Word".into()),
        with(|it| it.wire = "a\nb".into()),
        with(|it| it.service = "orders".into()),
        with(|it| it.port = 70_000),
    ];
    let lied = u64::try_from(lies.len()).unwrap();
    let mut foreign = denied("denial-1");
    foreign.destination =
        Some(MeshParty { spiffe_id: "spiffe://prod/ns/shop/sa/orders".into(), ..pod("orders") });
    // Who calls may be of any trust domain: the destination has proven it.
    let mut stranger = denied("denial-2");
    stranger.source = Some(MeshParty {
        kind: MeshPartyKind::Elsewhere.into(),
        spiffe_id: "spiffe://partner.example/web".into(),
        ..MeshParty::default()
    });
    let unproven = MeshDenial {
        source: Some(MeshParty { address: "192.0.2.7".into(), ..outside() }),
        reason: "must-prove".into(),
        ..denied("denial-3")
    };
    let flows = lies.into_iter().chain([good()]).collect();
    let mut reporter = joined.report_by(&agent, 1, Protocol::Identity).await.unwrap();
    let told = batch(1, flows, vec![foreign, stranger, unproven]);
    assert_eq!(reporter.tell(told).await.unwrap(), 1);

    assert_eq!(joined.calls().await.len(), 1);
    assert_eq!(joined.told().await.losses.disbelieved, lied + 1);
    assert!(joined.told().await.incomplete_at.is_some());
    let events = joined.events(AuditKind::Mesh).await;
    let [stranger, unproven, gap] = events.as_slice() else { panic!("{events:#?}") };
    assert_eq!(stranger.principal.label(), "workload:dev/spiffe://partner.example/web");
    assert_eq!(unproven.principal.label(), "unproven:address 192.0.2.7");
    assert_eq!(unproven.explanation.as_ref().unwrap().reason, Reason::MeshRefused);
    assert_eq!(gap.facts["disbelieved-mesh-words"], (lied + 1).to_string());

    // The Audit-ID of something else joins nothing.
    let taken = joined.events(AuditKind::AgentEnrol).await[0].audit_id.clone();
    let told = batch(2, vec![], vec![denied(taken.as_str())]);
    assert_eq!(reporter.tell(told).await.unwrap(), 2);
    let events = joined.events(AuditKind::Mesh).await;
    assert_ne!(events.last().unwrap().audit_id, taken);
}

#[tokio::test]
async fn a_flood_of_denials_does_not_fill_the_audit_and_is_counted() {
    let joined = Joined::start().await;
    let agent = joined.identity().await;
    let mut reporter = joined.report_by(&agent, 1, Protocol::Identity).await.unwrap();
    for number in 1..=4 {
        let denials = (0..500).map(|n| denied(&format!("denial-{number}-{n}"))).collect();
        let flows = vec![flow(WireVerdict::Denied, "no-intention", 1_500)];
        assert_eq!(reporter.tell(batch(number, flows, denials)).await.unwrap(), number);
    }
    let told = joined.told().await;
    let filter = nullius_audit::Filter {
        kind: Some(AuditKind::Mesh),
        outcome: Some(AuditOutcome::Denied),
        limit: Some(1_000),
        ..Default::default()
    };
    let mut reader = joined.lab.hub.store().read().await.unwrap();
    let page = reader.audit().list(&filter, None).await.unwrap();
    let mut written = u64::try_from(page.entries.len()).unwrap();
    if page.next.is_some() {
        let rest = reader.audit().list(&filter, page.next).await.unwrap();
        written += u64::try_from(rest.entries.len()).unwrap();
    }
    // Half of all but what is kept for others: the rest is there for them.
    assert!((900..2_000).contains(&written), "{written}");
    assert_eq!(told.losses.unwritten_denials, (2_000 - written) * 3, "with all they stand for");
    assert_eq!(joined.calls().await[0].connections, 6_000, "the counts stay exact");
    let events = joined.events(AuditKind::Mesh).await;
    assert!(events.iter().any(|event| event.facts.contains_key("unwritten-mesh-denials")));
}

#[tokio::test]
async fn of_who_has_an_owner_that_cannot_be_it_is_known_who_it_is() {
    let joined = Joined::start().await;
    let agent = joined.identity().await;
    let mut denials = Vec::new();
    for (number, (kind, name)) in
        [("a b", "x"), ("Deployment", "a/b"), ("Deployment", "a\u{202e}b"), ("", "")]
            .into_iter()
            .enumerate()
    {
        let mut denial = denied(&format!("denial-{number}"));
        let source = denial.source.as_mut().unwrap();
        (source.owner_kind, source.owner_name) = (kind.into(), name.into());
        denials.push(denial);
    }
    let mut reporter = joined.report_by(&agent, 1, Protocol::Identity).await.unwrap();
    assert_eq!(reporter.tell(batch(1, vec![], denials)).await.unwrap(), 1);
    let events = joined.events(AuditKind::Mesh).await;
    assert_eq!(events.len(), 4);
    for event in events {
        let id = "spiffe://dev.nullius.internal/ns/shop/sa/front";
        assert_eq!(event.principal.label(), format!("workload:dev/{id}"));
        assert_eq!((event.facts["source"].as_str(), event.outcome), (id, AuditOutcome::Denied));
    }
}

#[tokio::test]
async fn a_refusal_of_which_its_destination_says_nothing_is_told_by_its_source() {
    let joined = Joined::start().await;
    let agent = joined.identity().await;
    let by_source = |id: &str, caller: &str| MeshDenial {
        side: MeshSide::Source.into(),
        source: Some(pod(caller)),
        destination: Some(MeshParty { spiffe_id: String::new(), ..pod("orders") }),
        reason: "refused-by-destination".into(),
        ..denied(id)
    };
    let mut reporter = joined.report_by(&agent, 1, Protocol::Identity).await.unwrap();
    // The destination is scanned by another one, and tells of that alone.
    let scan = MeshDenial { source: Some(pod("scan")), ..denied("denial-scan") };
    let told = vec![by_source("front-1", "front"), by_source("scan-1", "scan"), scan];
    assert_eq!(reporter.tell(batch(1, vec![], told)).await.unwrap(), 1);
    let told =
        vec![by_source("scan-2", "scan"), MeshDenial { port: 81, ..by_source("scan-81", "scan") }];
    assert_eq!(reporter.tell(batch(2, vec![], told)).await.unwrap(), 2);
    let events = joined.events(AuditKind::Mesh).await;
    let ids: Vec<_> = events.iter().map(|event| event.audit_id.as_str()).collect();
    assert_eq!(ids, ["denial-scan", "front-1", "scan-81"]);
    assert_eq!(events[1].facts["seen-by"], "source");
}

#[tokio::test]
async fn a_namespace_that_floods_hides_no_denial_of_another() {
    let joined = Joined::start().await;
    let agent = joined.identity().await;
    let mut reporter = joined.report_by(&agent, 1, Protocol::Identity).await.unwrap();
    let evil = |id: String| {
        let party = MeshParty {
            spiffe_id: "spiffe://dev.nullius.internal/ns/evil/sa/scan".into(),
            namespace: "evil".into(),
            ..pod("scan")
        };
        MeshDenial { source: Some(party), ..denied(&id) }
    };
    for number in 1..=5 {
        let denials = (0..500).map(|n| evil(format!("evil-{number}-{n}"))).collect();
        assert_eq!(reporter.tell(batch(number, vec![], denials)).await.unwrap(), number);
    }
    assert!(joined.told().await.losses.unwritten_denials > 0);
    assert_eq!(reporter.tell(batch(6, vec![], vec![denied("of-shop")])).await.unwrap(), 6);
    let id = "of-shop".parse().unwrap();
    let filter = nullius_audit::Filter { audit_id: Some(id), ..Default::default() };
    let mut reader = joined.lab.hub.store().read().await.unwrap();
    assert_eq!(reader.audit().list(&filter, None).await.unwrap().entries.len(), 1);
}

#[tokio::test]
async fn the_end_of_a_call_is_an_event_of_its_own_and_names_its_beginning() {
    let joined = Joined::start().await;
    let agent = joined.identity().await;
    let begun = MeshDenial {
        verdict: WireVerdict::Allowed.into(),
        reason: "intention-matched".into(),
        ..denied("call-1")
    };
    let cut = MeshDenial { of: "call-1".into(), ..denied("call-1-cut") };
    let mut reporter = joined.report_by(&agent, 1, Protocol::Identity).await.unwrap();
    assert_eq!(reporter.tell(batch(1, vec![], vec![begun, cut.clone()])).await.unwrap(), 1);
    assert_eq!(reporter.tell(batch(2, vec![], vec![cut])).await.unwrap(), 2);
    let events = joined.events(AuditKind::Mesh).await;
    let [begun, cut] = events.as_slice() else { panic!("{events:#?}") };
    assert_eq!((begun.outcome, cut.outcome), (AuditOutcome::Done, AuditOutcome::Denied));
    assert_eq!(cut.facts["of"], begun.audit_id.as_str());
    assert!(!begun.facts.contains_key("of"));
}
