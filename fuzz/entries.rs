//! Where bytes of strangers enter: what the fuzz targets and the tests of `nullius-admission` call. None may panic, and what
//! is told must be about the input.

use std::sync::LazyLock;

use nullius_admission::{Depth, Policies, Scan, Sender, State, Waivers, junit, sarif};
use nullius_cel::{Activation, Budget, Env, Type, Value};
use nullius_manifest::{Found, Source, objects};
use nullius_policy::admission_policy::{PolicySet, Request, Version};
use serde_json::Value as Json;

/// The most that an expression of a fuzzer may cost: a tenth of what an API server permits.
const COST: u64 = 100_000;

/// An expression: compiled in each dialect, and evaluated.
pub(super) fn cel_source(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    let object: Json = serde_json::json!({
        "metadata": { "name": "a", "labels": { "a": "b" } },
        "spec": { "replicas": 3, "containers": [{ "name": "a", "image": "a:1" }, {}] },
    });
    for env in [Env::kubernetes(Version::LATEST), Env::kubernetes(Version::FIRST), Env::spec()] {
        let env = env.with_variable("object", Type::Dyn);
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
    let Ok(request) = Request::of_review(&review) else { return };
    let Ok(decision) = STATE.judge(&PRACTICE, &request) else { return };
    // Good practice changes nothing, and says why it refuses.
    assert!(decision.patch.is_empty());
    if let Some(refusal) = &decision.refusal {
        assert!(!refusal.message.is_empty() && refusal.code >= 400);
    }
}

/// A file of objects: scanned, and written in every form.
pub(super) fn yaml_intake(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines = text.split('\n').count();
    let (Ok(level), Ok(today)) = ("restricted".parse(), "2026-11-21".parse()) else { return };
    let policies = Policies::new(Version::LATEST).with_practice(&Default::default());
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
