//! Attacks on the admission webhook, each over real TLS: through the API server where it has a part in it, else at the webhook's port.

use std::time::{Duration, Instant};

use nullius_testkit::wait_until;
use serde_json::{Value, json};

use crate::{
    admission_direct::{Direct, review},
    admission_lab::{Court, SOON, config_map},
    world::World,
};

const ALL_CONTAINERS: &str = "(has(object.spec.containers) ? object.spec.containers : []) \
    + (has(object.spec.initContainers) ? object.spec.initContainers : []) \
    + (has(object.spec.ephemeralContainers) ? object.spec.ephemeralContainers : [])";

/// A policy on ConfigMaps that wants the label `team`.
fn wants_team(court: &Court<'_>, failure: &str) -> String {
    court.validating(
        "team",
        json!({
            "failurePolicy": failure,
            "validations": [{
                "expression": "has(object.metadata.labels) && 'team' in object.metadata.labels",
                "message": "the label team is missing",
            }],
        }),
    )
}

fn pod(containers: Value, init: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "tried" },
        "spec": { "containers": containers, "initContainers": init, "terminationGracePeriodSeconds": 0 },
    })
}

fn container(name: &str, image: &str) -> Value {
    json!({ "name": name, "image": image, "imagePullPolicy": "Never", "command": ["sleep", "1000"] })
}

const GOOD: &str = "localhost/nullius-busybox:1";
const BAD: &str = "evil.example/miner:1";

/// Policies on pods and what may change of them later.
fn on_pods(court: &Court<'_>) -> String {
    let mut constraints = court.constraints("", "pods");
    constraints["resourceRules"][0]["resources"] =
        json!(["pods", "pods/ephemeralcontainers", "pods/resize"]);
    court.validating(
        "pods",
        json!({
            "matchConstraints": constraints,
            "variables": [{ "name": "all", "expression": ALL_CONTAINERS }],
            "validations": [
                { "expression": "variables.all.all(c, c.image.startsWith('localhost/'))", "message": "images come from localhost" },
                { "expression": "variables.all.all(c, !has(c.resources) || !has(c.resources.limits) || !('memory' in c.resources.limits) || quantity(c.resources.limits['memory']).isLessThan(quantity('200Mi')))", "message": "less than 200Mi" },
            ],
        }),
    )
}

#[test]
fn ephemeral_and_sidecar_containers_and_a_resize_are_judged() {
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "attack");
    court.enforce(&[("pods.yaml", on_pods(&court))]);
    let good = json!([container("main", GOOD)]);
    court.refuses(
        "pods",
        &pod(json!([container("main", BAD)]), json!([])),
        "images come from localhost",
    );
    let mut sidecar = container("side", BAD);
    sidecar["restartPolicy"] = json!("Always");
    court.refuses("pods", &pod(good.clone(), json!([sidecar])), "images come from localhost");

    let mut main = container("main", GOOD);
    main["resources"] = json!({ "limits": { "memory": "64Mi" }, "requests": { "memory": "16Mi" } });
    court.namespace.apply(&pod(json!([main]), json!([])).to_string()).unwrap();
    court
        .namespace
        .kubectl(&["wait", "pod/tried", "--for=condition=Ready", "--timeout=180s"])
        .unwrap();
    let debug = |image: &str| {
        let image = format!("--image={image}");
        court
            .namespace
            .run(&["debug", "tried", &image, "--image-pull-policy=Never", "--", "sleep", "1"])
            .unwrap()
    };
    let refused = debug(BAD);
    assert!(
        refused.code != 0 && refused.stderr.contains("images come from localhost"),
        "{refused:?}"
    );
    assert_eq!(debug(GOOD).code, 0);
    let resize = |memory: &str| {
        let patch = json!({ "spec": { "containers": [{ "name": "main", "resources": { "limits": { "memory": memory } } }] } });
        court
            .namespace
            .run(&["patch", "pod", "tried", "--subresource=resize", "-p", &patch.to_string()])
            .unwrap()
    };
    let refused = resize("900Mi");
    assert!(refused.code != 0 && refused.stderr.contains("less than 200Mi"), "{refused:?}");
    assert_eq!(resize("80Mi").code, 0);
}

