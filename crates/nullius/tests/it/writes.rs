//! kubectl writes: every way of creating, changing and deleting.

use std::process::Command;

use nullius_testkit::Kubectl;

use crate::world::{World, ended_with};

fn value(kubectl: &Kubectl, name: &str, path: &str) -> String {
    let form = format!("jsonpath={{{path}}}");
    kubectl.ok(&["get", "configmap", name, "-o", &form]).unwrap()
}

fn configmap(name: &str, color: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{color: {color}}}\n"
    )
}

#[test]
fn objects_are_created_changed_and_deleted_in_every_way() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker("writes");
    for kubectl in worker.kubectls() {
        kubectl.ok(&["create", "configmap", "made", "--from-literal=color=blue"]).unwrap();
        assert_eq!(value(&kubectl, "made", ".data.color"), "blue");
        every_patch(&kubectl);

        let sed = "sed -i s/white/black/";
        let edited = kubectl.clone().env("KUBE_EDITOR", sed).run(&["edit", "configmap", "made"]);
        ended_with(&edited.unwrap(), 0);
        assert_eq!(value(&kubectl, "made", ".data.color"), "black");

        let whole = kubectl.ok(&["get", "configmap", "made", "-o", "yaml"]).unwrap();
        let other = whole.replace("color: black", "color: grey");
        let replaced = kubectl.run_with_input(&["replace", "-f", "-"], &other).unwrap();
        ended_with(&replaced, 0);
        let outdated = kubectl.run_with_input(&["replace", "-f", "-"], &whole).unwrap();
        ended_with(&outdated, 1);
        assert!(outdated.stderr.contains("(Conflict)"), "{}", outdated.stderr);

        kubectl.ok(&["label", "configmap", "made", "kept=no"]).unwrap();
        kubectl.ok(&["annotate", "configmap", "made", "note=short"]).unwrap();
        let dry = ["delete", "configmap", "made", "--dry-run=server"];
        kubectl.ok(&dry).unwrap();
        kubectl.ok(&["delete", "configmap", "-l", "kept=no", "--wait=false"]).unwrap();
        kubectl.ok(&["wait", "--for=delete", "configmap/made", "--timeout=180s"]).unwrap();
    }
}

fn every_patch(kubectl: &Kubectl) {
    let patch = |kind: &str, text: &str| {
        kubectl.ok(&["patch", "configmap", "made", "--type", kind, "-p", text]).unwrap();
    };
    patch("merge", r#"{"data": {"color": "green"}}"#);
    assert_eq!(value(kubectl, "made", ".data.color"), "green");
    patch("json", r#"[{"op": "replace", "path": "/data/color", "value": "red"}]"#);
    assert_eq!(value(kubectl, "made", ".data.color"), "red");
    patch("strategic", r#"{"data": {"color": "white", "shape": "round"}}"#);
    assert_eq!(value(kubectl, "made", ".data.color"), "white");
}

#[test]
fn objects_are_applied_by_client_and_by_server() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker("applies");
    for kubectl in worker.kubectls() {
        kubectl.apply(&configmap("mine", "blue")).unwrap();
        let again = kubectl.apply(&configmap("mine", "blue")).unwrap();
        assert!(again.contains("unchanged"), "{again}");
        kubectl.apply(&configmap("mine", "red")).unwrap();
        assert_eq!(value(&kubectl, "mine", ".data.color"), "red");

        let apply = |manager: &str, color: &str, more: &[&str]| {
            let manager = format!("--field-manager={manager}");
            let args = ["apply", "--server-side", &manager, "-f", "-"];
            let args = [&args[..], more].concat();
            kubectl.run_with_input(&args, &configmap("shared", color)).unwrap()
        };
        ended_with(&apply("one", "blue", &[]), 0);
        let conflict = apply("two", "red", &[]);
        ended_with(&conflict, 1);
        assert!(conflict.stderr.contains("conflict with \"one\""), "{}", conflict.stderr);
        assert_eq!(value(&kubectl, "shared", ".data.color"), "blue");
        ended_with(&apply("two", "red", &["--force-conflicts"]), 0);
        let managers = "get configmap shared --show-managed-fields -o jsonpath={.metadata.managedFields[*].manager}";
        let managers = kubectl.ok(&managers.split(' ').collect::<Vec<_>>()).unwrap();
        assert!(managers.contains("two"), "{managers}");

        if Command::new("diff").arg("--version").output().is_ok() {
            let diff =
                kubectl.run_with_input(&["diff", "-f", "-"], &configmap("mine", "green")).unwrap();
            ended_with(&diff, 1);
            assert!(diff.stdout.contains("+  color: green"), "{}", diff.stdout);
        }
        kubectl.ok(&["delete", "configmap", "mine", "shared"]).unwrap();
    }
}

const SERVER: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  replicas: 1
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      terminationGracePeriodSeconds: 0
      automountServiceAccountToken: false
      containers:
      - name: server
        image: localhost/nullius-busybox:1
        imagePullPolicy: Never
        command: [sleep, "100000"]
"#;

#[test]
fn a_workload_is_rolled_out_scaled_and_awaited() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker("rollout");
    for kubectl in worker.kubectls() {
        kubectl.apply(SERVER).unwrap();
        let status = ["rollout", "status", "deployment/server", "--timeout=180s"];
        let told = kubectl.ok(&status).unwrap();
        assert!(told.contains("successfully rolled out"), "{told}");
        kubectl.ok(&["scale", "deployment/server", "--replicas=2"]).unwrap();
        let both = "--for=jsonpath={.status.availableReplicas}=2";
        kubectl.ok(&["wait", "deployment/server", both, "--timeout=180s"]).unwrap();
        let image = "jsonpath={.items[*].spec.containers[0].image}";
        let images = kubectl.ok(&["get", "pods", "-l", "app=server", "-o", image]).unwrap();
        assert_eq!(images.split(' ').count(), 2, "{images}");
        kubectl.ok(&["rollout", "history", "deployment/server"]).unwrap();
        kubectl.ok(&["delete", "deployment", "server", "--cascade=foreground"]).unwrap();
        let gone = ["wait", "--for=delete", "pod", "-l", "app=server", "--timeout=180s"];
        kubectl.ok(&gone).unwrap();
    }
}
