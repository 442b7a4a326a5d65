//! kubectl reads: objects, discovery, documentation, watches, and what one may do.

use nullius_testkit::Kubectl;
use serde_json::Value;

use crate::{
    people::Worker,
    running::{Running, get_page, port_of},
    transports,
    world::{World, ended_with},
};

fn json(kubectl: &Kubectl, args: &[&str]) -> Value {
    serde_json::from_str(&kubectl.ok(&[args, &["-o", "json"]].concat()).unwrap()).unwrap()
}

/// `get --raw`: older kubectl begins at the root of the server, newer at the path that the kubeconfig names.
fn raw(kubectl: &Kubectl, cluster: &str, path: &str) -> String {
    let output = kubectl.run(&["get", "--raw", path]).unwrap();
    if output.code == 0 {
        return output.stdout;
    }
    assert!(output.stderr.contains("could not find the requested resource"), "{}", output.stderr);
    kubectl.ok(&["get", "--raw", &format!("/clusters/{cluster}{path}")]).unwrap()
}

#[test]
fn objects_and_discovery_are_read_as_usual() {
    let Some(world) = World::together() else { return };
    let (namespace, worker) = world.worker_with_pod("reads");
    for kubectl in worker.kubectls() {
        let version = json(&kubectl, &["version"]);
        assert_eq!(version["serverVersion"]["gitVersion"], world.cluster.record().kubernetes);
        let resources = kubectl.ok(&["api-resources", "--api-group=apps", "-o", "name"]).unwrap();
        assert!(resources.contains("deployments.apps"), "{resources}");
        assert!(kubectl.ok(&["api-versions"]).unwrap().contains("batch/v1"));
        let explained = kubectl.ok(&["explain", "pod.spec.containers.image"]).unwrap();
        assert!(explained.contains("Container image name"), "{explained}");

        let table = kubectl.ok(&["get", "pods", "-o", "wide"]).unwrap();
        let head: Vec<_> = table.lines().next().unwrap().split_whitespace().take(5).collect();
        assert_eq!(head, ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
        assert!(table.contains("page") && table.contains("Running"), "{table}");
        let pod = json(&kubectl, &["get", "pod", "page"]);
        assert_eq!(pod["metadata"]["namespace"], namespace.name());
        let yaml = kubectl.ok(&["get", "pods", "-l", "app=page", "-o", "yaml"]).unwrap();
        assert!(yaml.contains("kind: Pod") && yaml.contains("kind: List"), "{yaml}");
        assert_eq!(kubectl.ok(&["get", "pods", "-o", "name"]).unwrap(), "pod/page\n");
        let described = kubectl.ok(&["describe", "pod", "page"]).unwrap();
        assert!(described.contains("Events:") && described.contains("Started"), "{described}");

        let raw = |path: &str| raw(&kubectl, world.cluster_name(), path);
        let pods = format!("/api/v1/namespaces/{}/pods?limit=1", namespace.name());
        let list: Value = serde_json::from_str(&raw(&pods)).unwrap();
        assert_eq!(list["items"][0]["metadata"]["name"], "page");
        assert_eq!(raw("/healthz").trim(), "ok");
        let page = format!("/api/v1/namespaces/{}/pods/http:page:8080/proxy/", namespace.name());
        assert_eq!(raw(&page), "the page\n");
    }
}

#[test]
fn what_the_cluster_itself_refuses_is_told_as_usual() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker("refusals");
    for kubectl in worker.kubectls() {
        let missing = kubectl.run(&["get", "pod", "nothing"]).unwrap();
        ended_with(&missing, 1);
        assert!(missing.stderr.contains("(NotFound)"), "{}", missing.stderr);
        let top = kubectl.run(&["top", "pods"]).unwrap();
        ended_with(&top, 1);
        assert!(top.stderr.contains("Metrics API not available"), "{}", top.stderr);
        let unknown = kubectl.run(&["get", "unicorns"]).unwrap();
        ended_with(&unknown, 1);
        assert!(unknown.stderr.contains("doesn't have a resource type"), "{}", unknown.stderr);
        kubectl.ok(&["create", "configmap", "twice"]).unwrap();
        let twice = kubectl.run(&["create", "configmap", "twice"]).unwrap();
        ended_with(&twice, 1);
        assert!(twice.stderr.contains("already exists"), "{}", twice.stderr);
        kubectl.ok(&["delete", "configmap", "twice"]).unwrap();
        let bad = "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {containers: []}\n";
        let bad = kubectl.run_with_input(&["create", "-f", "-"], bad).unwrap();
        ended_with(&bad, 1);
        assert!(bad.stderr.contains("spec.containers: Required value"), "{}", bad.stderr);
    }
}

