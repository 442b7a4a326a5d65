//! The mesh on real nodes: pods that know nothing of it, begun by a real kubelet, and intentions as objects of the cluster.

use std::time::{Duration, Instant};

use nullius_testkit::{Kubectl, Output, TestNamespace, wait_until};
use serde_json::{Value, json};

use crate::{
    mesh_sample,
    node::{Mesh, Nodes, cni},
    world::World,
};

const IMAGE: &str = "localhost/nullius-busybox:1";
const LONG: Duration = Duration::from_secs(180);

/// A pod of an account of its own name.
pub(crate) fn pod(name: &str, node: &str, script: &str, probe: Option<u16>) -> Value {
    let mut container = json!({
        "name": "main", "image": IMAGE, "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
    });
    if let Some(port) = probe {
        container["readinessProbe"] =
            json!({ "httpGet": { "path": "/", "port": port }, "periodSeconds": 1 });
        container["ports"] = json!([{ "containerPort": port }]);
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "serviceAccountName": name, "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0, "nodeName": node, "containers": [container],
        },
    })
}

/// Makes it with its account, waits until it is ready, and gives its address.
#[track_caller]
pub(crate) fn begin(namespace: &TestNamespace, nodes: &Nodes<'_>, pod: &Value) -> String {
    let name = pod["metadata"]["name"].as_str().unwrap();
    namespace.kubectl(&["create", "serviceaccount", name]).unwrap();
    namespace.apply(&pod.to_string()).unwrap();
    let ready = namespace.run(&["wait", "pod", name, "--for=condition=Ready", "--timeout=120s"]);
    let ready = ready.unwrap();
    if ready.code != 0 {
        let told = namespace.run(&["describe", "pod", name]).unwrap().stdout;
        let logs = nodes.run(&["logs", "-l", "test-node", "--tail=200"]);
        panic!("{}\n{told}\n{logs}", ready.stderr);
    }
    namespace.kubectl(&["get", "pod", name, "-o", "jsonpath={.status.podIP}"]).unwrap()
}

pub(crate) fn exec(namespace: &TestNamespace, pod: &str, script: &str) -> Output {
    namespace.run(&["exec", pod, "--", "sh", "-c", script]).unwrap()
}

/// Whether a pod is answered by a server.
pub(crate) fn is_answered(namespace: &TestNamespace, pod: &str, server: &str) -> bool {
    let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {server} 8080; echo asked");
    let output = exec(namespace, pod, &ask);
    assert!(output.stdout.ends_with("asked\n"), "{} {}", output.stdout, output.stderr);
    output.stdout.contains("welcome")
}

/// The service graph, once the hub has a turn for who reads it often.
fn graph(world: &World, of: &[&str]) -> Value {
    let args = [&["mesh", "graph"], of, &["-o", "json"]].concat();
    let read = wait_until(LONG, "a turn to read the service graph", || {
        world.environment.nullius_ok("admin", &args).ok()
    });
    serde_json::from_str(&read.unwrap()).unwrap()
}

#[track_caller]
pub(crate) fn until(nodes: &Nodes<'_>, what: &str, wanted: impl Fn() -> bool) {
    if let Err(error) = wait_until(LONG, what, || wanted().then_some(())) {
        panic!("{error}\n{}", nodes.run(&["logs", "-l", "test-node", "--tail=200"]));
    }
}

fn label(kubectl: &Kubectl, namespace: &TestNamespace) {
    kubectl.ok(&["label", "namespace", namespace.name(), "nullius.dev/mesh=node"]).unwrap();
}

