//! Writing, searching and following the trail.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nullius_audit::{Filter, SignedCheckpoint};
use nullius_model::{AuditEvent, AuditKind, AuditOutcome, KubeCall, Principal};
use nullius_store::{
    AuditState, AuditUnavailable, OpenError, Position, SignError, StartError, Store, StoreUrl,
};
use proptest::prelude::*;

use crate::{TestClock, both, check, event, later, on_file, options, session, sign, start, user};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_make_one_chain_and_followers_see_it_whole() {
    for (store, _directory) in both().await {
        let writer = start(&store).await;
        let mut tail = store.tail_audit(Some(Position(0)));
        let follower = tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < 64 * 20 {
                seen.extend(tail.next().await.unwrap().iter().map(|entry| entry.position.0));
            }
            seen
        });
        let tasks: Vec<_> = (0..64)
            .map(|task| {
                let writer = writer.clone();
                tokio::spawn(async move {
                    let mut positions = Vec::new();
                    for number in 0..20 {
                        positions.push(writer.write(&event(task * 100 + number)).await.unwrap().0);
                    }
                    assert!(positions.is_sorted(), "one task's events keep their order");
                    positions
                })
            })
            .collect();
        let mut positions = BTreeSet::new();
        for task in tasks {
            positions.extend(task.await.unwrap());
        }
        let expected: Vec<i64> = (1..=64 * 20).collect();
        assert!(positions.into_iter().eq(expected.iter().copied()));
        assert_eq!(follower.await.unwrap(), expected);
        writer.shutdown().await;
        let report = store.verify_audit(&check, &[]).await.unwrap();
        assert!(report.is_intact(), "{report:?}");
        assert_eq!((report.records, report.uncovered), (64 * 20, 0), "shutdown signs the rest");
        assert!(report.checkpoints >= 1);
    }
}

#[tokio::test]
async fn a_slot_holds_room_until_its_event_comes() {
    let store = Store::open_in_memory(TestClock::new()).await.unwrap();
    let mut options = options();
    options.queue = 2;
    options.patience = Duration::from_millis(50);
    let writer = store.start_audit(options).await.unwrap();
    let (first, second) = (writer.try_reserve().unwrap(), writer.reserve().await.unwrap());
    assert_eq!(writer.health().pending, 2);
    assert_eq!(writer.try_reserve().err(), Some(AuditUnavailable::Overloaded));
    assert_eq!(writer.reserve().await.err(), Some(AuditUnavailable::Overloaded));
    first.enqueue(&event(1)).unwrap();
    assert_eq!(second.write(&event(2)).await.unwrap(), Position(2));
    drop(writer.reserve().await.unwrap());
    let held = writer.reserve().await.unwrap();
    let stopping = tokio::spawn({
        let writer = writer.clone();
        async move { writer.shutdown().await }
    });
    held.enqueue(&event(3)).unwrap();
    stopping.await.unwrap();
    assert_eq!(writer.health().state, AuditState::Stopped);
    assert_eq!(writer.health().head, Position(3), "a slot taken before the shutdown still counts");
    assert_eq!(writer.write(&event(4)).await, Err(AuditUnavailable::Stopped));
    let mut tx = store.begin().await.unwrap();
    tx.audit(&event(5)).unwrap();
    assert!(tx.commit().await.is_err(), "nothing audited happens after the end of the audit");
}

#[tokio::test]
async fn each_start_is_an_epoch_linked_to_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let url = StoreUrl::Directory(directory.path().to_owned());
    for life in 1..=3_u64 {
        let store = loop {
            // Without a shutdown the tasks end by themselves, soon after nobody can write any more.
            match Store::open(&url, TestClock::new()).await {
                Err(OpenError::InUse { .. }) => tokio::task::yield_now().await,
                opened => break opened.unwrap(),
            }
        };
        let writer = start(&store).await;
        assert!(matches!(store.start_audit(options()).await, Err(StartError::Running)));
        for number in 0..3 {
            writer.write(&event(life * 10 + number)).await.unwrap();
        }
        if life == 2 {
            writer.shutdown().await;
            store.close().await;
        }
    }
    let store = loop {
        match Store::open(&url, TestClock::new()).await {
            Err(OpenError::InUse { .. }) => tokio::task::yield_now().await,
            opened => break opened.unwrap(),
        }
    };
    let report = store.verify_audit(&check, &[]).await.unwrap();
    assert!(report.is_intact(), "{report:?}");
    assert_eq!((report.records, report.uncovered, report.checkpoints), (9, 0, 3));
    let head = report.heads.into_iter().next().unwrap();
    assert_eq!(head.1.seq, 3, "each life counts its own entries");
}

