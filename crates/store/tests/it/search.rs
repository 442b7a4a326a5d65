//! Searching a large trail: a page costs what it shows, however many entries there are. The figures are printed:
//! `NULLIUS_AUDIT_ENTRIES=1000000 cargo test -p nullius-store search -- --nocapture`.

use std::time::{Duration, Instant};

use nullius_audit::Filter;
use nullius_model::{AuditEvent, AuditKind, AuditOutcome, KubeCall, Principal};

use crate::{event, later, on_file, session, start, user};

/// A day of a fleet: mostly reads, few of everything else.
fn of_fleet(number: u64) -> AuditEvent {
    let mut event = event(number);
    event.at = later(i64::try_from(number / 10).unwrap());
    event.kind = AuditKind::KubeRequest;
    event.outcome = AuditOutcome::Done;
    let rare = |of: u64| number % of == of / 2;
    event.principal = Principal::Person { user: user(&format!("user-{}", number % 97)) };
    event.session = Some(session(u128::from(number % 997)));
    event.cluster = Some(format!("cluster-{}", number % 7).parse().unwrap());
    let text = |text: &str| text.to_owned();
    event.kube = Some(KubeCall {
        verb: text(if rare(20_011) { "deletecollection" } else { "get" }),
        request_uri: text("/api/v1/namespaces/shop/pods?limit=500"),
        is_resource: true,
        api_version: text("v1"),
        resource: text(if rare(10_007) { "secrets" } else { "pods" }),
        subresource: text(if rare(5_003) { "exec" } else { "" }),
        namespace: format!("team-{}", number % 501),
        name: format!("web-{number}"),
        user_agent: text("kubectl/v1.36.0 (linux/amd64) kubernetes/4cb5f07"),
        code: 200,
        received: event.at,
        api_group: String::new(),
    });
    if rare(3_001) {
        event.outcome = AuditOutcome::Denied;
    }
    if rare(15_013) {
        event.kind = AuditKind::SignIn;
        event.kube = None;
        event.target = Some(text("User/ada"));
    }
    event
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_costs_what_it_shows() {
    let count = std::env::var("NULLIUS_AUDIT_ENTRIES").ok().and_then(|text| text.parse().ok());
    let count: u64 = count.unwrap_or(20_000);
    let directory = tempfile::tempdir().unwrap();
    let store = on_file(directory.path()).await;
    let writer = start(&store).await;
    let began = Instant::now();
    for first in (0..count).step_by(1_000) {
        let mut tx = store.begin().await.unwrap();
        for number in first..count.min(first + 1_000) {
            tx.audit(&of_fleet(number)).unwrap();
        }
        tx.commit().await.unwrap();
    }
    println!("{:.0} entries/s", count as f64 / began.elapsed().as_secs_f64());

    let end = i64::try_from(count / 10).unwrap();
    let word = |text: &str| Some(text.to_owned());
    let all = Filter::default;
    let filters = [
        ("all", all()),
        ("user", Filter { user: word("user-13"), ..all() }),
        (
            "user of a cluster",
            Filter { user: word("user-13"), cluster: word("cluster-3"), ..all() },
        ),
        ("nobody", Filter { user: word("mallory"), ..all() }),
        ("session", Filter { session: Some(session(77).to_string()), ..all() }),
        ("cluster", Filter { cluster: word("cluster-3"), ..all() }),
        ("namespace", Filter { namespace: word("team-7"), ..all() }),
        ("secrets", Filter { resource: word("secrets"), ..all() }),
        ("exec", Filter { resource: word("pods/exec"), ..all() }),
        ("rare verb", Filter { verb: word("deletecollection"), ..all() }),
        ("denied", Filter { outcome: Some(AuditOutcome::Denied), ..all() }),
        ("sign-ins", Filter { kind: Some(AuditKind::SignIn), ..all() }),
        ("last minute", Filter { since: Some(later(end - 60)), ..all() }),
        ("first minute", Filter { until: Some(later(60)), ..all() }),
        (
            "middle, nobody",
            Filter {
                user: word("mallory"),
                since: Some(later(end / 3)),
                until: Some(later(end / 2)),
                ..all()
            },
        ),
        ("user since long", Filter { user: word("user-13"), since: Some(later(60)), ..all() }),
    ];
    for (what, filter) in filters {
        let began = Instant::now();
        let page = store.read().await.unwrap().audit().list(&filter, None).await.unwrap();
        let first = began.elapsed();
        let next = match page.next {
            None => Duration::ZERO,
            Some(next) => {
                let began = Instant::now();
                store.read().await.unwrap().audit().list(&filter, Some(next)).await.unwrap();
                began.elapsed()
            }
        };
        println!("{what}: {} rows, {first:.1?}, next page {next:.1?}", page.entries.len());
        assert!(page.entries.iter().all(|entry| filter.matches(&entry.event().unwrap())), "{what}");
    }
    writer.shutdown().await;
}
