//! Findings are whole for each object, end with what they are of, and are bounded for each cluster.

use nullius_model::{
    ClusterName, Enforcement, Finding, FindingId, FindingSource, FindingState, FindingWaiver,
    FoundObject, FoundPart, InstanceId, Severity,
};
use nullius_store::{
    BatchTurn, FindingFilter, FindingPlace, Findings, Looked, NewFinding, ScanEnd, ScanMark, Store,
};

use crate::{both, later};

const SOURCE: FindingSource = FindingSource::Admission;

fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

fn looked(cluster_name: &str, namespace: &str, name: &str) -> Looked {
    let object = FoundObject {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("uid-{namespace}-{name}"),
    };
    Looked { source: SOURCE, cluster: cluster(cluster_name), object, part: FoundPart::Object }
}

fn finding(id: u128, severity: Severity) -> NewFinding {
    NewFinding {
        id: FindingId::from_bits(id),
        policy: "PodSecurity/restricted".into(),
        binding: String::new(),
        check: format!("check-{id}"),
        severity,
        enforcement: Enforcement::Warn,
        message: "\u{1b}[2J it says".into(),
        evidence: vec!["spec.containers[0]".into()],
        fix: "mend it".into(),
        waiver: None,
    }
}

fn mark(number: u64) -> ScanMark {
    ScanMark { term: 1, number }
}

async fn replace(store: &Store, of: &Looked, found: &[NewFinding], scan: u64, at: i64) -> u64 {
    let mut tx = store.begin().await.unwrap();
    assert!(tx.findings().go_on(SOURCE, &of.cluster, mark(scan), later(at)).await.unwrap());
    let mut room = tx.findings().room(&of.cluster).await.unwrap();
    let folded = tx.findings().replace(of, found, mark(scan), &mut room, later(at)).await.unwrap();
    tx.commit().await.unwrap();
    folded
}

async fn list(store: &Store, filter: FindingFilter) -> Vec<Finding> {
    store.read().await.unwrap().findings().list(&filter).await.unwrap()
}

fn resolved() -> FindingFilter {
    FindingFilter { state: Some(FindingState::Resolved), ..FindingFilter::default() }
}

#[tokio::test]
async fn a_finding_opens_stands_is_resolved_and_opens_anew() {
    for (store, _directory) in both().await {
        let web = looked("dev", "shop", "web");
        let (bad, worse) = (finding(1, Severity::Medium), finding(2, Severity::High));
        replace(&store, &web, &[bad.clone(), worse.clone()], 1, 10).await;
        replace(&store, &web, std::slice::from_ref(&bad), 1, 20).await;
        let open = list(&store, FindingFilter::default()).await;
        assert_eq!(open.len(), 1);
        assert_eq!((open[0].first_seen, open[0].last_seen), (later(10), later(20)));
        assert_eq!(open[0].message, bad.message, "what is stored is what was said");
        assert_eq!(open[0].object, web.object);
        let gone = list(&store, resolved()).await;
        assert_eq!((gone[0].id.clone(), gone[0].resolved_at), (worse.id.clone(), Some(later(20))));
        let waiver = FindingWaiver {
            owner: "ada".into(),
            reason: "until it is built anew".into(),
            expires: "2026-03-01".into(),
        };
        let waived = NewFinding { waiver: Some(waiver.clone()), ..worse };
        replace(&store, &web, &[waived], 1, 30).await;
        let filter =
            FindingFilter { state: Some(FindingState::Waived), ..FindingFilter::default() };
        let waived = list(&store, filter).await;
        assert_eq!((waived[0].first_seen, waived[0].resolved_at), (later(30), None));
        assert_eq!(waived[0].waiver.as_ref(), Some(&waiver));
        let mut reader = store.read().await.unwrap();
        let found = reader.findings().find(waived[0].id.as_str()).await.unwrap();
        assert_eq!(found, waived);
        let both = reader.findings().find("000000").await.unwrap();
        assert_eq!(both.len(), 2, "the beginning of an id is not always enough");
    }
}

