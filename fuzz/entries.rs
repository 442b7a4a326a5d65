//! Where bytes of strangers enter: what the fuzz targets and the tests of `nullius-admission` call. None may panic, and what
//! is told must be about the input.

use std::sync::LazyLock;

use nullius_admission::{
    Depth, Policies, Scan, Sender, State, Trials, Waivers, junit, sarif, trial_junit,
};
use nullius_audit::api_server::{LIST_EVENTS, rbac_permission, read_list};
use nullius_cel::{Activation, Budget, Env, Type, Value};
use nullius_manifest::{Found, Place, Source, objects};
use nullius_model::{ClusterName, Timestamp};
use nullius_policy::{
    admission_policy::{Fault, PolicySet, Request, Version},
    baseline::{Baseline, Plan},
    exception::{Exception, Subject},
};
use serde_json::Value as Json;

/// The most that an expression of a fuzzer may cost: a tenth of what an API server permits.
const COST: u64 = 100_000;

/// The environments are made once: that takes longer than what most expressions take.
static DIALECTS: LazyLock<[Env; 3]> = LazyLock::new(|| {
    [Env::kubernetes(Version::LATEST), Env::kubernetes(Version::FIRST), Env::spec()]
        .map(|env| env.with_variable("object", Type::Dyn))
});

/// An expression: compiled in each dialect, and evaluated.
pub(super) fn cel_source(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    let object: Json = serde_json::json!({
        "metadata": { "name": "a", "labels": { "a": "b" } },
        "spec": { "replicas": 3, "containers": [{ "name": "a", "image": "a:1" }, {}] },
    });
    for env in &*DIALECTS {
        let program = match env.compile(source) {
            Ok(program) => program,
            Err(errors) => {
                assert!(!errors.is_empty(), "it is refused and nobody says why");
                continue;
            }
        };
        let activation = Activation::new().with("object", Value::from_json(&object));
        let outcome = program.evaluate(&activation, Budget { cost: COST, ..Budget::default() });
        let again = program.evaluate(&activation, Budget { cost: COST, ..Budget::default() });
        assert_eq!(outcome.cost, again.cost, "the same expression has two costs");
        assert_eq!(outcome.result.is_ok(), again.result.is_ok(), "the outcome is not the same");
    }
}

static PRACTICE: LazyLock<PolicySet> = LazyLock::new(|| {
    let mut set = PolicySet::new(Version::LATEST);
    for (name, text) in nullius_admission::PRACTICE {
        objects(text, |found| match found {
            Found::Object(manifest) => assert!(set.add(&manifest.to_json()).is_ok(), "{name}"),
            other => panic!("{name}: {other:?}"),
        });
    }
    set
});

static STATE: LazyLock<State> = LazyLock::new(|| {
    let mut state = State::default();
    let holds = serde_json::json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": nullius_admission::HOLDS,
        "holds": [{ "apiVersion": "v1", "kind": "Namespace" }],
    });
    let namespace = serde_json::json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "default" },
    });
    assert!(state.add(&holds).is_ok() && state.add(&namespace).is_ok());
    state
});

/// An `AdmissionReview`, judged by good practice.
pub(super) fn admission_review(bytes: &[u8]) {
    let Ok(review) = serde_json::from_slice::<Json>(bytes) else { return };
    let Ok(request) = Request::of_review(review) else { return };
    let Ok(decision) = STATE.judge(&PRACTICE, &request) else { return };
    // Good practice changes nothing, and says why it refuses.
    assert!(decision.patch.is_empty());
    if let Some(refusal) = &decision.refusal {
        assert!(!refusal.message.is_empty() && refusal.code >= 400);
    }
}

/// A file of objects: read, as an API server would hold them, and read again.
pub(super) fn yaml_intake(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines = text.split('\n').count();
    let is_within = |place: Place| (1..=lines + 1).contains(&place.line) && place.column > 0;
    objects(text, |found| match found {
        Found::Object(manifest) => {
            let whole = manifest.to_json();
            assert_eq!(whole["kind"], manifest.kind.as_str());
            let held = manifest.as_api_object();
            assert!(held.faults.iter().all(|fault| is_within(fault.place)), "{:?}", held.faults);
            assert!(held.object.is_some() || !held.faults.is_empty(), "nobody says why");
            let mut again = Vec::new();
            objects(&whole.to_string(), |found| again.push(found));
            let [Found::Object(again)] = again.as_slice() else { panic!("{again:?}") };
            assert_eq!(again.to_json(), whole, "what was read is read otherwise");
            assert_eq!(again.as_api_object().object, held.object);
        }
        Found::Other(place) => assert!(is_within(place), "{place:?}"),
        Found::Fault(fault) => {
            assert!(is_within(fault.place) && !fault.message.is_empty(), "{fault:?}");
        }
    });
}

