//! Pods with a proxy of their own, as `nullius inject` writes them, begun by a real kubelet under the strictest level of Pod Security.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nullius_testkit::TestNamespace;
use serde_json::{Value, json};

use crate::{
    mesh_calls::{begin, exec, is_answered, pod, until},
    node::{Mesh, Nodes},
    world::World,
};

pub(crate) const IMAGE: &str = "localhost/nullius:dev";
pub(crate) const SERVE: &str = "mkdir -p /tmp/www && echo welcome > /tmp/www/index.html && (nc -ll -p 9000 -e cat &) && exec httpd -f -p 8080 -h /tmp/www";
pub(crate) const SLEEP: &str = "exec sleep 3600";

/// A pod as `restricted` wants it.
pub(crate) fn restricted(name: &str, node: &str, script: &str, probe: Option<u16>) -> Value {
    let mut pod = pod(name, node, script, probe);
    pod["spec"]["securityContext"] = json!({ "runAsUser": 1000, "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
    pod["spec"]["volumes"] = json!([{ "name": "tmp", "emptyDir": {} }]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "tmp", "mountPath": "/tmp" }]);
    pod["spec"]["containers"][0]["securityContext"] =
        json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    pod
}

/// What the command line makes of it.
pub(crate) fn injected(object: &Value) -> Value {
    let mut child = Command::new(env!("CARGO_BIN_EXE_nullius"))
        .args(["inject", "-f", "-", "--image", IMAGE, "--pull", "never", "-o", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Ends the proxy of a pod as the kernel does when there is no memory left.
fn kill_proxy(namespace: &TestNamespace, name: &str) {
    let uid = namespace.kubectl(&["get", "pod", name, "-o", "jsonpath={.metadata.uid}"]).unwrap();
    let of_pod = |directory: &std::path::Path| {
        let cgroup = fs::read_to_string(directory.join("cgroup")).unwrap_or_default();
        let command = fs::read_to_string(directory.join("cmdline")).unwrap_or_default();
        cgroup.contains(&uid) && command.contains("--captured")
    };
    let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let found: Vec<_> = all.filter(|directory| of_pod(directory)).collect();
    let [proxy] = found.as_slice() else { panic!("{found:?}") };
    let pid = proxy.file_name().unwrap().to_str().unwrap();
    assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
}

#[test]
fn a_pod_with_its_own_proxy_is_called_and_calls_as_intentions_say() {
    // Alone: the network of its nodes is changed.
    let Some(world) = World::alone() else { return };
    let record = world.cluster.record();
    let node = record.nodes[0].name.as_str();
    let nodes = Nodes::install(&world, Mesh::With);
    let shop = world.cluster.namespace("beside").unwrap();
    let outside = world.cluster.namespace("outside").unwrap();
    for label in ["nullius.dev/mesh=sidecar", "pod-security.kubernetes.io/enforce=restricted"] {
        world.direct().ok(&["label", "namespace", shop.name(), label]).unwrap();
    }
    let begun = Instant::now();
    let server = begin(&shop, &nodes, &injected(&restricted("server", node, SERVE, Some(8080))));
    eprintln!("sidecar: `kubectl apply` to a pod that is ready {} ms", begun.elapsed().as_millis());
    begin(&shop, &nodes, &injected(&restricted("client", node, SLEEP, None)));
    let stranger = begin(&outside, &nodes, &pod("stranger", node, SERVE, Some(8080)));
    assert!(!is_answered(&shop, "client", &server), "nothing allows it");
    assert!(!is_answered(&outside, "stranger", &server), "it proves nothing");

    let intention = |accounts: &[&str]| {
        let sources: Vec<Value> = accounts
            .iter()
            .map(|account| json!({ "serviceAccount": account, "action": "allow" }))
            .collect();
        let object = json!({
            "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention",
            "metadata": { "name": "server" },
            "spec": { "destination": { "serviceAccount": "server", "ports": [8080, 9000] }, "sources": sources },
        });
        shop.apply(&object.to_string()).unwrap();
    };
    intention(&["client", "naked", "led"]);
    until(&nodes, "a call that an intention allows", || is_answered(&shop, "client", &server));
    assert!(!is_answered(&outside, "stranger", &server), "it is for the client alone");
    // What is not in the mesh is called as it is.
    assert!(is_answered(&shop, "client", &stranger));

    // The proxy's own page is nobody's but the kubelet's.
    let page = |namespace: &TestNamespace, from: &str| {
        let ask = format!(
            "printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {server} 15020; echo asked"
        );
        let output = exec(namespace, from, &ask);
        assert!(output.stdout.ends_with("asked\n"), "{} {}", output.stdout, output.stderr);
        output.stdout
    };
    assert_eq!(page(&shop, "client"), "asked\n");
    assert_eq!(page(&outside, "stranger"), "asked\n");

    // A pod that says it has a proxy, and has none, has no traffic; one that says nothing is led by its node.
    let mut naked = restricted("naked", node, SLEEP, None);
    naked["metadata"]["labels"]["nullius.dev/mesh"] = json!("sidecar");
    begin(&shop, &nodes, &naked);
    begin(&shop, &nodes, &restricted("led", node, SLEEP, None));
    until(&nodes, "a call of a pod that its node leads", || is_answered(&shop, "led", &server));
    assert!(!is_answered(&shop, "naked", &server));
    assert!(!is_answered(&shop, "naked", &stranger), "nothing leaves past the proxy");

    // A call that lives is cut when its intention goes.
    let script = format!(
        "(while :; do echo x; usleep 20000; done) | nc {server} 9000 > /tmp/heard; echo ended"
    );
    let args = ["-n", shop.name(), "exec", "client", "--", "sh", "-c", &script];
    let mut live = world.direct().spawn(&args).unwrap();
    until(&nodes, "a call that lives", || exec(&shop, "client", "test -s /tmp/heard").code == 0);
    assert!(live.try_wait().unwrap().is_none());
    shop.kubectl(&["delete", "intention", "server"]).unwrap();
    let deleted = Instant::now();
    live.wait().unwrap();
    let cut = deleted.elapsed();
    eprintln!("sidecar: a live call is cut {} ms after its intention is deleted", cut.as_millis());
    assert!(cut < Duration::from_millis(1_500), "{cut:?}");
    assert!(!is_answered(&shop, "client", &server));

    // A proxy that was killed is begun again by the kubelet, and the application with it goes on.
    intention(&["client"]);
    until(&nodes, "the intention once more", || is_answered(&shop, "client", &server));
    kill_proxy(&shop, "server");
    let restarts = [
        "get",
        "pod",
        "server",
        "-o",
        "jsonpath={.status.initContainerStatuses[0].restartCount} {.status.containerStatuses[0].restartCount}",
    ];
    until(&nodes, "another proxy", || shop.kubectl(&restarts).unwrap() == "1 0");
    until(&nodes, "a call by the next proxy", || is_answered(&shop, "client", &server));
    assert!(!is_answered(&outside, "stranger", &server));

    // So does a node that begins again; the pods keep their proxies.
    let old = nodes.on(node);
    nodes.run(&["delete", &old, "--wait"]);
    nodes.are_ready();
    until(&nodes, "a call after a restart", || is_answered(&shop, "client", &server));
    assert!(!is_answered(&outside, "stranger", &server));
    assert_eq!(shop.kubectl(&restarts).unwrap(), "1 0");

    // Where the pod is not in the mesh its proxy takes nothing, and the application does not begin.
    let mut alone = injected(&pod("alone", node, SLEEP, None));
    alone["metadata"]["labels"].as_object_mut().unwrap().remove("nullius.dev/mesh");
    outside.kubectl(&["create", "serviceaccount", "alone"]).unwrap();
    outside.apply(&alone.to_string()).unwrap();
    until(&nodes, "the proxy to say why", || {
        let logs = outside.run(&["logs", "alone", "-c", "nullius-proxy"]).unwrap();
        (logs.stdout + &logs.stderr).contains("the pod is not in the mesh")
    });
    let begun = ["get", "pod", "alone", "-o", "jsonpath={.status.containerStatuses[0].started}"];
    assert_eq!(outside.kubectl(&begun).unwrap(), "false");
}
