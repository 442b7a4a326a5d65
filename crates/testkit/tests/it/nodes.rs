//! Two nodes: pods reach each other, Services reach pods on both, and kubectl reaches into them.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use nullius_skip::leave_out;
use nullius_testkit::{
    Cluster, ClusterConfig, File, Image, Profile, TestNamespace, kubectl_on_path, wait_until,
};

use crate::{Turn, page_pod};

#[test]
fn two_nodes_are_one_cluster() {
    let Some(turn) = Turn::wait() else {
        return;
    };
    let cluster = turn.up(ClusterConfig::new("two", Profile::Standard).nodes(2));
    let namespace = cluster.namespace("nodes").unwrap();
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: page}\n\
                   spec: {selector: {app: page}, ports: [{port: 80, targetPort: 8080}]}\n";
    let manifest = page_pod("a", "node1") + &page_pod("b", "node2") + service;
    namespace.apply(&manifest).unwrap();
    namespace
        .kubectl(&["wait", "pod", "a", "b", "--for=condition=Ready", "--timeout=180s"])
        .unwrap();

    pods_reach_each_other(&namespace);
    a_service_reaches_both_nodes(&namespace);
    pods_reach_the_api_server(&namespace);
    kubectl_reaches_into_pods(&cluster, &namespace);
    an_image_comes_to_all_nodes(&cluster, &namespace);
    requests_are_in_the_audit_log(&cluster, &namespace);
    privileges_of_nodes_are_their_own(&cluster);
}

fn field(namespace: &TestNamespace, what: &str, path: &str) -> String {
    namespace.kubectl(&["get", what, "-o", &format!("jsonpath={{{path}}}")]).unwrap()
}

/// Asks for a page from inside pod `a`.
fn ask(namespace: &TestNamespace, address: &str, port: u16) -> String {
    let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} {port}");
    namespace.run(&["exec", "a", "--", "sh", "-c", &script]).unwrap().stdout
}

fn pods_reach_each_other(namespace: &TestNamespace) {
    let other = field(namespace, "pod/b", ".status.podIP");
    // Its container runs; what is in it listens a moment later.
    wait_until(Duration::from_secs(120), "the page of the other node", || {
        ask(namespace, &other, 8080).contains("page of node2").then_some(())
    })
    .unwrap();
}

fn a_service_reaches_both_nodes(namespace: &TestNamespace) {
    let address = field(namespace, "service/page", ".spec.clusterIP");
    for page in ["page of node1", "page of node2"] {
        wait_until(Duration::from_secs(120), page, || {
            ask(namespace, &address, 80).contains(page).then_some(())
        })
        .unwrap();
    }
}

fn pods_reach_the_api_server(namespace: &TestNamespace) {
    let script =
        "nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null && echo reached";
    let answer = namespace.kubectl(&["exec", "b", "--", "sh", "-c", script]).unwrap();
    assert!(answer.contains("reached"), "{answer}");
}

fn kubectl_reaches_into_pods(cluster: &Cluster, namespace: &TestNamespace) {
    assert_eq!(namespace.kubectl(&["logs", "b"]).unwrap(), "started\n");
    let failed = namespace.run(&["exec", "a", "--", "sh", "-c", "echo out; exit 3"]).unwrap();
    assert_eq!((failed.stdout.as_str(), failed.code), ("out\n", 3));

    let directory = tempfile::tempdir().unwrap();
    let (sent, back) = (directory.path().join("sent"), directory.path().join("back"));
    let content: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    std::fs::write(&sent, &content).unwrap();
    namespace.kubectl(&["cp", &sent.display().to_string(), "b:/tmp/file"]).unwrap();
    namespace.kubectl(&["cp", "b:/tmp/file", &back.display().to_string()]).unwrap();
    assert_eq!(std::fs::read_to_string(&back).unwrap(), content);

    let built = cluster.kubectl().unwrap();
    let found = kubectl_on_path(cluster.kubeconfig());
    if found.is_none() {
        leave_out("the same with the kubectl of this machine: it has none on PATH");
    }
    for kubectl in [Some(built), found].into_iter().flatten() {
        let args = ["-n", namespace.name(), "port-forward", "pod/b", ":8080"];
        let mut forward = kubectl.spawn(&args).unwrap();
        let mut line = String::new();
        // Kept until the end: kubectl dies of a closed pipe when it tells of the first connection.
        let mut said = BufReader::new(forward.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let port = line.split([':', ' ']).filter_map(|part| part.parse::<u16>().ok()).next();
        let mut stream = TcpStream::connect(("127.0.0.1", port.expect(&line))).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        forward.kill().unwrap();
        forward.wait().unwrap();
        assert!(answer.contains("page of node2"), "{answer}");
    }
}

fn an_image_comes_to_all_nodes(cluster: &Cluster, namespace: &TestNamespace) {
    // A dynamic program of this machine that speaks and ends.
    let mut image =
        nullius_testkit::image_from_binary("/usr/bin/id".as_ref(), "localhost/id:1").unwrap();
    image = image.with("/etc/marker", File::data("x"));
    assert!(image.files.len() > 5, "an image of a dynamic program holds its libraries");
    cluster.load_image(&image).unwrap();
    for node in ["node1", "node2"] {
        let name = format!("id-{node}");
        namespace.apply(&run_once(&name, node, &image)).unwrap();
    }
    for node in ["node1", "node2"] {
        let pod = format!("pod/id-{node}");
        namespace
            .kubectl(&["wait", &pod, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=180s"])
            .unwrap();
        let said = namespace.kubectl(&["logs", &pod]).unwrap();
        assert!(said.starts_with("uid=65532(nonroot)"), "{said}");
    }
}

fn run_once(name: &str, node: &str, image: &Image) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: {node}\n  \
         restartPolicy: Never\n  securityContext: {{runAsNonRoot: true}}\n  containers:\n  \
         - {{name: once, image: '{}', imagePullPolicy: Never}}\n",
        image.name
    )
}

fn requests_are_in_the_audit_log(cluster: &Cluster, namespace: &TestNamespace) {
    namespace.run(&["get", "pod", "does-not-exist"]).unwrap();
    let entry = cluster
        .audit_log()
        .unwrap()
        .wait_for("the get of a pod", |entry| {
            entry.text("/objectRef/name") == "does-not-exist"
                && entry.text("/objectRef/namespace") == namespace.name()
        })
        .unwrap();
    assert_eq!(entry.text("/user/username"), "admin");
    assert_eq!(entry.0.pointer("/responseStatus/code").unwrap(), 404);
}

/// Node authorizer and NodeRestriction: a kubelet's credential changes its own node and no other.
fn privileges_of_nodes_are_their_own(cluster: &Cluster) {
    let kubeconfig = cluster.file("node1.kubeconfig").unwrap();
    let kubelet =
        nullius_testkit::Kubectl::new(cluster.record().kubectl.as_deref().unwrap(), &kubeconfig);
    let label = |node: &str| kubelet.run(&["label", "node", node, "color=blue"]).unwrap();
    assert_eq!(label("node1").code, 0);
    let refused = label("node2");
    assert!(refused.code != 0 && refused.stderr.contains("forbidden"), "{refused:?}");
    let secrets = kubelet.run(&["get", "secrets", "-A"]).unwrap();
    assert!(secrets.stderr.to_lowercase().contains("forbidden"), "{secrets:?}");
}
