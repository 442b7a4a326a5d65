#![allow(clippy::unwrap_used, reason = "test")]
//! What the replica that leads does about levels, against an API server that is away, slow, or of another opinion.

use nullius_admission::webhook::{Engine, InForce};
use nullius_kube::{ADMISSION_WEBHOOKS, POD_SECURITY_WEBHOOK, admission::Generation};
use nullius_model::KEPT_LEVEL_LABEL;
use nullius_policy::{admission_policy::Version, pod_security::ENFORCE_LABEL};
use secrecy::{SecretSlice, SecretString};

use super::*;
use crate::{
    admission::{
        levels::{Place, Wish},
        tests::plane::{Plane, status_path},
    },
    tasks::Tasks,
};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/nullius-system/leases/test";
const SECRET: &str = "/api/v1/namespaces/nullius-system/secrets/nullius-admission-ca";

/// A replica that leads, beside its API server.
async fn leader(plane: &Plane) -> Leader {
    let api = plane.serve().await;
    leader_of(&api, &mut Tasks::new())
}

fn leader_of(api: &ApiServer, tasks: &mut Tasks) -> Leader {
    let in_force = InForce::compile(&[], Version::LATEST).unwrap();
    let engines = Engines::in_force(api, Engine::new(Arc::new(in_force), []).0).unwrap();
    let none = Credential::None;
    let gate = Gate::watch(api, &none, engines.clone(), tasks).unwrap();
    let levels = Levels::new(engines.clone(), gate.clone());
    let (terms, _) = watch::channel(None);
    Leader::new(api, &none, engines, gate, levels, "self".to_owned(), terms).unwrap()
}

/// A replica that contends with others, and its part in it.
async fn contender(plane: &Plane, tasks: &mut Tasks) -> (Leader, Leadership) {
    let api = plane.serve().await;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s", "resourceVersion": "1" } });
    plane.held().objects.insert(SECRET.to_owned(), secret);
    held_by(plane, "", 0);
    let leadership = Leadership::new(&api, Credential::None, "test", "self".to_owned()).unwrap();
    (leader_of(&api, tasks), leadership)
}

/// Whoever holds the Lease now, and how often it changed hands.
fn held_by(plane: &Plane, holder: &str, transitions: u32) {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "test", "resourceVersion": transitions.to_string(), "creationTimestamp": "2026-06-01T00:00:00Z" },
        "spec": { "holderIdentity": holder, "leaseTransitions": transitions },
    });
    plane.held().objects.insert(LEASE.to_owned(), lease);
}

fn holder(plane: &Plane) -> Option<String> {
    plane.held().objects[LEASE]["spec"]["holderIdentity"].as_str().map(str::to_owned)
}