/// The hub shows who called whom, what was decided of it and by which rule; and the denial is in its audit.
#[track_caller]
fn is_seen(world: &World, nodes: &Nodes<'_>, shop: &TestNamespace, bank: &TestNamespace) {
    let cluster = world.cluster_name();
    let server = format!("Pod/{}/server", bank.name());
    let of = ["-c", cluster, "-n", bank.name()];
    let edge = |from: &str, verdict: &str| {
        let graph = graph(world, &of);
        let is_it = |edge: &&Value| {
            edge["source"] == format!("Pod/{}/{from}", shop.name()) && edge["verdict"] == verdict
        };
        let edges = graph["edges"].as_array().unwrap();
        edges.iter().find(is_it).cloned()
    };
    let wait = |what: &str, from: &str, verdict: &str| {
        let found = wait_until(LONG, what, || edge(from, verdict));
        found.unwrap_or_else(|error| {
            let graph = world.admin(&["mesh", "graph", "-c", cluster, "-o", "wide"]);
            panic!("{error}\n{graph}\n{}", nodes.run(&["logs", "-l", "test-node", "--tail=200"]))
        })
    };
    let id = |from: &str| format!("/ns/{}/sa/{from}", shop.name());

    let allowed = wait("an edge that is allowed", "client", "allowed");
    let rule = format!("Intention {}/server sources[0]", bank.name());
    assert!(allowed["rule"].as_str().unwrap().starts_with(&rule), "{allowed:#}");
    assert_eq!(
        (&allowed["destination"], &allowed["seenBy"]),
        (&json!(server), &json!("destination"))
    );
    assert!(allowed["sourceId"].as_str().unwrap().ends_with(&id("client")), "{allowed:#}");
    assert!(allowed["connections"].as_u64().unwrap() > 0, "{allowed:#}");
    assert!(allowed["bytesToSource"].as_u64().unwrap() > 0, "{allowed:#}");

    let denied = wait("an edge that is denied", "later", "denied");
    assert_eq!((&denied["destination"], &denied["port"]), (&json!(server), &json!(8080)));
    assert_eq!(denied["explain"]["reason"], "no-intention", "{denied:#}");
    let next = denied["explain"]["next"].as_str().unwrap();
    assert!(next.contains(&format!("an Intention of namespace `{}`", bank.name())), "{next}");

    let denials = wait_until(LONG, "the denial in the audit", || {
        let listed = world.admin_json(&[&["audit", "list", "--kind", "mesh"], &of[..]].concat());
        let rows = listed["items"].as_array().unwrap();
        let events = rows.iter().map(|row| &row["event"]);
        let of_later = |event: &&Value| {
            let whose = event["principal"]["id"].as_str().unwrap_or_default();
            event["outcome"] == "denied" && whose.ends_with(&id("later"))
        };
        let found: Vec<_> = events.filter(of_later).cloned().collect();
        (!found.is_empty()).then_some(found)
    });
    let denials = denials.unwrap();
    let [denial] = denials.as_slice() else { panic!("it stands there once: {denials:#?}") };
    assert_eq!(denial["target"], format!("{server}:8080"));
    assert_eq!(denial["explanation"]["reason"], "no-intention");
    assert_eq!(
        (&denial["facts"]["source-pod"], &denial["facts"]["seen-by"]),
        (&json!("later"), &json!("destination"))
    );

    let picture = wait_until(LONG, "a turn to draw the service graph", || {
        let args = ["mesh", "graph", "-c", cluster, "-n", bank.name(), "-o", "svg"];
        world.environment.nullius_ok("admin", &args).ok()
    });
    let picture = picture.unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("server"), "{picture}");
}

/// A schema of the API as an object: what it does not declare is answered 400, and one that cannot be read changes nothing.
#[track_caller]
fn only_what_is_declared_gets_in(
    nodes: &Nodes<'_>,
    shop: &TestNamespace,
    bank: &TestNamespace,
    server: &str,
) {
    let ask = |path: &str| {
        let request =
            format!("GET {path} HTTP/1.1\\r\\nHost: server\\r\\nConnection: close\\r\\n\\r\\n");
        exec(shop, "client", &format!("printf '{request}' | nc -w 5 {server} 8080")).stdout
    };
    let schema = |get: Value| {
        let object = json!({
            "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention", "metadata": { "name": "api" },
            "spec": {
                "destination": { "serviceAccount": "server", "ports": [8080] },
                "api": { "schema": { "openapi": "3.1.0", "paths": { "/index.html": { "get": get } } } },
            },
        });
        bank.apply(&object.to_string()).unwrap();
    };
    let stands = |condition: &str| {
        let wait = ["wait", "intention", "api", "--for", condition, "--timeout=60s"];
        bank.kubectl(&wait).unwrap();
    };
    assert!(ask("/").contains("welcome"));
    schema(json!({}));
    stands("condition=InForce");
    until(nodes, "a path that is not declared", || {
        ask("/").contains("nullius-reason: undeclared-path")
    });
    assert!(ask("/index.html").contains("welcome"));
    let refused = ask("/index.html?debug=1");
    assert!(refused.contains("nullius-reason: bad-parameter"), "{refused}");
    schema(
        json!({ "parameters": [{ "name": "a", "in": "query", "schema": { "nullable": true } }] }),
    );
    stands("condition=Accepted=False");
    let status = bank.kubectl(&["get", "intention", "api", "-o", "jsonpath={.status.conditions}"]);
    let status = status.unwrap();
    assert!(status.contains("paths[/index.html].get.parameters[0].schema.nullable"), "{status}");
    assert!(ask("/").contains("nullius-reason: undeclared-path"), "what was read before counts");
    bank.kubectl(&["delete", "intention", "api"]).unwrap();
    until(nodes, "calls without the schema", || ask("/").contains("welcome"));
}

