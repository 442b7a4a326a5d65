//! Proxies that pods get as they are made, because their namespace says so; and what becomes of pods while nobody answers.

use std::time::Duration;

use nullius_kube::SYSTEM_NAMESPACE;
use nullius_testkit::{Kubectl, TestNamespace, wait_until};
use serde_json::{Value, json};

use crate::{
    mesh_calls::{begin, is_answered, pod, until},
    mesh_sidecar::{IMAGE, SERVE, SLEEP, injected, restricted},
    node::{Mesh, Nodes},
    world::World,
};

const AGENT: &str = "deployment/nullius-agent-admission";
const LONG: Duration = Duration::from_secs(180);

/// `agent admission` as the manifest of a cluster with a mesh has it, until this ends.
struct Injecting {
    kubectl: Kubectl,
    replicas: String,
}

impl Injecting {
    fn begin(world: &World) -> Self {
        let kubectl = world.direct();
        let get = ["-n", SYSTEM_NAMESPACE, "get", AGENT, "-o", "jsonpath={.spec.replicas}"];
        let replicas = kubectl.ok(&get).unwrap();
        let injecting = Self { kubectl, replicas };
        injecting.run(&[
            "set",
            "env",
            AGENT,
            &format!("NULLIUS_PROXY_IMAGE={IMAGE}"),
            "NULLIUS_PROXY_PULL=Never",
        ]);
        injecting.is_rolled_out();
        injecting
    }

    fn run(&self, args: &[&str]) -> String {
        self.kubectl.ok(&[&["-n", SYSTEM_NAMESPACE], args].concat()).unwrap()
    }

    fn is_rolled_out(&self) {
        self.run(&["rollout", "status", AGENT, "--timeout=180s"]);
    }

    fn scale(&self, replicas: &str) {
        self.run(&["scale", AGENT, &format!("--replicas={replicas}")]);
        self.is_rolled_out();
    }

    /// Nobody answers API servers.
    fn stop(&self) {
        self.scale("0");
        let all = [
            "get",
            "pods",
            "-l",
            "app.kubernetes.io/component=nullius-agent-admission",
            "-o",
            "name",
        ];
        let gone = wait_until(LONG, "the end of `agent admission`", || {
            self.run(&all).is_empty().then_some(())
        });
        gone.unwrap();
    }
}

impl Drop for Injecting {
    fn drop(&mut self) {
        let unset = ["set", "env", AGENT, "NULLIUS_PROXY_IMAGE-", "NULLIUS_PROXY_PULL-"];
        let scale = ["scale", AGENT, &format!("--replicas={}", self.replicas)];
        let rolled_out = ["rollout", "status", AGENT, "--timeout=180s"];
        for args in [&unset[..], &scale[..], &rolled_out[..]] {
            let _ = self.kubectl.run(&[&["-n", SYSTEM_NAMESPACE], args].concat());
        }
    }
}