#[tokio::test]
async fn a_scan_that_ends_resolves_what_it_did_not_see_and_an_older_one_changes_nothing() {
    for (store, _directory) in both().await {
        let (web, db) = (looked("dev", "shop", "web"), looked("dev", "shop", "db"));
        let other = looked("prod", "shop", "web");
        replace(&store, &web, &[finding(1, Severity::Low)], 1, 10).await;
        replace(&store, &db, &[finding(2, Severity::Low)], 1, 10).await;
        replace(&store, &other, &[finding(3, Severity::Low)], 1, 10).await;
        let dev = cluster("dev");
        let mut tx = store.begin().await.unwrap();
        assert!(tx.findings().go_on(SOURCE, &dev, mark(2), later(20)).await.unwrap());
        let uids = [web.object.uid.clone()];
        tx.findings().stand(SOURCE, &dev, &uids, mark(2), later(20)).await.unwrap();
        let end = ScanEnd { objects: 2, policies: 3, faults: vec!["one".into()] };
        let gone = tx.findings().finish_scan(SOURCE, &dev, mark(2), &end, later(20)).await.unwrap();
        assert_eq!(gone, 1);
        assert!(!tx.findings().go_on(SOURCE, &dev, mark(1), later(30)).await.unwrap());
        tx.commit().await.unwrap();
        let open = list(&store, FindingFilter::default()).await;
        let names: Vec<_> =
            open.iter().map(|open| (open.cluster.as_str(), open.object.name.as_str())).collect();
        assert_eq!(names, [("dev", "web"), ("prod", "web")]);
        let scans = store.read().await.unwrap().findings().scans().await.unwrap();
        assert_eq!((scans[0].finished_at, &scans[0].end), (Some(later(20)), &end));
        assert_eq!(scans[1].finished_at, None, "each cluster by itself");
    }
}

#[tokio::test]
async fn filters_narrow_and_the_worst_come_first() {
    for (store, _directory) in both().await {
        replace(&store, &looked("dev", "shop", "web"), &[finding(1, Severity::Low)], 1, 10).await;
        replace(&store, &looked("dev", "bank", "web"), &[finding(2, Severity::High)], 1, 20).await;
        replace(&store, &looked("prod", "shop", "db"), &[finding(3, Severity::Medium)], 1, 30)
            .await;
        let ids = async |filter| {
            let found = list(&store, filter).await;
            found
                .iter()
                .map(|found| u128::from_str_radix(found.id.as_str(), 16).unwrap())
                .collect::<Vec<_>>()
        };
        let all = FindingFilter::default();
        assert_eq!(ids(all.clone()).await, [2, 3, 1]);
        let paged = FindingFilter { skip: 1, limit: Some(1), ..all.clone() };
        assert_eq!(ids(paged).await, [3]);
        let dev = FindingFilter { cluster: Some("dev".into()), ..all.clone() };
        assert_eq!(ids(dev).await, [2, 1]);
        let shop = FindingFilter { namespace: Some("shop".into()), ..all.clone() };
        assert_eq!(ids(shop).await, [3, 1]);
        let bad = FindingFilter { severity: Some(Severity::Medium), ..all.clone() };
        assert_eq!(ids(bad).await, [2, 3]);
        let kind = FindingFilter { kind: Some("deployment".into()), ..all.clone() };
        assert_eq!(ids(kind).await.len(), 3);
        let since = FindingFilter { since: Some(later(20)), ..all.clone() };
        assert_eq!(ids(since).await, [2, 3]);
        let place = |cluster: &str, namespaces: Option<Vec<String>>| FindingPlace {
            cluster: cluster.into(),
            namespaces,
        };
        let places = vec![place("dev", Some(vec!["shop".into()])), place("prod", None)];
        let own = FindingFilter { places: Some(places), ..all.clone() };
        assert_eq!(ids(own).await, [3, 1]);
        let nowhere = FindingFilter { places: Some(Vec::new()), ..all };
        assert!(ids(nowhere).await.is_empty());
    }
}