#[test]
fn cve_2023_34091_an_object_that_is_being_deleted_is_judged_too() {
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "attack");
    court.enforce(&[("team.yaml", wants_team(&court, "Fail"))]);
    court.refuses("configmaps", &config_map(json!({})), "team is missing");
    let mut held = config_map(json!({ "team": "a" }));
    held["metadata"]["finalizers"] = json!(["nullius.dev/test"]);
    court.namespace.apply(&held.to_string()).unwrap();
    court.namespace.kubectl(&["delete", "configmap", "tried", "--wait=false"]).unwrap();
    let patch = |patch: &str| {
        court.namespace.run(&["patch", "configmap", "tried", "--type=merge", "-p", patch]).unwrap()
    };
    let refused = patch(r#"{"metadata":{"labels":{"team":null}}}"#);
    assert!(refused.code != 0 && refused.stderr.contains("team is missing"), "{refused:?}");
    assert_eq!(patch(r#"{"metadata":{"finalizers":null}}"#).code, 0);
}

/// Does something when the value goes.
struct Last<F: FnMut()>(F);

impl<F: FnMut()> Drop for Last<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn cve_2025_46342_a_namespace_that_cannot_be_looked_up_denies() {
    let Some(world) = World::alone() else { return };
    let court = Court::open(&world, "attack");
    court.enforce(&[("team.yaml", wants_team(&court, "Ignore"))]);
    court.refuses("configmaps", &config_map(json!({})), "team is missing");
    let direct = Direct::of(&court);
    let mut unknown = review(&court, json!({ "team": "a" }));
    unknown["request"]["namespace"] = json!("nobody-knows-it");
    let reads = |resources: &[&str]| {
        let patch = json!([{ "op": "replace", "path": "/rules/0/resources", "value": resources }]);
        let patch = patch.to_string();
        let args = ["patch", "clusterrole", "nullius:admission", "--type=json", "-p", &patch];
        world.direct().ok(&args).unwrap();
    };
    let told = {
        reads(&["configmaps"]);
        // Other tests need the right again, whatever becomes of this one.
        let _again = Last(|| reads(&["namespaces", "configmaps"]));
        wait_until(SOON, "a look-up that errs", || {
            let response = direct.review("validate-ignore", &unknown.to_string()).response();
            (response["allowed"] == false).then(|| response["status"]["message"].clone())
        })
    };
    let told = told.unwrap().to_string();
    assert!(told.contains("the namespace `nobody-knows-it` cannot be told"), "{told}");
}

#[test]
fn slowness_does_not_reach_a_failure_policy_that_ignores() {
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "attack");
    court.enforce(&[("team.yaml", wants_team(&court, "Ignore"))]);
    court.refuses("configmaps", &config_map(json!({})), "team is missing");
    let direct = Direct::of(&court);
    direct.wait_for_refusal("validate-ignore", &review(&court, json!({})).to_string());
    let body = review(&court, json!({ "team": "a" })).to_string();
    assert_eq!(direct.review("validate-ignore", &body).response()["allowed"], true);
    // No evaluation is done in so little time.
    let late = direct.post(&format!("/{}/validate-ignore?timeout=0.001ms", direct.path), &body);
    assert!(late.denial().contains("longer than the API server waits"), "{late:?}");
}

#[test]
fn a_container_that_a_later_policy_adds_is_judged_and_seen_by_those_before() {
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "attack");
    let mutating = |name: &str, again: &str, expression: &str| {
        court.bound(
            "Mutating",
            name,
            json!({
                "matchConstraints": court.constraints("", "pods"),
                "reinvocationPolicy": again,
                "mutations": [{ "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": expression } }],
            }),
            json!({}),
        )
    };
    let first = mutating(
        "a-first",
        "IfNeeded",
        "Object{spec: Object.spec{containers: object.spec.containers.map(c, Object.spec.containers{name: c.name, securityContext: Object.spec.containers.securityContext{readOnlyRootFilesystem: true}})}}",
    );
    let adds = |image: &str| {
        mutating(
            "b-adds",
            "Never",
            &format!(
                "Object{{spec: Object.spec{{containers: [Object.spec.containers{{name: 'added', image: '{image}'}}]}}}}"
            ),
        )
    };
    let tried = pod(json!([container("main", GOOD)]), json!([]));
    court.enforce(&[
        ("a.yaml", first.clone()),
        ("b.yaml", adds(BAD)),
        ("pods.yaml", on_pods(&court)),
    ]);
    court.refuses("pods", &tried, "images come from localhost");
    court.enforce(&[("a.yaml", first), ("b.yaml", adds(GOOD)), ("pods.yaml", on_pods(&court))]);
    let made = court.passes("pods", &tried);
    let containers = made["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 2, "{made:#}");
    for container in containers {
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{container:#}");
    }
}

#[test]
fn an_old_object_that_somebody_makes_up_is_not_believed() {
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "attack");
    let fixed = court.validating(
        "fixed",
        json!({ "validations": [{
            "expression": "oldObject == null || object.metadata.labels.team == oldObject.metadata.labels.team",
            "message": "the team never changes",
        }] }),
    );
    court.namespace.apply(&config_map(json!({ "team": "a" })).to_string()).unwrap();
    court.enforce(&[("fixed.yaml", fixed)]);
    let path = format!("/api/v1/namespaces/{}/configmaps/tried?dryRun=All", court.name());
    let mut spoofed = config_map(json!({ "team": "b" }));
    spoofed["oldObject"] = config_map(json!({ "team": "b" }));
    spoofed["request"] = json!({ "oldObject": config_map(json!({ "team": "b" })) });
    let refused = wait_until(SOON, "a refusal", || {
        let answer = court.api.put(&path, &spoofed).unwrap();
        (!answer.is_success()).then(|| answer.text())
    });
    assert!(refused.unwrap().contains("the team never changes"));
    // At the webhook's port, whoever does not know the path is not even read.
    let mut made_up = review(&court, json!({ "team": "b" }));
    made_up["request"]["operation"] = json!("UPDATE");
    made_up["request"]["oldObject"] = made_up["request"]["object"].clone();
    let direct = Direct::of(&court);
    let guessed = format!("/{}/validate-fail", "A".repeat(direct.path.len()));
    assert_eq!(direct.post(&guessed, &made_up.to_string()).status, 404);
}

#[test]
fn duplicate_keys_and_a_wrong_uid_are_refused() {
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "attack");
    court.enforce(&[("team.yaml", wants_team(&court, "Ignore"))]);
    court.refuses("configmaps", &config_map(json!({})), "team is missing");
    let direct = Direct::of(&court);
    let uid = "00000000-0000-4000-8000-000000000001";
    let request = review(&court, json!({}))["request"].clone();
    let mut fields = request.as_object().unwrap().clone();
    fields.remove("uid");
    let rest = Value::Object(fields).to_string();
    let with = |more: &str| {
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{{more}{}}}"#,
            rest.trim_start_matches('{')
        )
    };
    let said =
        direct.review("validate-ignore", &with(&format!(r#""uid":"{uid}","operation":"DELETE","#)));
    assert!(said.denial().contains("`operation` stands twice"), "{said:?}");
    assert_eq!(said.response()["uid"], uid);
    for wrong in ["", r#""uid":"","#, r#""uid":7,"#] {
        let said = direct.review("validate-ignore", &with(wrong));
        assert_eq!(said.status, 400, "{wrong}: {said:?}");
    }
}

#[test]
fn cve_2026_23881_loops_doubling_texts_and_variables_end_in_a_refusal_and_not_in_memory() {
    // It is timed.
    let Some(world) = World::alone() else { return };
    let court = Court::open(&world, "attack");
    let list = format!("[{}]", (0..40).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    let loops = format!(
        "{list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, {list}.all(e, a + b + c + d + e < 100000)))))"
    );
    let doubled: Vec<Value> = (0..40)
        .map(|n| {
            let before = if n == 0 {
                "object.metadata.name".to_owned()
            } else {
                format!("variables.v{}", n - 1)
            };
            json!({ "name": format!("v{n}"), "expression": format!("{before} + {before}") })
        })
        .collect();
    // Each holds the one before nine times, and none of them takes any room.
    let shared: Vec<Value> = (0..14)
        .map(|n| {
            let before = if n == 0 { "1".to_owned() } else { format!("variables.v{}", n - 1) };
            let items = vec![before; 9].join(", ");
            json!({ "name": format!("v{n}"), "expression": format!("[{items}]") })
        })
        .collect();
    let nested = (0..12).fold("[1]".to_owned(), |inner, level| {
        format!("{inner}.map(v{level}, [{}])", vec![format!("v{level}"); 9].join(", "))
    });
    let compared = format!("[{nested}].all(x, x == x)");
    let bomb = |name: &str, variables: Value, expression: &str| {
        court.validating(
            name,
            json!({
                "matchConditions": [{ "name": "its-own", "expression": format!("object.metadata.name == '{name}'") }],
                "variables": variables,
                "validations": [{ "expression": expression }],
            }),
        )
    };
    court.enforce(&[
        ("loops.yaml", bomb("loops", json!([]), &loops)),
        ("doubling.yaml", bomb("doubling", Value::Array(doubled), "size(variables.v39) > 0")),
        ("sharing.yaml", bomb("sharing", Value::Array(shared), "variables.v13 == variables.v13")),
        ("comparing.yaml", bomb("comparing", json!([]), &compared)),
    ]);
    for name in ["loops", "doubling", "sharing", "comparing"] {
        let tried =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
        court.refuses("configmaps", &tried, "denied the request");
        let began = Instant::now();
        assert!(!court.send("configmaps", &tried).is_success());
        assert!(began.elapsed() < Duration::from_secs(5), "{name}: {:?}", began.elapsed());
    }
    let other = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "other" } });
    court.passes("configmaps", &other);
}