fn namespace(name: &str, level: &str, mark: Option<&str>) -> Value {
    let mut labels = json!({ ENFORCE_LABEL: level });
    if let Some(mark) = mark {
        labels[KEPT_LEVEL_LABEL] = mark.into();
    }
    json!({ "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "uid": format!("{name}-1"), "resourceVersion": "7", "labels": labels } })
}

/// Lowered namespaces, as the cluster has them and as the replica sees them.
fn lowered(plane: &Plane, names: &[&str], wish: Wish) -> Seen {
    let mut seen = Seen::default();
    for name in names {
        let object = namespace(name, "baseline", Some("restricted"));
        plane.held().namespaces.insert((*name).to_owned(), object.clone());
        let place = Place { namespace: Arc::new(object), wish, is_marked: true };
        seen.places.insert((*name).to_owned(), place);
    }
    seen
}

/// A replica in a pod that is ready, which says that it asks about these.
fn replica(plane: &Plane, pod: &str, asked: &[&str]) {
    let asked = Asked::of(asked.iter().map(|each| (POD_SECURITY, *each)));
    let mut held = plane.held();
    held.pods.push(json!({
        "metadata": { "name": pod }, "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    }));
    let empty = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {} });
    let map = held.objects.entry(status_path()).or_insert(empty);
    map["data"][format!("replica.{pod}")] = serde_json::to_string(&asked).unwrap().into();
}

fn level(plane: &Plane, name: &str) -> (String, bool) {
    let labels = plane.held().namespaces[name]["metadata"]["labels"].clone();
    (labels[ENFORCE_LABEL].as_str().unwrap().to_owned(), !labels[KEPT_LEVEL_LABEL].is_null())
}

fn raised() -> (String, bool) {
    ("restricted".to_owned(), false)
}

#[tokio::test]
async fn a_level_that_cannot_be_raised_is_in_the_way_of_no_other() {
    let plane = Plane::default();
    let mut leader = leader(&plane).await;
    replica(&plane, "self", &[ENFORCES]);
    let names: Vec<String> = (0..40).map(|at| format!("n{at:02}")).collect();
    let mut all = vec!["a-refused", "a-slow"];
    all.extend(names.iter().map(String::as_str));
    let seen = lowered(&plane, &all, Wish::Restore);
    plane.held().refused.insert("a-refused".to_owned());
    plane.held().slow.insert("a-slow".to_owned());
    let mut rounds = 0;
    let mut left = seen.clone();
    while left.places.len() > 2 {
        let began = Instant::now();
        leader.lowering.restore(&left, &leader.replicas).await;
        assert!(began.elapsed() < Duration::from_millis(1_900), "{:?}", began.elapsed());
        left.places.retain(|name, _| level(&plane, name) != raised());
        rounds += 1;
        assert!(rounds < 8, "{:?}", left.places.keys());
    }
    assert!(plane.held().tried["a-refused"] <= 2, "what is refused is tried seldom");
    let told = leader.lowering.troubles(&left).join("\n");
    assert!(
        told.contains("Namespace/a-refused: its level of Pod Security cannot be raised"),
        "{told}"
    );
    assert!(
        told.contains("nobody may change it") && told.contains("does not answer in time"),
        "{told}"
    );
    // It is raised as soon as it can be.
    plane.held().refused.clear();
    plane.held().slow.clear();
    while level(&plane, "a-slow") != raised() || level(&plane, "a-refused") != raised() {
        leader.lowering.restore(&left, &leader.replicas).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn whoever_goes_raises_all_levels_though_somebody_else_writes_them() {
    let plane = Plane::default();
    let mut leader = leader(&plane).await;
    replica(&plane, "self", &[ENFORCES]);
    let seen = lowered(&plane, &["a", "b", "c"], Wish::Lower);
    // More often than a namespace is read again in one go.
    plane.held().contended.insert("b".to_owned(), 20);
    tokio::time::timeout(LEAVE_WITHIN, leader.lowering.leave(&seen)).await.unwrap();
    for name in ["a", "b", "c"] {
        assert_eq!(level(&plane, name), raised(), "{name}");
    }
    assert!(plane.held().tried["b"] > 20);
}

#[tokio::test]
async fn levels_are_raised_while_a_replica_would_not_enforce_them() {
    let plane = Plane::default();
    let mut leader = leader(&plane).await;
    replica(&plane, "self", &[ENFORCES, "shop shop-1"]);
    let seen = lowered(&plane, &["shop"], Wish::Lower);
    leader.lowering.restore(&seen, &leader.replicas).await;
    assert_eq!(level(&plane, "shop"), ("baseline".to_owned(), true));
    assert!(!leader.replicas.is_followed("self", POD_SECURITY, ENFORCES).await.unwrap());

    // One of an older version is ready, and says of others what it knew then.
    replica(&plane, "older", &["shop shop-1"]);
    assert!(!leader.replicas.is_followed("self", POD_SECURITY, ENFORCES).await.unwrap());
    leader.lowering.restore(&seen, &leader.replicas).await;
    assert_eq!(level(&plane, "shop"), ("baseline".to_owned(), true), "it may be about to say it");
    leader.lowering.age_strangers();
    leader.lowering.restore(&seen, &leader.replicas).await;
    assert_eq!(level(&plane, "shop"), raised());

    // And nothing is lowered again beside it.
    let mut seen = seen;
    let object = plane.held().namespaces["shop"].clone();
    let place = Place { namespace: Arc::new(object), wish: Wish::Lower, is_marked: false };
    seen.places.insert("shop".to_owned(), place);
    leader.lowering.lower(&seen, &leader.replicas).await;
    leader.lowering.age_asked();
    leader.lowering.lower(&seen, &leader.replicas).await;
    assert_eq!(level(&plane, "shop"), raised());
}

#[tokio::test]
async fn whoever_leads_again_counts_anew_how_long_api_servers_ask() {
    let (plane, mut tasks) = (Plane::default(), Tasks::new());
    plane.held().is_listing = true;
    let (mut leader, mut leadership) = contender(&plane, &mut tasks).await;
    replica(&plane, "self", &[ENFORCES, "shop shop-1"]);
    let object = namespace("shop", "restricted", None);
    plane.held().namespaces.insert("shop".to_owned(), object.clone());
    let mut seen = Seen::default();
    let place = Place { namespace: Arc::new(object), wish: Wish::Lower, is_marked: false };
    seen.places.insert("shop".to_owned(), place);
    leader.engines.completed().await;
    while leader.gate.is_complete().is_err() {
        tokio::task::yield_now().await;
    }
    let leads = leader.terms.subscribe();
    assert!(leader.round(&mut leadership).await.unwrap().is_some());
    assert!(leads.borrow().is_some());

    // Another one led for a while; or it did between two rounds, and this one never saw it.
    for (transitions, sees_it) in [(5, true), (9, false)] {
        leader.lowering.lower(&seen, &leader.replicas).await;
        leader.lowering.age_asked();
        leader.asked.insert("p".to_owned(), ("c".to_owned(), Instant::now()));
        if sees_it {
            held_by(&plane, "other", transitions);
            assert!(leader.round(&mut leadership).await.unwrap().is_none());
            assert_eq!(*leads.borrow(), None);
        }
        held_by(&plane, "", transitions);
        assert!(leader.round(&mut leadership).await.unwrap().is_some());
        assert!(leader.asked.is_empty());
        leader.lowering.lower(&seen, &leader.replicas).await;
        assert_eq!(
            level(&plane, "shop"),
            raised(),
            "the other one may have told API servers otherwise"
        );
    }
    // Who goes on leading goes on counting.
    leader.lowering.age_asked();
    assert!(leader.round(&mut leadership).await.unwrap().is_some());
    leader.lowering.lower(&seen, &leader.replicas).await;
    assert_eq!(level(&plane, "shop"), ("baseline".to_owned(), true));
}

#[tokio::test]
async fn a_replica_that_is_not_ready_leads_for_one_round_and_then_lets_others() {
    let (plane, mut tasks) = (Plane::default(), Tasks::new());
    let (mut leader, mut leadership) = contender(&plane, &mut tasks).await;
    let leads = leader.terms.subscribe();
    // Nothing is known of the cluster; an authority must be made all the same.
    assert!(leader.round(&mut leadership).await.unwrap().is_some());
    assert!(plane.held().objects[SECRET]["data"]["current.crt"].is_string());
    assert_eq!(
        (holder(&plane), *leads.borrow()),
        (None, None),
        "what a leader does for long it does not"
    );

    assert!(
        leader.round(&mut leadership).await.unwrap().is_none(),
        "one that is ready comes first"
    );
    assert_eq!(holder(&plane), None);
    leader.stood_in = leader.stood_in.map(|at| at - STAND_IN);
    assert!(leader.round(&mut leadership).await.unwrap().is_some());
    assert_eq!(holder(&plane), None);
    // One that leads is let lead.
    leader.stood_in = leader.stood_in.map(|at| at - STAND_IN);
    held_by(&plane, "other", 7);
    assert!(leader.round(&mut leadership).await.unwrap().is_none());
    assert_eq!(holder(&plane).as_deref(), Some("other"));
}

#[tokio::test]
async fn how_long_api_servers_ask_is_counted_from_when_the_entry_stood_last() {
    let plane = Plane::default();
    let mut leader = leader(&plane).await;
    replica(&plane, "self", &[ENFORCES, "shop shop-1"]);
    let object = namespace("shop", "restricted", None);
    plane.held().namespaces.insert("shop".to_owned(), object.clone());
    let path =
        |kind: &str, name: &str| format!("/apis/admissionregistration.k8s.io/v1/{kind}/{name}");
    let (validating, mutating) =
        ("validatingwebhookconfigurations", "mutatingwebhookconfigurations");
    let apart = path(validating, POD_SECURITY_WEBHOOK);
    for (kind, path) in [
        ("ValidatingWebhookConfiguration", apart.clone()),
        ("ValidatingWebhookConfiguration", path(validating, ADMISSION_WEBHOOKS)),
        ("MutatingWebhookConfiguration", path(mutating, ADMISSION_WEBHOOKS)),
    ] {
        let empty = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": "n" } });
        plane.held().objects.insert(path, empty);
    }
    let mut seen = Seen::default();
    let place = Place { namespace: Arc::new(object), wish: Wish::Lower, is_marked: false };
    seen.places.insert("shop".to_owned(), place);
    let mut record = AuthorityRecord::default();
    record.current = Some(Generation {
        certificate_pem: "pem".to_owned(),
        key: SecretSlice::from(vec![1]),
        path: SecretString::from("path"),
    });
    let standing = leader.engines.standing().unwrap();

    assert!(matches!(leader.register(&record, &standing, &seen).await, Believes::Unknown));
    assert_eq!(
        plane.held().objects[&apart]["webhooks"][0]["name"],
        "pod-security.admission.nullius.dev"
    );
    assert!(matches!(leader.register(&record, &standing, &seen).await, Believes::All));
    leader.lowering.lower(&seen, &leader.replicas).await;
    leader.lowering.age_asked();
    leader.asked.insert("p".to_owned(), ("c".to_owned(), Instant::now()));
    // Somebody took the entry away, and it was written again.
    plane.held().objects.get_mut(&apart).unwrap()["webhooks"] = json!([]);
    assert!(matches!(leader.register(&record, &standing, &seen).await, Believes::Unknown));
    assert_eq!(leader.asked.len(), 1, "what is asked about by other entries stood all the time");
    assert!(matches!(leader.register(&record, &standing, &seen).await, Believes::All));
    leader.lowering.lower(&seen, &leader.replicas).await;
    assert_eq!(level(&plane, "shop"), raised());

    leader.lowering.age_asked();
    leader.lowering.lower(&seen, &leader.replicas).await;
    assert_eq!(level(&plane, "shop"), ("baseline".to_owned(), true));
    assert!(leader.levels.has_noted("shop"), "a late watch must not make it forgotten");
    // The entry of the policies stands by itself, and what waits for it is counted anew.
    let all = path(validating, ADMISSION_WEBHOOKS);
    plane.held().objects.get_mut(&all).unwrap()["webhooks"] = json!([{ "name": "a.b.c" }]);
    assert!(matches!(leader.register(&record, &standing, &seen).await, Believes::Unknown));
    assert!(leader.asked.is_empty());
}

#[tokio::test]
async fn api_servers_ask_about_pods_that_get_proxies_and_in_doubt_each_way_is_closed() {
    let plane = Plane::default();
    let leader = leader(&plane).await;
    let path =
        |kind: &str, name: &str| format!("/apis/admissionregistration.k8s.io/v1/{kind}/{name}");
    let mutating = path("mutatingwebhookconfigurations", ADMISSION_WEBHOOKS);
    for (kind, path) in [
        (
            "ValidatingWebhookConfiguration",
            path("validatingwebhookconfigurations", POD_SECURITY_WEBHOOK),
        ),
        (
            "ValidatingWebhookConfiguration",
            path("validatingwebhookconfigurations", ADMISSION_WEBHOOKS),
        ),
        ("MutatingWebhookConfiguration", mutating.clone()),
    ] {
        let empty = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": "n" } });
        plane.held().objects.insert(path, empty);
    }
    let mut record = AuthorityRecord::default();
    record.current = Some(Generation {
        certificate_pem: "pem".to_owned(),
        key: SecretSlice::from(vec![1]),
        path: SecretString::from("path"),
    });
    let standing = leader.engines.standing().unwrap();
    let seen = Seen::default();
    let mut leader = leader.injecting(true);
    assert!(matches!(leader.register(&record, &standing, &seen).await, Believes::Unknown));
    // It stands as it was written.
    assert!(matches!(leader.register(&record, &standing, &seen).await, Believes::All));

    let webhooks = plane.held().objects[&mutating]["webhooks"].clone();
    assert_eq!(webhooks.as_array().unwrap().len(), 2);
    let selected = |at: usize, selector: &str| -> Vec<String> {
        let all = webhooks[at][selector]["matchExpressions"].as_array().unwrap();
        let one = |it: &Value| {
            format!("{} {} {}", it["key"], it["operator"], it["values"]).replace('"', "")
        };
        all.iter().map(one).collect()
    };
    let ours = [
        "kubernetes.io/metadata.name NotIn [kube-node-lease,kube-system,nullius-sessions,nullius-system]",
        "kubernetes.io/metadata.name NotIn [nullius-node]",
    ];
    for (at, name, policy, namespaces, pods) in [
        (0, "inject-fail", "Fail", "NotIn [node,disabled]", "In [sidecar]"),
        (1, "inject-ignore", "Ignore", "In [sidecar]", "NotIn [sidecar]"),
    ] {
        let webhook = &webhooks[at];
        assert_eq!(webhook["name"], format!("{name}.admission.nullius.dev"));
        assert_eq!(webhook["failurePolicy"], policy);
        assert_eq!(webhook["reinvocationPolicy"], "IfNeeded");
        assert_eq!(webhook["sideEffects"], "None");
        assert_eq!(webhook["clientConfig"]["service"]["path"], format!("/path/{name}"));
        assert_eq!(
            webhook["rules"],
            json!([{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced" }])
        );
        let expected =
            [ours[0].to_owned(), ours[1].to_owned(), format!("nullius.dev/mesh {namespaces}")];
        assert_eq!(selected(at, "namespaceSelector"), expected);
        assert_eq!(selected(at, "objectSelector"), [format!("nullius.dev/mesh {pods}")]);
    }

    // A cluster without a mesh any more asks nobody.
    let mut leader = leader.injecting(false);
    assert!(matches!(leader.register(&record, &standing, &seen).await, Believes::Unknown));
    assert_eq!(plane.held().objects[&mutating]["webhooks"], json!([]));
}