#[tokio::test]
async fn too_many_different_findings_of_a_cluster_are_counted_and_not_kept() {
    let (store, _directory) = both().await.remove(0);
    let dev = cluster("dev");
    let mut tx = store.begin().await.unwrap();
    assert!(tx.findings().go_on(SOURCE, &dev, mark(1), later(1)).await.unwrap());
    let mut room = tx.findings().room(&dev).await.unwrap();
    let mut folded = 0;
    let mut id = 0;
    for object in 0..Findings::ROWS_OF_CLUSTER / 200 + 1 {
        let found: Vec<_> = (0..200)
            .map(|_| {
                id += 1;
                finding(id, Severity::Low)
            })
            .collect();
        let of = looked("dev", "shop", &format!("web-{object}"));
        folded += tx.findings().replace(&of, &found, mark(1), &mut room, later(1)).await.unwrap();
    }
    tx.findings().fold(SOURCE, &dev, folded).await.unwrap();
    tx.commit().await.unwrap();
    let scans = store.read().await.unwrap().findings().scans().await.unwrap();
    assert_eq!(scans[0].folded, 200);
    // What was resolved makes room for what is open.
    replace(&store, &looked("dev", "shop", "web-0"), &[], 1, 2).await;
    let new = looked("dev", "shop", "new");
    assert_eq!(replace(&store, &new, &[finding(1 << 80, Severity::High)], 1, 3).await, 0);
    let worst = FindingFilter { severity: Some(Severity::High), ..FindingFilter::default() };
    assert_eq!(list(&store, worst).await.len(), 1);
    let mut tx = store.begin().await.unwrap();
    assert!(tx.findings().forget(&dev).await.unwrap() >= Findings::ROWS_OF_CLUSTER - 200);
    tx.commit().await.unwrap();
    assert!(list(&store, FindingFilter::default()).await.is_empty());
}

#[tokio::test]
async fn what_was_resolved_long_ago_is_forgotten() {
    for (store, _directory) in both().await {
        let web = looked("dev", "shop", "web");
        replace(&store, &web, &[finding(1, Severity::Low)], 1, 10).await;
        replace(&store, &web, &[finding(2, Severity::Low)], 1, 20).await;
        let mut tx = store.begin().await.unwrap();
        assert_eq!(tx.findings().prune(later(20)).await.unwrap(), 0);
        assert_eq!(tx.findings().prune(later(21)).await.unwrap(), 1);
        tx.commit().await.unwrap();
        assert_eq!(list(&store, FindingFilter::default()).await.len(), 1);
    }
}

#[tokio::test]
async fn a_numbered_batch_is_taken_once_by_the_newest_connection() {
    for (store, _directory) in both().await {
        let (dev, agent) = (cluster("dev"), InstanceId::from_bits(1));
        let mut tx = store.begin().await.unwrap();
        let mut reports = tx.reports();
        let stranger = reports.take(&dev, &agent, 1, 1, later(0)).await.unwrap();
        assert_eq!(stranger, BatchTurn::Stale, "a connection that never began");
        assert!(reports.begin(&dev, &agent, 1, later(0)).await.unwrap());
        assert!(!reports.begin(&dev, &agent, 1, later(0)).await.unwrap());
        let mut turns = Vec::new();
        for (epoch, number) in [(1, 1), (1, 1), (1, 4), (1, 3)] {
            turns.push(reports.take(&dev, &agent, epoch, number, later(1)).await.unwrap());
        }
        let new = |missing| BatchTurn::New { missing };
        assert_eq!(turns, [new(0), BatchTurn::Known, new(2), BatchTurn::Known]);
        assert!(reports.begin(&dev, &agent, 2, later(2)).await.unwrap());
        assert_eq!(reports.take(&dev, &agent, 1, 5, later(2)).await.unwrap(), BatchTurn::Stale);
        assert_eq!(reports.take(&dev, &agent, 2, 4, later(2)).await.unwrap(), BatchTurn::Known);
        assert_eq!(reports.take(&dev, &agent, 2, 5, later(2)).await.unwrap(), new(0));
        assert_eq!(reports.prune(later(3)).await.unwrap(), 1);
        tx.commit().await.unwrap();
    }
}