#[tokio::test]
async fn pages_go_back_in_time_without_gap_or_repeat() {
    for (store, _directory) in both().await {
        let writer = start(&store).await;
        for number in 1..=25 {
            let mut event = event(number);
            event.cluster = Some(if number % 2 == 0 { "dev" } else { "prod" }.parse().unwrap());
            writer.write(&event).await.unwrap();
        }
        let filter = Filter { cluster: Some("dev".into()), limit: Some(5), ..Filter::default() };
        let mut reader = store.read().await.unwrap();
        let (mut seen, mut before, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = reader.audit().list(&filter, before).await.unwrap();
            seen.extend(page.entries.iter().map(|entry| entry.position.0));
            pages += 1;
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(pages, 3);
        assert!(seen.into_iter().eq((1..=12).rev().map(|half| half * 2)));
        let found = reader.audit().find(Position(7)).await.unwrap().unwrap();
        assert_eq!(found.event().unwrap().audit_id.as_str(), "event-7");
        assert_eq!(reader.audit().find(Position(99)).await.unwrap(), None);
        assert_eq!(reader.audit().head().await.unwrap(), Position(25));
    }
}

#[tokio::test]
async fn a_commit_whose_caller_goes_away_leaves_no_gap() {
    let directory = tempfile::tempdir().unwrap();
    let store = on_file(directory.path()).await;
    let writer = start(&store).await;
    let mut tail = store.tail_audit(Some(Position(0)));
    for number in 0..20 {
        let mut tx = store.begin().await.unwrap();
        tx.audit(&event(number)).unwrap();
        // Whether the commit arrives is left to chance; that the trail stays whole is not.
        let patience = Duration::from_micros(number * 40);
        let _ = tokio::time::timeout(patience, tx.commit()).await;
        writer.write(&event(100 + number)).await.unwrap();
    }
    let head = writer.health().head;
    let mut seen = Vec::new();
    while tail.position() < head {
        seen.extend(tail.next().await.unwrap().iter().map(|entry| entry.position.0));
    }
    assert!(seen.into_iter().eq(1..=head.0));
    writer.shutdown().await;
    let report = store.verify_audit(&check, &[]).await.unwrap();
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(i64::try_from(report.records).unwrap(), head.0);
}

#[tokio::test]
async fn checkpoints_come_by_count_and_a_broken_signer_stops_no_entry() {
    let store = Store::open_in_memory(TestClock::new()).await.unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let mut options = options();
    options.checkpoint_entries = 3;
    let switch = Arc::clone(&broken);
    options.signer = Arc::new(move |bytes| {
        if switch.load(Ordering::SeqCst) {
            return Err(SignError("the key is locked".into()));
        }
        Ok(sign(bytes))
    });
    let writer = store.start_audit(options).await.unwrap();
    for number in 0..7 {
        writer.write(&event(number)).await.unwrap();
    }
    let mut reader = store.read().await.unwrap();
    let checkpoints = reader.audit().checkpoints_after(0, 100).await.unwrap();
    assert_eq!(checkpoints.len(), 2, "one after each third entry");
    drop(reader);
    broken.store(true, Ordering::SeqCst);
    for number in 7..12 {
        writer.write(&event(number)).await.unwrap();
    }
    let told = loop {
        // The error is noted right after the commit that was acknowledged.
        match writer.health().checkpoint_error {
            Some(told) => break told,
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!(told, "the key is locked");
    assert_eq!(writer.health().state, AuditState::Writing);
    writer.shutdown().await;
    let report = store.verify_audit(&check, &[]).await.unwrap();
    assert!(report.is_intact());
    assert_eq!((report.records, report.uncovered), (12, 6));
}

#[tokio::test]
async fn an_anchor_from_elsewhere_must_be_met() {
    let store = Store::open_in_memory(TestClock::new()).await.unwrap();
    let writer = start(&store).await;
    writer.write(&event(1)).await.unwrap();
    writer.shutdown().await;
    let anchor = store.read().await.unwrap().audit().newest_checkpoint().await.unwrap().unwrap();
    let anchors = std::slice::from_ref(&anchor);
    assert!(store.verify_audit(&check, anchors).await.unwrap().is_intact());
    let text = serde_json::to_string(&anchor).unwrap();
    assert_eq!(serde_json::from_str::<SignedCheckpoint>(&text).unwrap(), anchor);
    let empty = Store::open_in_memory(TestClock::new()).await.unwrap();
    let report = empty.verify_audit(&check, anchors).await.unwrap();
    assert!(report.fault.unwrap().to_string().contains("the trail was truncated"));
    let stranger = store.verify_audit(&|_, _| false, &[]).await.unwrap();
    assert_eq!(stranger.fault.unwrap().to_string(), "the signature of checkpoint 1 is not good");
}

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "b", "a/b", "A", "'", "%", "a\nb", "é"])
        .prop_map(str::to_owned)
}