#[test]
fn deep_and_long_reviews_are_denied_and_not_ignored() {
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "attack");
    court.enforce(&[("team.yaml", wants_team(&court, "Ignore"))]);
    court.refuses("configmaps", &config_map(json!({})), "team is missing");
    let direct = Direct::of(&court);
    let uid = "00000000-0000-4000-8000-000000000001";
    let body = |object: &str| {
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"{uid}","operation":"CREATE","object":{object}}}}}"#
        )
    };
    let deep = body(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    let long = body(&format!("\"{}\"", "x".repeat(9 * 1024 * 1024)));
    for (what, body, words) in [("deep", deep, "recursion limit"), ("long", long, "longer than")] {
        let said = direct.review("validate-ignore", &body);
        assert!(said.denial().contains(words), "{what}");
        assert_eq!(said.response()["uid"], uid);
    }
}

#[test]
fn the_webhook_is_no_oracle_for_who_is_no_api_server() {
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "attack");
    court.enforce(&[("team.yaml", wants_team(&court, "Fail"))]);
    court.refuses("configmaps", &config_map(json!({})), "team is missing");
    let direct = Direct::of(&court);
    let body = review(&court, json!({})).to_string();
    let nothing = |said: crate::admission_direct::Said| {
        assert_eq!((said.status, said.body.as_str()), (404, ""), "{said:?}");
    };
    let mut almost = direct.path.clone();
    almost.pop();
    for path in [
        "/".to_owned(),
        "/validate-fail".to_owned(),
        "//validate-fail".to_owned(),
        format!("/{almost}/validate-fail"),
        format!("/{almost}A/validate-fail").replace("AA/", "AB/"),
        format!("/{}A/validate-fail", direct.path),
        format!("/{}", direct.path),
        format!("/{}/other", direct.path),
        "/healthz".to_owned(),
        "/metrics".to_owned(),
    ] {
        if path != format!("/{}/validate-fail", direct.path) {
            nothing(direct.post(&path, &body));
        }
    }
    nothing(direct.send("GET", &format!("/{}/validate-fail", direct.path), ""));
    direct.wait_for_refusal("validate-fail", &body);
    // Who may look at pods, ConfigMaps and Services finds no path there.
    for kind in ["pods", "configmaps", "services", "endpointslices", "events"] {
        let told = court.system(&["get", kind, "-o", "yaml"]);
        assert!(!told.contains(&direct.path), "{kind}");
    }
}