#[test]
fn a_watch_sees_what_others_change() {
    let Some(world) = World::together() else { return };
    let (namespace, worker) = world.worker("watch");
    for (number, kubectl) in worker.kubectls().iter().enumerate() {
        for (way_number, way) in transports::ALL.iter().step_by(2).enumerate() {
            let kubectl = way.of(kubectl);
            let args = ["get", "configmaps", "--watch", "--output-watch-events"];
            let mut watch = Running::start(way.name, kubectl.command(&args));
            watch.wait_line("kube-root-ca.crt");
            let name = format!("seen-{number}-{way_number}");
            namespace.kubectl(&["create", "configmap", &name]).unwrap();
            assert!(watch.wait_line(&name).starts_with("ADDED"));
            namespace.kubectl(&["label", "configmap", &name, "color=green"]).unwrap();
            assert!(watch.wait_line(&name).starts_with("MODIFIED"));
            namespace.kubectl(&["delete", "configmap", &name]).unwrap();
            assert!(watch.wait_line(&name).starts_with("DELETED"));
            assert!(watch.is_running());
        }
    }
}

#[test]
fn kubectl_tells_the_truth_about_oneself() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker("oneself");
    for kubectl in worker.kubectls() {
        let me = json(&kubectl, &["auth", "whoami"]);
        let account = format!("system:serviceaccount:nullius-sessions:session-{}", worker.session);
        assert_eq!(me["status"]["userInfo"]["username"], account, "{me}");

        for yes in [
            &["get", "pods"][..],
            &["create", "pods", "--subresource=exec"],
            &["delete", "deployments.apps"],
            &["get", "secrets/some"],
            &["get", "/version"],
        ] {
            let answer = kubectl.run(&[&["auth", "can-i"], yes].concat()).unwrap();
            ended_with(&answer, 0);
            assert_eq!(answer.stdout, "yes\n", "{yes:?}");
        }
        for no in [
            &["get", "pods", "-n", "ops"][..],
            &["list", "pods", "--all-namespaces"],
            &["delete", "nodes"],
            &["create", "rolebindings.rbac.authorization.k8s.io"],
            &["create", "serviceaccounts", "--subresource=token"],
            &["impersonate", "users"],
            &["*", "*"],
            &["get", "/metrics"],
            &["get", "secrets", "-n", "nullius-sessions"],
        ] {
            let answer = kubectl.run(&[&["auth", "can-i"], no].concat()).unwrap();
            ended_with(&answer, 1);
            assert!(answer.stdout.starts_with("no"), "{no:?}: {}", answer.stdout);
        }
        it_can_be_done_as_said(&kubectl, &worker);
        let list = kubectl.ok(&["auth", "can-i", "--list"]).unwrap();
        assert!(list.contains("pods/exec") && list.contains("deployments.apps"), "{list}");
        let elsewhere = kubectl.ok(&["auth", "can-i", "--list", "-n", "ops"]).unwrap();
        assert!(!elsewhere.contains("pods"), "{elsewhere}");
    }
}

/// `can-i` and the real request agree.
fn it_can_be_done_as_said(kubectl: &Kubectl, worker: &Worker<'_>) {
    kubectl.ok(&["get", "pods", "-n", &worker.namespace]).unwrap();
    for args in [&["get", "pods", "-n", "ops"][..], &["get", "pods", "-A"], &["get", "nodes"]] {
        let refused = kubectl.run(args).unwrap();
        ended_with(&refused, 1);
        assert!(refused.stderr.contains("(Forbidden)"), "{args:?}: {}", refused.stderr);
    }
}

#[test]
fn kubectl_proxy_serves_the_api_to_this_machine() {
    let Some(world) = World::together() else { return };
    let (namespace, worker) = world.worker("proxy");
    for kubectl in worker.kubectls() {
        // The kubeconfig's server has a path, and kubectl proxy keeps it only when it is told to.
        let args = ["proxy", "--port=0", "--append-server-path"];
        let mut proxy = Running::start("kubectl proxy", kubectl.command(&args));
        let port = port_of(&proxy.wait_line("Starting to serve"));
        let path = format!("/api/v1/namespaces/{}/configmaps/kube-root-ca.crt", namespace.name());
        let answer = get_page(port, &path).unwrap();
        assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"));
        assert!(answer.contains("BEGIN CERTIFICATE"), "{answer}");
        let refused = get_page(port, "/api/v1/nodes").unwrap();
        assert!(refused.contains("403 Forbidden"), "{refused}");
    }
}