prop_compose! {
    fn any_event()(
        who in 0..4, name in word(), texts in prop::array::uniform4(word()), target in prop::option::of(word()),
        seconds in 0..5_i64, nanos in 0..3_i32, kind in 0..2, outcome in 0..2,
        cluster in prop::option::of(prop::sample::select(vec!["a", "b"])),
        id in prop::option::of(0..2_u128), kube in any::<bool>(), audit in 0..3_u64,
    ) -> AuditEvent {
        let [verb, resource, subresource, namespace] = texts;
        AuditEvent {
            audit_id: format!("event-{audit}").parse().unwrap(),
            at: later(seconds) + jiff::SignedDuration::from_nanos(nanos.into()),
            kind: if kind == 0 { AuditKind::SignIn } else { AuditKind::KubeRequest },
            outcome: if outcome == 0 { AuditOutcome::Done } else { AuditOutcome::Denied },
            principal: match who {
                0 => Principal::Hub,
                1 => Principal::Unproven { claimed: name },
                2 => Principal::Person { user: user("a") },
                _ => Principal::Person { user: user("b") },
            },
            session: id.map(session),
            cluster: cluster.map(|name| name.parse().unwrap()),
            source: None,
            target,
            permission: None,
            explanation: None,
            kube: kube.then(|| KubeCall { verb, resource, subresource, namespace, ..KubeCall::default() }),
            facts: Default::default(),
        }
    }
}

prop_compose! {
    fn any_filter()(
        texts in prop::array::uniform6(prop::option::weighted(0.3, word())),
        kind in prop::option::weighted(0.2, Just(AuditKind::SignIn)),
        outcome in prop::option::weighted(0.2, Just(AuditOutcome::Denied)),
        since in prop::option::weighted(0.3, 0..5_i64), until in prop::option::weighted(0.3, 0..5_i64),
        id in prop::option::weighted(0.2, 0..2_u128), audit in prop::option::weighted(0.2, 0..3_u64),
    ) -> Filter {
        let [user, cluster, namespace, resource, verb, target] = texts;
        Filter {
            user, kind, outcome, cluster, namespace, resource, verb, target,
            session: id.map(|id| session(id).to_string()),
            since: since.map(later),
            until: until.map(|until| later(until) + jiff::SignedDuration::from_nanos(1)),
            audit_id: audit.map(|number| format!("event-{number}").parse().unwrap()),
            limit: Some(Filter::MAX_LIMIT),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The filter as SQL finds exactly what the pure filter matches.
    #[test]
    fn sql_and_the_pure_filter_agree(
        events in prop::collection::vec(any_event(), 1..40),
        filters in prop::collection::vec(any_filter(), 30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::open_in_memory(TestClock::new()).await.unwrap();
            let writer = start(&store).await;
            for event in &events {
                writer.reserve().await.unwrap().enqueue(event).unwrap();
            }
            writer.shutdown().await;
            let mut reader = store.read().await.unwrap();
            for filter in &filters {
                let page = reader.audit().list(filter, None).await.unwrap();
                let mut found: Vec<AuditEvent> =
                    page.entries.iter().map(|entry| entry.event().unwrap()).collect();
                found.reverse();
                let expected: Vec<AuditEvent> =
                    events.iter().filter(|event| filter.matches(event)).cloned().collect();
                assert_eq!(found, expected, "{filter:?}");
            }
        });
    }
}