fn live(namespace: &TestNamespace, name: &str) -> Value {
    let text = namespace.kubectl(&["get", "pod", name, "-o", "json"]).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn has_proxy(pod: &Value) -> bool {
    pod["spec"]["initContainers"][0]["name"] == "nullius-proxy"
}

/// What was made as it was given is what the command line would have written into the file.
#[track_caller]
fn is_as_written(live: &Value, given: &Value) {
    let written = injected(given);
    for (field, value) in written["spec"]["initContainers"][0].as_object().unwrap() {
        assert_eq!(&live["spec"]["initContainers"][0][field], value, "{field}");
    }
    assert_eq!(live["spec"]["volumes"], written["spec"]["volumes"]);
    assert_eq!(live["metadata"]["labels"], written["metadata"]["labels"]);
}

fn labelled(mut pod: Value) -> Value {
    pod["metadata"]["labels"]["nullius.dev/mesh"] = json!("sidecar");
    pod
}

#[test]
fn pods_of_a_namespace_that_says_so_get_their_proxies_as_they_are_made() {
    // Alone: the network of its nodes is changed.
    let Some(world) = World::alone() else { return };
    let record = world.cluster.record();
    let node = record.nodes[0].name.as_str();
    let nodes = Nodes::install(&world, Mesh::With);
    let injecting = Injecting::begin(&world);
    let kubectl = world.direct();
    let shop = world.cluster.namespace("wanted").unwrap();
    let outside = world.cluster.namespace("elsewhere").unwrap();
    let probe = world.cluster.namespace("asked").unwrap();
    kubectl.ok(&["label", "namespace", probe.name(), "nullius.dev/mesh=sidecar"]).unwrap();
    for label in ["nullius.dev/mesh=sidecar", "pod-security.kubernetes.io/enforce=restricted"] {
        kubectl.ok(&["label", "namespace", shop.name(), label]).unwrap();
    }
    let dry_run = |namespace: &TestNamespace, labels: &str| {
        let args = ["run", "probe", "--image=none", "--dry-run=server", labels, "-o", "json"];
        let output = namespace.run(&args).unwrap();
        serde_json::from_str::<Value>(&output.stdout).ok()
    };
    let asked = wait_until(LONG, "API servers to ask", || {
        dry_run(&probe, "--labels=of=probe").is_some_and(|pod| has_proxy(&pod)).then_some(())
    });
    asked.unwrap();
    assert!(!has_proxy(&dry_run(&outside, "--labels=of=probe").unwrap()));
    assert!(has_proxy(&dry_run(&outside, "--labels=nullius.dev/mesh=sidecar").unwrap()));
    assert!(!has_proxy(&dry_run(&probe, "--labels=nullius.dev/inject=disabled").unwrap()));
    assert!(probe.kubectl(&["get", "pods", "-o", "name"]).unwrap().is_empty(), "nothing was made");

    // As they are given they know nothing of it; the API server's own plugins ask about them once more.
    let given = restricted("server", node, SERVE, Some(8080));
    let server = begin(&shop, &nodes, &given);
    is_as_written(&live(&shop, "server"), &given);
    begin(&shop, &nodes, &restricted("client", node, SLEEP, None));
    begin(&outside, &nodes, &pod("stranger", node, SLEEP, None));
    let intention = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention",
        "metadata": { "name": "server" },
        "spec": {
            "destination": { "serviceAccount": "server", "ports": [8080] },
            "sources": [
                { "serviceAccount": "client", "action": "allow" },
                { "serviceAccount": "late", "action": "allow" },
            ],
        },
    });
    assert!(!is_answered(&shop, "client", &server), "nothing allows it");
    shop.apply(&intention.to_string()).unwrap();
    until(&nodes, "a call that an intention allows", || is_answered(&shop, "client", &server));
    assert!(!is_answered(&outside, "stranger", &server));

    // Who has written it into the file before gets what they wrote.
    let written = injected(&restricted("written", node, SLEEP, None));
    begin(&shop, &nodes, &written);
    is_as_written(&live(&shop, "written"), &written);
    // Who forges it is refused.
    for account in ["forged", "sure"] {
        shop.kubectl(&["create", "serviceaccount", account]).unwrap();
    }
    let mut forged = injected(&restricted("forged", node, SLEEP, None));
    forged["spec"]["initContainers"][0]["command"] = json!(["/bin/sh"]);
    let refused = shop.apply(&forged.to_string()).unwrap_err();
    assert!(format!("{refused:#}").contains("no proxy can stand beside this pod"), "{refused:#}");

    // While nobody answers, a pod that says nothing begins and is led by its node; one that says it has a proxy does not begin without.
    injecting.stop();
    begin(&shop, &nodes, &restricted("late", node, SLEEP, None));
    assert!(!has_proxy(&live(&shop, "late")));
    until(&nodes, "a call of a pod that its node leads", || is_answered(&shop, "late", &server));
    begin(&shop, &nodes, &restricted("other", node, SLEEP, None));
    assert!(!is_answered(&shop, "other", &server), "it is in the mesh all the same");
    let refused = shop.apply(&labelled(restricted("sure", node, SLEEP, None)).to_string());
    let refused = format!("{:#}", refused.unwrap_err());
    assert!(refused.contains("inject-fail.admission.nullius.dev"), "{refused}");
}
