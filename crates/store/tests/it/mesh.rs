//! Calls between workloads add up exactly, are kept by hour and then by day, and take a bounded part of the store.

use nullius_model::{
    CallKey, Calls, ClusterName, MeshParty, MeshSide, MeshVerdict, PartyKind, Timestamp,
};
use nullius_store::{CallFilter, Mesh, MeshLosses, Store};

use crate::{at, both, later};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

fn workload(namespace: &str, name: &str) -> MeshParty {
    MeshParty {
        kind: PartyKind::Workload,
        namespace: namespace.into(),
        owner_kind: "Deployment".into(),
        owner_name: name.into(),
        spiffe_id: format!("spiffe://dev/ns/{namespace}/sa/{name}"),
    }
}

fn calls(source: MeshParty, port: u16, verdict: MeshVerdict, at: i64, count: u64) -> Calls {
    Calls {
        key: CallKey {
            source,
            destination: workload("shop", "orders"),
            side: MeshSide::Destination,
            service: "shop/orders".into(),
            port,
            protocol: "tcp".into(),
            wire: "hbone".into(),
            verdict,
            reason: "intention-matched".into(),
            rule: String::new(),
            permission: None,
            shadow: None,
        },
        connections: count,
        requests: 0,
        bytes_to_destination: 10 * count,
        bytes_to_source: 20 * count,
        first: later(at - 1),
        last: later(at),
        sample: format!("sample-{at}"),
    }
}

fn allowed(source: MeshParty, at: i64, count: u64) -> Calls {
    calls(source, 8080, MeshVerdict::Allowed, at, count)
}

fn all(name: &str) -> CallFilter {
    CallFilter {
        cluster: cluster(name),
        namespace: None,
        namespaces: None,
        verdict: None,
        since: None,
        limit: 100_000,
    }
}

async fn merge(store: &Store, name: &str, calls: &[Calls]) -> u64 {
    let mut tx = store.begin().await.unwrap();
    let folded = tx.mesh().merge(&cluster(name), calls).await.unwrap();
    tx.commit().await.unwrap();
    folded
}

async fn list(store: &Store, filter: &CallFilter) -> (Vec<Calls>, Option<Timestamp>) {
    store.read().await.unwrap().mesh().list(filter).await.unwrap()
}

async fn prune(store: &Store, seconds: i64) -> u64 {
    let mut tx = store.begin().await.unwrap();
    let gone = tx.mesh().prune(later(seconds)).await.unwrap();
    tx.commit().await.unwrap();
    gone
}

#[tokio::test]
async fn calls_of_one_kind_add_up_over_hours_and_days() {
    for (store, _directory) in both().await {
        let front = workload("shop", "front");
        let told = [
            allowed(front.clone(), 0, 2),
            allowed(front.clone(), 10, 3),
            allowed(front.clone(), 3 * HOUR, 5),
            allowed(front.clone(), 3 * DAY, 7),
        ];
        assert_eq!(merge(&store, "dev", &told).await, 0);
        merge(&store, "prod", &[allowed(front.clone(), 0, 1)]).await;
        let expected = |first: i64, count: u64| {
            let mut sum = allowed(front.clone(), 3 * DAY, count);
            sum.first = later(first - 1);
            vec![sum]
        };
        let since = |seconds: i64| CallFilter { since: Some(later(seconds)), ..all("dev") };
        let (whole, from) = list(&store, &all("dev")).await;
        assert_eq!(whole, expected(0, 17));
        assert_eq!(from, Some(at("2026-01-02T03:00:00Z")), "whole hours are counted");
        assert_eq!(list(&store, &since(HOUR)).await.0, expected(3 * HOUR, 12));
        assert_eq!(list(&store, &since(DAY)).await.0, expected(3 * DAY, 7));
        assert_eq!(list(&store, &since(4 * DAY)).await, (Vec::new(), None));

        // Two days later hours are days, nothing is lost, and what comes late goes to its day as well.
        for _ in 0..2 {
            assert_eq!(prune(&store, 4 * DAY).await, 0);
            let (whole, from) = list(&store, &all("dev")).await;
            assert_eq!((whole[0].connections, whole[0].bytes_to_source), (17, 340));
            assert_eq!(whole[0].first, later(-1));
            assert_eq!(from, Some(at("2026-01-02T00:00:00Z")), "whole days are counted");
        }
        merge(&store, "dev", &[allowed(front.clone(), 20, 4)]).await;
        prune(&store, 4 * DAY).await;
        assert_eq!(list(&store, &all("dev")).await.0[0].connections, 21);

        // Ninety days later they are gone, with their edges, day by day.
        let kept = i64::from(Mesh::RETENTION_DAYS) * DAY;
        assert_eq!(prune(&store, kept + 2 * DAY).await, 2, "the first day, of both clusters");
        assert_eq!(list(&store, &all("dev")).await.0[0].connections, 7);
        assert_eq!(prune(&store, kept + 5 * DAY).await, 1);
        assert_eq!(list(&store, &all("dev")).await.0, []);
    }
}

