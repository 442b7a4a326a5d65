//! Exceptions from policies in a real cluster: from those of the webhook, and from those of the API server.

use std::sync::atomic::{AtomicBool, Ordering};

use nullius_kube::{AGENT_ADMISSION, EXCEPTED_POLICIES, SYSTEM_NAMESPACE};
use nullius_testkit::wait_until;
use serde_json::{Value, json};

use crate::{
    admission_lab::{Court, Ends, SOON, config_map},
    trail::events,
    world::World,
};

/// An exception of this name for what a scope says, which lasts so many seconds.
pub(crate) fn exception(home: &str, name: &str, policy: &str, scope: Value, seconds: i64) -> Value {
    let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "PolicyException",
        "metadata": { "name": name, "namespace": home },
        "spec": {
            "owner": "edge team", "reason": "must be for now", "expires": expires.to_string(),
            "rules": [{ "policy": policy }], "scope": scope,
        },
    })
}

/// An exception that goes with the value.
pub(crate) struct Excepted<'w> {
    world: &'w World,
    home: String,
    name: String,
}

impl<'w> Excepted<'w> {
    pub(crate) fn new(world: &'w World, object: &Value) -> Self {
        world.direct().apply(&object.to_string()).unwrap();
        let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
        Self { world, home: text("namespace"), name: text("name") }
    }
}

impl Drop for Excepted<'_> {
    fn drop(&mut self) {
        let delete =
            ["-n", &self.home, "delete", "policyexception", &self.name, "--ignore-not-found"];
        let _ = self.world.direct().run(&delete);
    }
}

fn pod(name: &str, containers: &[(&str, bool)]) -> Value {
    let containers: Vec<Value> = containers
        .iter()
        .zip(80..)
        .map(|((name, listens), port)| {
            let ports = if *listens {
                json!([{ "containerPort": port, "hostPort": port }])
            } else {
                json!([])
            };
            json!({ "name": name, "image": "registry.example/a:1", "ports": ports })
        })
        .collect();
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": { "containers": containers } })
}

const PORTS: &str = "no ports of hosts";

fn no_host_ports(court: &Court<'_>) -> Value {
    json!({
        "matchConstraints": court.constraints("", "pods"),
        "validations": [{
            "expression": "object.spec.containers.all(c, !has(c.ports) || c.ports.all(p, !has(p.hostPort)))",
            "message": PORTS,
        }],
    })
}

#[test]
fn an_exception_counts_for_its_objects_until_its_end() {
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "court");
    court.enforce(&[("ports.yaml", court.validating("ports", no_host_ports(&court)))]);
    let edge = pod("edge", &[("edge", true)]);
    court.refuses("pods", &edge, PORTS);

    let policy = court.own("ports");
    let scope = json!({ "namespaces": [court.name()], "names": ["edge"], "containers": ["edge"] });
    // Somebody who may write in a namespace of their own is not who may except: nobody even reads what they write.
    let to_itself = json!({ "namespaces": [court.name()], "names": ["self"] });
    let own = exception(court.name(), "self", &policy, to_itself, 3_600);
    let _foreign = Excepted::new(&world, &own);

    let name = court.own("edge");
    let accepted = exception(SYSTEM_NAMESPACE, &name, &policy, scope.clone(), 3_600);
    let accepted = Excepted::new(&world, &accepted);
    court.passes("pods", &edge);
    let waived = wait_until(SOON, "the audit to know of it", || {
        let exception = format!("must be for now (PolicyException/{SYSTEM_NAMESPACE}/{name})");
        let mut events = events(&world, &["--kind", "admission"]).into_iter();
        events.find(|event| event.to_string().contains(&exception))
    })
    .unwrap();
    assert_eq!((&waived["outcome"], &waived["kube"]["name"]), (&json!("done"), &json!("edge")));
    court.refuses("pods", &pod("edge", &[("edge", true), ("other", true)]), PORTS);
    court.refuses("pods", &pod("other", &[("edge", true)]), PORTS);
    assert!(!court.send("pods", &pod("self", &[("edge", true)])).is_success(), "an own exception");
    drop(accepted);
    court.refuses("pods", &edge, PORTS);

    // One that was made ends by itself.
    let short = exception(SYSTEM_NAMESPACE, &name, &policy, scope, 20);
    let _short = Excepted::new(&world, &short);
    court.passes("pods", &edge);
    court.refuses("pods", &edge, PORTS);
}

#[test]
fn an_exception_that_lasts_too_long_or_is_for_everything_is_refused_where_it_is_made() {
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "court");
    let scope = json!({ "namespaces": [court.name()] });
    let refusal = |object: Value| {
        let path =
            "/apis/nullius.dev/v1alpha1/namespaces/nullius-system/policyexceptions?dryRun=All";
        let answer = court.api.post(path, &object).unwrap();
        assert!(!answer.is_success(), "{}", answer.text());
        answer.text()
    };
    let days = |days: i64| exception(SYSTEM_NAMESPACE, "x", "p", scope.clone(), days * 86_400);
    assert!(refusal(days(91)).contains("an exception lasts 90 days at most"));
    let mut nobody = days(1);
    nobody["spec"]["owner"] = json!("");
    assert!(refusal(nobody).contains("spec.owner"));
    let mut everything = days(1);
    everything["spec"]["scope"] = json!({});
    assert!(refusal(everything).contains("say for which objects"));
    let path = "/apis/nullius.dev/v1alpha1/namespaces/nullius-system/policyexceptions?dryRun=All";
    let taken = court.api.post(path, &days(89)).unwrap();
    assert!(taken.is_success(), "{}", taken.text());
}

