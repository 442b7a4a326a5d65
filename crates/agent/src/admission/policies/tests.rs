#![allow(clippy::unwrap_used, reason = "test")]
use serde_json::json;

use super::*;
use crate::{
    admission::{baselines::Gate, facts::FactSource, tests::plane::Plane, webhook::Webhook},
    report,
};
use nullius_kube::admission::Questions;

#[test]
fn the_minor_version_is_read_from_what_clouds_write() {
    for (text, minor) in [("v1.36.3", 36), ("v1.34.2-gke.100", 34), ("v1.35+", 35)] {
        assert_eq!(minor_number(text), Some(minor), "{text}");
    }
}

#[test]
fn every_key_of_a_config_map_is_a_file_and_bytes_are_none_that_can_be_read() {
    let map = json!({
        "metadata": { "name": "m" }, "data": { "a.yaml": "{}" }, "binaryData": { "b": "AAAA" },
    });
    let files = files_of(&[Arc::new(map)]);
    assert_eq!(files[0], PolicyFile { name: "m/a.yaml".to_owned(), text: "{}".to_owned() });
    assert!(check(&files[1]).is_err());
}

#[test]
fn of_parameters_no_more_is_watched_than_bindings_refer_to() {
    let text = |name: &str, reference: Value| {
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": name },
            "spec": {
                "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
                "matchConstraints": { "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"],
                    "operations": ["CREATE"], "resources": ["pods"] }] },
                "validations": [{ "expression": "params == null" }],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": name },
            "spec": { "policyName": name, "validationActions": ["Deny"], "paramRef": reference },
        });
        format!("{policy}\n---\n{binding}")
    };
    let files = [
        (
            "named",
            json!({ "name": "limits", "namespace": "shop", "parameterNotFoundAction": "Deny" }),
        ),
        ("there", json!({ "name": "limits", "parameterNotFoundAction": "Deny" })),
        (
            "some",
            json!({ "selector": { "matchLabels": { "a": "b" } }, "parameterNotFoundAction": "Deny" }),
        ),
    ];
    let files = files
        .map(|(name, reference)| PolicyFile { name: name.to_owned(), text: text(name, reference) });
    let in_force = InForce::compile(&files, Version::LATEST).unwrap();
    let room = Room::default();
    let watches: Vec<_> = in_force
        .param_sources()
        .iter()
        .map(|source| {
            let what = watched(source, "configmaps", &room);
            assert_eq!(what.room, Some(room.clone()));
            (what.namespace, what.name, what.labels)
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        watches,
        [
            (None, some("limits"), None),
            (None, None, some("a=b")),
            (some("shop"), some("limits"), None),
        ]
    );
}

/// A cluster that says everything, and a replica that reads it; time stands still but where a test lets it go on.
struct Desk {
    plane: Plane,
    engines: Engines,
    webhook: Webhook,
    _tasks: Tasks,
    /// As long as somebody works, a clock that stands still does not go on by itself.
    _busy: std::sync::mpsc::Sender<()>,
}

impl Desk {
    async fn new(version: &str) -> Self {
        let plane = Plane::default();
        plane.held().is_listing = true;
        version.clone_into(&mut plane.held().version);
        let api = plane.serve().await;
        let (busy, until) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || until.recv());
        let mut tasks = Tasks::new();
        let meters = AdmissionMeters::new(&nullius_telemetry::Metrics::new());
        let homes = BTreeSet::new();
        let engines =
            Engines::start(&api, &Credential::None, homes, meters.clone(), &mut tasks).unwrap();
        let gate = Gate::watch(&api, &Credential::None, engines.clone(), &mut tasks).unwrap();
        let questions = Questions::new(&api, Credential::None).unwrap();
        let facts = FactSource::new(questions, engines.clone());
        let (_, nobody) = watch::channel(None);
        let (reports, _) = report::open();
        let webhook = Webhook::new(engines.clone(), facts, gate, nobody, reports, meters);
        while webhook.is_ready().is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::pause();
        Self { plane, engines, webhook, _tasks: tasks, _busy: busy }
    }

    /// Lets everybody work until this is so. Between two steps of the clock, a little more than a look apart, everybody has some time of
    /// the real one.
    async fn until(&self, is_so: impl Fn(&Engines) -> bool) {
        let began = std::time::Instant::now();
        while !is_so(&self.engines) {
            assert!(began.elapsed() < Duration::from_secs(60), "it does not come so far");
            self.pass(LOOK).await;
        }
    }

    async fn pass(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            tokio::time::advance(LOOK).await;
            let began = std::time::Instant::now();
            while began.elapsed() < Duration::from_millis(50) {
                tokio::task::yield_now().await;
            }
        }
    }

    fn server(&self) -> Option<u16> {
        self.engines.standing().and_then(|standing| standing.server)
    }
}

#[tokio::test]
async fn the_version_of_the_api_server_is_asked_for_again() {
    let desk = Desk::new("v1.36.3").await;
    assert_eq!(desk.server(), Some(36));
    let before = desk.engines.standing().unwrap();
    "v1.38.0-alpha.1".clone_into(&mut desk.plane.held().version);
    desk.until(|engines| engines.standing().is_some_and(|standing| standing.server == Some(38)))
        .await;
    let after = desk.engines.standing().unwrap();
    let (before, after) = (before.engine.in_force(), after.engine.in_force());
    assert!(!std::ptr::eq(before, after), "nothing that was compiled for another version holds");
}

#[tokio::test]
async fn a_replica_that_hears_nothing_is_deaf_until_it_hears_again() {
    let desk = Desk::new("v1.36.3").await;
    desk.pass(Duration::from_secs(300)).await;
    assert_eq!(desk.webhook.is_ready(), Ok(()), "nothing happens, and it hears that");
    desk.plane.held().is_listing = false;
    desk.pass(Duration::from_secs(60)).await;
    assert_eq!(desk.webhook.is_ready(), Ok(()), "what was heard a minute ago still counts");
    desk.pass(Duration::from_secs(40)).await;
    assert!(desk.engines.deaf().is_some());
    let why = desk.webhook.is_ready().unwrap_err();
    assert!(why.contains("has not been heard"), "{why}");
    assert!(desk.engines.standing().is_some(), "it goes on answering by what it knows");
    assert_eq!(desk.engines.namespace("shop"), None);
    desk.plane.held().is_listing = true;
    desk.until(|_| desk.webhook.is_ready().is_ok()).await;
}