#[tokio::test]
async fn filters_narrow_and_what_was_refused_comes_first() {
    use MeshVerdict::{Allowed, Denied, Failed, ShadowDenied};
    for (store, _directory) in both().await {
        let told = [
            allowed(workload("shop", "front"), 0, 1),
            calls(workload("bank", "ledger"), 8080, Denied, 0, 1),
            calls(workload("shop", "cron"), 8080, ShadowDenied, 0, 1),
            calls(workload("web", "edge"), 8080, Failed, 0, 1),
        ];
        merge(&store, "dev", &told).await;
        let verdicts = async |filter: &CallFilter| -> Vec<_> {
            list(&store, filter).await.0.iter().map(|it| it.key.verdict).collect()
        };
        assert_eq!(verdicts(&all("dev")).await, [Denied, ShadowDenied, Failed, Allowed]);
        let two = CallFilter { limit: 2, ..all("dev") };
        assert_eq!(verdicts(&two).await, [Denied, ShadowDenied]);
        let failed = CallFilter { verdict: Some(Failed), ..all("dev") };
        assert_eq!(verdicts(&failed).await, [Failed]);
        let bank = CallFilter { namespace: Some("bank".into()), ..all("dev") };
        assert_eq!(verdicts(&bank).await, [Denied]);
        let seen = |names: &[&str]| CallFilter {
            namespaces: Some(names.iter().map(ToString::to_string).collect()),
            ..all("dev")
        };
        assert_eq!(verdicts(&seen(&["web", "bank"])).await, [Denied, Failed]);
        assert_eq!(verdicts(&seen(&["shop"])).await.len(), 4, "the destination is there");
        assert_eq!(verdicts(&seen(&["other", ""])).await, []);
        assert_eq!(verdicts(&seen(&[])).await, []);
        let both = CallFilter { namespace: Some("web".into()), ..seen(&["bank"]) };
        assert_eq!(verdicts(&both).await, [], "who may see one namespace asks of no other");
        assert_eq!(verdicts(&all("prod")).await, []);
    }
}

#[tokio::test]
async fn who_calls_everything_takes_the_room_of_nobody_else() {
    for (store, _directory) in both().await {
        let most = u16::try_from(Mesh::EDGES_OF_SOURCE).unwrap();
        let scan = |port: u16| calls(workload("shop", "evil"), port, MeshVerdict::Denied, 0, 1);
        let told: Vec<_> = (1..=most + 3).map(scan).collect();
        assert_eq!(merge(&store, "dev", &told).await, 3);
        assert_eq!(
            merge(&store, "dev", &[scan(1), scan(most + 9)]).await,
            1,
            "what is known adds up"
        );
        assert_eq!(merge(&store, "dev", &[allowed(workload("shop", "front"), 0, 1)]).await, 0);
        let (found, _) = list(&store, &all("dev")).await;
        let folded: Vec<_> = found.iter().filter(|it| it.key.is_folded()).collect();
        assert_eq!(folded.len(), 1);
        assert_eq!(folded[0].key.source.label(), "Deployment/shop/evil");
        assert_eq!((folded[0].key.verdict, folded[0].connections), (MeshVerdict::Denied, 4));
        assert_eq!(found.len(), usize::from(most) + 2);
        assert_eq!(found.iter().map(|it| it.connections).sum::<u64>(), u64::from(most) + 6);
    }
}