/// A policy of the API server with its binding, which go with the value.
struct Native<'w> {
    world: &'w World,
    name: String,
}

impl<'w> Native<'w> {
    fn new(world: &'w World, court: &Court<'_>, name: &str, spec: Value) -> Self {
        let objects = court.validating(name, spec);
        world.direct().apply(&objects).unwrap();
        Self { world, name: court.own(name) }
    }
}

impl Drop for Native<'_> {
    fn drop(&mut self) {
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            let _ = self.world.direct().run(&["delete", kind, &self.name, "--ignore-not-found"]);
        }
    }
}

/// A pod that passes for a replica of the webhook which has not heard of anything; no API server comes to it.
pub(crate) struct Deaf<'w>(&'w World, String);

impl<'w> Deaf<'w> {
    pub(crate) fn new(world: &'w World, name: &str) -> Self {
        let labels = json!({ "app.kubernetes.io/component": AGENT_ADMISSION });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": SYSTEM_NAMESPACE, "labels": labels },
            "spec": {
                // Nobody starts it: what its status says is what the test says.
                "schedulerName": "nobody",
                "securityContext": { "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": { "type": "RuntimeDefault" } },
                "containers": [{
                    "name": "deaf", "image": "localhost/deaf:1",
                    "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                }],
            },
        });
        world.direct().apply(&pod.to_string()).unwrap();
        let deaf = Self(world, name.to_owned());
        let ready = r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
        let patch =
            ["-n", SYSTEM_NAMESPACE, "patch", "pod", name, "--subresource=status", "-p", ready];
        world.direct().ok(&patch).unwrap();
        deaf
    }
}

impl Drop for Deaf<'_> {
    fn drop(&mut self) {
        let delete =
            ["-n", SYSTEM_NAMESPACE, "delete", "pod", &self.1, "--grace-period=0", "--force"];
        let _ = self.0.direct().run(&delete);
    }
}

#[test]
fn the_api_server_leaves_the_objects_of_exceptions_to_the_webhook_and_nobody_slips_through() {
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "court");
    let policy = Native::new(&world, &court, "native", no_host_ports(&court));
    let edge = pod("edge", &[("edge", true)]);
    let by_api_server = |object: &Value| {
        let refused = court.refuses("pods", object, PORTS);
        !refused["message"].as_str().unwrap().starts_with("admission webhook")
    };
    assert!(by_api_server(&edge));

    // What is in the scope of the exception and not covered by it: whoever asks, the answer is no.
    let both = pod("edge", &[("edge", true), ("other", true)]);
    let stop = AtomicBool::new(false);
    let wrong = std::thread::scope(|scope| {
        let ends = Ends(&stop);
        let slipping = scope.spawn(|| {
            let mut wrong = Vec::new();
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = court.send("pods", &both);
                sent += 1;
                if answer.is_success() || !answer.text().contains(PORTS) {
                    wrong.push(format!("{}: {}", answer.status, answer.text()));
                }
            }
            (sent, wrong)
        });
        let scope =
            json!({ "namespaces": [court.name()], "names": ["edge"], "containers": ["edge"] });
        let object = exception(SYSTEM_NAMESPACE, &court.own("native"), &policy.name, scope, 3_600);
        let accepted = Excepted::new(&world, &object);
        wait_until(SOON, "the policy to be told", || {
            let told =
                format!("ValidatingAdmissionPolicy/{}:0: its exceptions do not count", policy.name);
            court.status()["troubles"].as_str()?.contains(&told).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {:#}", court.status()));
        assert!(!court.send("pods", &edge).is_success(), "nobody let exceptions count");

        let may = json!({ "rules": [{
            "apiGroups": ["admissionregistration.k8s.io"], "resources": ["validatingadmissionpolicies"],
            "resourceNames": [policy.name], "verbs": ["patch"],
        }] });
        let patch =
            ["patch", "clusterrole", EXCEPTED_POLICIES, "--type=merge", "-p", &may.to_string()];
        let deaf = Deaf::new(&world, &court.own("deaf"));
        world.direct().ok(&patch).unwrap();
        wait_until(SOON, "the replica that has not heard of it to be told", || {
            let told = format!("its exceptions count when `{}` has heard of them", deaf.1);
            court.status()["troubles"].as_str()?.contains(&told).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {:#}", court.status()));
        assert!(by_api_server(&edge), "a replica that has not heard of it would ask nobody");
        drop(deaf);
        court.passes("pods", &edge);
        assert!(!by_api_server(&both), "the webhook asks about what the API server leaves out");
        assert!(by_api_server(&pod("other", &[("edge", true)])));

        drop(accepted);
        wait_until(SOON, "the API server to ask again", || by_api_server(&edge).then_some(()))
            .unwrap();
        let path = format!(
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{}",
            policy.name
        );
        let standing = court.api.get(&path).unwrap().json().unwrap();
        assert_eq!(standing.pointer("/spec/matchConditions"), None, "{standing:#}");
        drop(ends);
        slipping.join().unwrap()
    });
    assert!(wrong.0 > 20, "only {} were sent", wrong.0);
    assert_eq!(wrong.1, Vec::<String>::new());
    world
        .direct()
        .ok(&["patch", "clusterrole", EXCEPTED_POLICIES, "--type=merge", "-p", "{\"rules\":[]}"])
        .unwrap();
    // What it leaves behind refuses nobody else.
    court.passes("configmaps", &config_map(json!({})));
}