#[test]
fn pods_of_the_mesh_call_each_other_as_intentions_say() {
    // Alone: the network of its nodes is changed.
    let Some(world) = World::alone() else { return };
    let record = world.cluster.record();
    let node = record.nodes[0].name.as_str();
    let nodes = Nodes::install(&world, Mesh::With);
    let [programs, networks] = cni(&world.cluster, 1);
    until(&nodes, "the plugin in its place", || {
        let network = std::fs::read_to_string(format!("{networks}/10-pods.conflist")).unwrap();
        network.contains("nullius-cni")
            && std::path::Path::new(&programs).join("nullius-cni").exists()
    });

    let shop = world.cluster.namespace("shop").unwrap();
    let bank = world.cluster.namespace("bank").unwrap();
    let outside = world.cluster.namespace("outside").unwrap();
    for namespace in [&shop, &bank] {
        label(&world.direct(), namespace);
    }
    // The kubelet's probe passes though nobody may call.
    let serve = "mkdir -p /tmp/www && echo welcome > /tmp/www/index.html && (nc -ll -p 9000 -e cat &) && exec httpd -f -p 8080 -h /tmp/www";
    let server = begin(&bank, &nodes, &pod("server", node, serve, Some(8080)));
    begin(&shop, &nodes, &pod("client", node, "exec sleep 3600", None));
    begin(&outside, &nodes, &pod("stranger", node, "exec sleep 3600", None));
    assert!(!is_answered(&shop, "client", &server), "nothing allows it");
    assert!(!is_answered(&outside, "stranger", &server), "it proves nothing");

    let intention = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention",
        "metadata": { "name": "server" },
        "spec": {
            "destination": { "serviceAccount": "server" },
            "sources": [{
                "namespace": shop.name(), "serviceAccount": "client", "action": "allow",
            }],
        },
    });
    bank.apply(&intention.to_string()).unwrap();
    until(&nodes, "a call that an intention allows", || is_answered(&shop, "client", &server));
    assert!(!is_answered(&outside, "stranger", &server), "it is for the client alone");
    // The hub hears of it: of a denial at once, of who calls whom within about a minute and a half.
    let (ours, of_server) = (world.cluster_name(), format!("{}/server", bank.name()));
    until(&nodes, "the denial in the audit", || {
        let told = world.admin_json(&["audit", "list", "-c", ours, "--kind", "mesh"]);
        let told = told.to_string();
        told.contains(&of_server) && told.contains(&format!("{}/client", shop.name()))
    });
    until(&nodes, "the call in the service graph", || {
        let graph = graph(&world, &["-c", ours, "-n", bank.name()]);
        let edges = graph["edges"].as_array().unwrap();
        edges.iter().any(|edge| {
            edge["verdict"] == "allowed"
                && edge.to_string().contains(&format!("{}/client", shop.name()))
        })
    });

    // A call that lives is cut when its intention goes.
    let script = format!(
        "(while :; do echo x; usleep 20000; done) | nc {server} 9000 > /tmp/heard; echo ended"
    );
    let args = ["-n", shop.name(), "exec", "client", "--", "sh", "-c", &script];
    let mut live = world.direct().spawn(&args).unwrap();
    until(&nodes, "a call that lives", || exec(&shop, "client", "test -s /tmp/heard").code == 0);
    assert!(live.try_wait().unwrap().is_none());
    bank.kubectl(&["delete", "intention", "server"]).unwrap();
    let deleted = Instant::now();
    live.wait().unwrap();
    let cut = deleted.elapsed();
    eprintln!("mesh: a live call is cut {} ms after its intention is deleted", cut.as_millis());
    assert!(cut < Duration::from_secs(1), "{cut:?}");
    assert!(!is_answered(&shop, "client", &server));

    bank.apply(&intention.to_string()).unwrap();
    until(&nodes, "the intention once more", || is_answered(&shop, "client", &server));
    only_what_is_declared_gets_in(&nodes, &shop, &bank, &server);

    // A new node finds the pods that are there, and leads them on.
    let old = nodes.on(node);
    nodes.run(&["delete", &old, "--wait"]);
    nodes.are_ready();
    until(&nodes, "a call after a restart", || is_answered(&shop, "client", &server));
    assert!(!is_answered(&outside, "stranger", &server));
    let again = begin(&shop, &nodes, &pod("later", node, "exec sleep 3600", None));
    assert!(!again.is_empty());
    assert!(!is_answered(&shop, "later", &server), "the intention is for another account");

    is_seen(&world, &nodes, &shop, &bank);

    let sample = world.cluster.namespace("sample").unwrap();
    mesh_sample::is_as_the_readme_says(&sample);
}