#[tokio::test]
async fn a_namespace_that_calls_everything_hides_no_calls_of_another_and_is_seen_itself() {
    let (store, _directory) = both().await.remove(0);
    let front = |hour: i64| allowed(workload("shop", "front"), hour * HOUR, 1);
    assert_eq!(merge(&store, "dev", &[front(0)]).await, 0);
    // Twenty workloads of one namespace, without rights, at every port of somebody and outside of the cluster.
    let scan = |pod: u16, port: u16, hour: i64| {
        let source = workload("evil", &format!("pod-{pod}"));
        let mut call = calls(source, port, MeshVerdict::Denied, hour * HOUR, 1);
        if port.is_multiple_of(2) {
            call.key.verdict = MeshVerdict::Allowed;
            call.key.destination = MeshParty { kind: PartyKind::Outside, ..MeshParty::default() };
        }
        call
    };
    for pod in 0..20 {
        let told: Vec<_> = (1..=1_000).map(|port| scan(pod, port, 0)).collect();
        merge(&store, "dev", &told).await;
    }
    for hour in 0..3 {
        assert_eq!(merge(&store, "dev", &[front(hour)]).await, 0, "what is known counts on");
        let new = calls(workload("web", "edge"), 80, MeshVerdict::Allowed, hour * HOUR, 1);
        assert_eq!(merge(&store, "dev", &[new]).await, 0, "and what is new is seen");
    }
    let of = |name: &str| CallFilter { namespace: Some(name.into()), ..all("dev") };
    let (shop, _) = list(&store, &of("shop")).await;
    let known = |name: &str| {
        let of = shop.iter().filter(|it| it.key.source.owner_name == name);
        of.map(|it| it.connections).collect::<Vec<_>>()
    };
    assert_eq!((known("front"), known("edge")), (vec![4], vec![3]));
    let (evil, _) = list(&store, &of("evil")).await;
    assert!(evil.len() <= 10_100, "{}", evil.len());
    assert_eq!(evil.iter().map(|it| it.connections).sum::<u64>(), 20_000, "each is counted");
    assert!(evil.iter().any(|it| it.key.is_folded()), "what is folded stays in its namespace");
    let outside = evil.iter().filter(|it| it.key.destination.kind == PartyKind::Outside);
    let ports = outside.filter(|it| it.key.source.owner_name == "pod-0");
    assert!(ports.count() <= 251, "ports outside are told apart for some alone");
    let folded: Vec<_> = shop.iter().filter(|it| it.key.is_folded()).collect();
    assert!(folded.iter().any(|it| it.key.source.label() == "(other)/evil"), "{folded:?}");
}

#[tokio::test]
async fn a_cluster_has_a_bounded_part_and_no_count_overflows() {
    let (store, _directory) = both().await.remove(0);
    let most = usize::try_from(Mesh::EDGES_OF_CLUSTER).unwrap();
    let each = usize::try_from(Mesh::EDGES_OF_SOURCE).unwrap();
    let of = |n: usize| {
        let port = u16::try_from(n % each).unwrap();
        calls(workload("shop", &format!("w{}", n / each)), port, MeshVerdict::Allowed, 0, 1)
    };
    let told: Vec<_> = (0..most + 5).map(of).collect();
    let half = u64::try_from(most / 2).unwrap();
    assert_eq!(merge(&store, "dev", &told).await, half + 5, "one namespace has half at most");
    assert_eq!(merge(&store, "prod", &[of(0)]).await, 0, "another cluster has its own");
    let (found, _) = list(&store, &all("dev")).await;
    let folded: Vec<_> = found.iter().filter(|it| it.key.is_folded()).collect();
    assert_eq!((found.len(), folded.len(), folded[0].connections), (most / 2 + 1, 1, half + 5));

    let mut huge = of(0);
    (huge.connections, huge.bytes_to_source) = (u64::MAX, u64::MAX);
    for hour in 0..300 {
        huge.last = later(hour * HOUR);
        merge(&store, "prod", &[huge.clone(), huge.clone()]).await;
    }
    prune(&store, 300 * HOUR).await;
    let (found, _) = list(&store, &all("prod")).await;
    assert!(found[0].connections > 1 << 52, "{}", found[0].connections);
}

#[tokio::test]
async fn what_is_not_known_is_told_and_all_goes_with_the_cluster() {
    for (store, _directory) in both().await {
        let note = async |losses: MeshLosses, seconds: i64| {
            let mut tx = store.begin().await.unwrap();
            tx.mesh().note(&cluster("dev"), losses, later(seconds)).await.unwrap();
            tx.commit().await.unwrap();
        };
        let told = async || store.read().await.unwrap().mesh().told(&cluster("dev")).await.unwrap();
        assert_eq!(told().await, None);
        note(MeshLosses::default(), 0).await;
        assert_eq!(told().await.unwrap().incomplete_at, None);
        let losses =
            MeshLosses { flows: 1, denials: 2, unwritten_denials: 3, disbelieved: 4, folded: 5 };
        note(losses, 10).await;
        note(MeshLosses { denials: u64::MAX, ..losses }, 20).await;
        note(MeshLosses { unwritten_denials: 1, ..MeshLosses::default() }, 30).await;
        let now = told().await.unwrap();
        assert_eq!((now.told_at, now.incomplete_at), (later(30), Some(later(20))));
        assert_eq!((now.losses.flows, now.losses.unwritten_denials), (2, 7));
        assert_eq!(now.losses.denials, u64::try_from(i64::MAX).unwrap());

        merge(&store, "dev", &[allowed(workload("shop", "front"), 0, 1)]).await;
        merge(&store, "prod", &[allowed(workload("shop", "front"), 0, 1)]).await;
        let mut tx = store.begin().await.unwrap();
        tx.mesh().forget(&cluster("dev")).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(told().await, None);
        assert_eq!(list(&store, &all("dev")).await.0, []);
        assert_eq!(list(&store, &all("prod")).await.0.len(), 1);
    }
}