/// A file of objects: scanned, and written in every form.
pub(super) fn scanned_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines = text.split('\n').count();
    let (Ok(level), Ok(today)) = ("restricted".parse(), "2026-11-21".parse()) else { return };
    // What takes long is compiled already.
    let policies = Policies::sharing(Version::LATEST, PRACTICE.programs().clone())
        .with_practice(&Default::default());
    let mut scan = Scan::new(level, Waivers::default(), today)
        .with_policies(policies, Sender::default())
        .with_depth(Depth::Traces);
    scan.source(Ok(Source { name: "fuzz.yaml".to_owned(), text: text.to_owned() }));
    let report = scan.finish();
    for finding in &report.findings {
        assert!((1..=lines).contains(&finding.location.line), "{finding:?}");
        assert!(finding.spots.iter().all(|spot| (1..=lines).contains(&spot.line)), "{finding:?}");
    }
    for fault in &report.errors {
        assert!(fault.line.is_none_or(|line| (1..=lines + 1).contains(&line)), "{fault:?}");
    }
    let broken: usize = report.objects.iter().map(|object| object.findings).sum();
    assert_eq!(broken, report.findings.len());
    assert!(!junit(&report).is_empty());
    assert!(sarif(&report, "0")["runs"][0]["results"].is_array());
}

/// What an API server's audit webhook sends.
pub(super) fn api_server_audit(bytes: &[u8]) {
    let Ok(listed) = read_list(bytes) else { return };
    assert!(listed.answered.len() + listed.unreadable <= LIST_EVENTS);
    let Ok(cluster) = "fuzz".parse::<ClusterName>() else { return };
    for answered in &listed.answered {
        let (said, decision) = (answered.said(), answered.decision());
        assert!(said.is_none_or(|said| !format!("{said:?}").is_empty()), "{decision:?}");
        let _ = rbac_permission(&cluster, &answered.message);
    }
}

/// Objects of YAML or JSON text, as a cluster would hold them.
fn documents(bytes: &[u8], mut each: impl FnMut(Json)) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    objects(text, |found| {
        if let Found::Object(manifest) = found {
            each(manifest.to_json());
        }
    });
}

/// What is refused says why.
fn assert_told(faults: &[Fault]) {
    assert!(!faults.is_empty(), "it is refused and nobody says why");
    assert!(faults.iter().all(|fault| !fault.message.is_empty()), "{faults:?}");
}

/// What a match condition may speak of.
static CONDITION: LazyLock<Env> = LazyLock::new(|| {
    let names = ["object", "oldObject", "request"];
    names
        .iter()
        .fold(Env::kubernetes(Version::LATEST), |env, name| env.with_variable(name, Type::Dyn))
});

/// Exceptions and namespace baselines: read, and asked about an object.
pub(super) fn cluster_documents(bytes: &[u8]) {
    let Ok(now) = "2026-11-21T12:00:00Z".parse::<Timestamp>() else { return };
    let namespace = serde_json::json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "shop", "labels": { "team": "a" } },
    });
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web-1", "namespace": "shop" },
        "spec": {
            "containers": [{ "name": "a", "image": "registry.example/a:1" }],
            "initContainers": [{ "name": "b", "image": "b@sha256:0" }],
            "volumes": [{ "name": "v", "hostPath": { "path": "/var" } }],
        },
    });
    let subject = Subject { kind: "Pod", namespace: "shop", name: "web-1" };
    documents(bytes, |object| {
        match Exception::read(&object, now) {
            Ok(exception) => {
                let condition = exception.condition();
                // The API server is given it: it must take it.
                if condition.len() < 16 * 1024 {
                    assert!(CONDITION.compile(&condition).is_ok(), "`{condition}`");
                }
                let _ = exception.is_for("PodSecurity", &["hostPathVolumes"], subject);
                let _ = exception.without(&pod, None);
            }
            Err(faults) => assert_told(&faults),
        }
        match Baseline::read(&object) {
            Ok(baseline) => {
                let one = Plan::of([&baseline], &namespace);
                assert_eq!(one.is_some(), baseline.chooses(&namespace));
                let again = Plan::of([&baseline, &baseline], &namespace);
                assert_eq!(one.is_some(), again.is_some());
            }
            Err(faults) => assert_told(&faults),
        }
    });
}

/// Policies and bindings: compiled, and asked about a pod.
pub(super) fn policies(bytes: &[u8]) {
    let mut set = PolicySet::new(Version::LATEST);
    documents(bytes, |object| {
        if let Err(faults) = set.add(&object) {
            assert_told(&faults);
        }
    });
    let review = serde_json::json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "0", "operation": "CREATE", "name": "web", "namespace": "default",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "userInfo": { "username": "someone" },
            "object": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": "web", "namespace": "default", "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "a", "image": "a:1" }] },
            },
        },
    });
    let Ok(request) = Request::of_review(review) else { return };
    let Ok(decision) = STATE.judge(&set, &request) else { return };
    if let Some(refusal) = &decision.refusal {
        assert!(!refusal.message.is_empty() && refusal.code >= 400);
    }
}

/// A file of tests for policies. Other files are named in it: where something could name one that is there, nothing is asked.
pub(super) fn policy_tests(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let names_a_folder = |line: &str| line.contains('/') || line.contains("..");
    if text.lines().any(|line| !line.contains("apiVersion:") && names_a_folder(line)) {
        return;
    }
    let Ok(now) = "2026-11-21T12:00:00Z".parse::<Timestamp>() else { return };
    let mut trials = Trials::new(None, Depth::Traces, now);
    trials.source(Ok(Source { name: "missing/fuzz.yaml".to_owned(), text: text.to_owned() }));
    let report = trials.finish();
    assert_eq!(report.counts.files, 1);
    assert!(!report.cases.is_empty() || !report.errors.is_empty(), "a file without a word");
    assert!(!trial_junit(&report).is_empty());
}
