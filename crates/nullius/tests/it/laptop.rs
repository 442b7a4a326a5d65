//! `nullius up`: hub and agent of a cluster as one process, from the first link to the last clean-up.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use nullius_testkit::{Cluster, Environment, Person, wait_until};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    faults::kill,
    faults_agents::Plane,
    running::Running,
    world::{ended_with, session_objects},
};

const SOON: Duration = Duration::from_secs(20);

/// Starts it on a state directory; gives the origin of its hub.
fn up(cluster: &Cluster, state: &Path) -> (Running, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nullius"));
    command.args(["up", "--cluster", "laptop", "--ceiling", "edit"]);
    command.args(["--listen", "127.0.0.1:0", "--kubeconfig"]).arg(cluster.kubeconfig());
    command.arg("--state").arg(state).env("NO_COLOR", "1");
    let mut running = Running::start("nullius up", command);
    let line = running.wait_line("hub  ");
    (running, line.split_whitespace().last().unwrap().to_owned())
}

/// People and command line of this hub.
fn environment(origin: &str, folder: &Path) -> Environment {
    Environment {
        api_version: "nullius.dev/v1alpha1".to_owned(),
        kind: "DevEnvironment".to_owned(),
        hub_url: origin.to_owned(),
        hub_ca: folder.join("ca.pem"),
        kubeconfig: folder.join("kubeconfig"),
        clusters: Vec::new(),
        users: Vec::new(),
        nullius: env!("CARGO_BIN_EXE_nullius").into(),
        homes: folder.join("homes"),
        hub_state: folder.join("state"),
        processes: Vec::new(),
    }
}

const OBJECTS: &str = r#"
apiVersion: nullius.dev/v1alpha1
kind: Role
metadata: {name: writer}
spec:
  rules:
  - {apiGroups: [""], resources: [configmaps], verbs: [get, list, watch, create, delete]}
---
apiVersion: nullius.dev/v1alpha1
kind: Grant
metadata: {name: lena-writes}
spec:
  subjects: [{kind: User, name: lena}]
  role: writer
  clusters: {names: [laptop]}
"#;

#[test]
fn one_process_serves_a_cluster_and_takes_back_what_it_made() {
    let Some(plane) = Plane::shared() else { return };
    let cluster = &plane.cluster;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let init = [
        "hub",
        "init",
        "-o",
        "json",
        "--listen",
        "127.0.0.1:0",
        "--state",
        state.to_str().unwrap(),
    ];
    let nowhere = environment("https://127.0.0.1:1", folder.path());
    let made: Value = serde_json::from_str(&nowhere.nullius_ok("nobody", &init).unwrap()).unwrap();
    fs::write(&nowhere.hub_ca, made["ca"].as_str().unwrap()).unwrap();

    let (mut running, origin) = up(cluster, &state);
    let laptop = environment(&origin, folder.path());
    let token = made["token"].as_str().unwrap();
    let admin = Person::enrol(&laptop.hub().unwrap(), "admin", &[], token).unwrap();
    admin.sign_in(&laptop).unwrap();
    let lena = laptop.new_person("lena", &[]).unwrap();
    laptop.nullius_ok_with_input("admin", &["apply", "-f", "-"], OBJECTS).unwrap();
    lena.sign_in(&laptop).unwrap();
    let kubeconfig = laptop.kubeconfig.display().to_string();
    laptop.nullius_ok("lena", &["kubeconfig", "--file", &kubeconfig]).unwrap();
    let me = laptop.nullius_ok("lena", &["whoami", "-o", "json"]).unwrap();
    let me: Value = serde_json::from_str(&me).unwrap();
    let session = me["session"].as_str().unwrap();
    let direct = cluster.kubectl().unwrap();
    let namespace = cluster.namespace("laptop").unwrap();

    let kubectl = nullius_testkit::kubectl(&laptop.kubeconfig).unwrap();
    let in_namespace = ["-n", namespace.name()];
    let works = || {
        let get = [&in_namespace[..], &["get", "configmaps"]].concat();
        wait_until(SOON, "kubectl to work", || kubectl.run(&get).ok().filter(|o| o.code == 0))
    };
    works().unwrap();
    let create = [&in_namespace[..], &["create", "configmap", "mine"]].concat();
    kubectl.ok(&create).unwrap();
    assert!(!session_objects(&direct, session).is_empty());

    // Ctrl-C: nothing of the session stays in the cluster.
    kill(running.id(), Signal::INT);
    let (code, said) = running.wait_end(SOON);
    assert_eq!(code, 0, "{said}");
    assert_eq!(session_objects(&direct, session), [""; 0], "{said}");

    // Again on the same state and port: the same hub, the same session.
    let port = origin.rsplit(':').next().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_nullius"));
    command.args(["up", "--cluster", "laptop", "--ceiling", "edit", "--kubeconfig"]);
    command.arg(cluster.kubeconfig()).arg("--state").arg(&state);
    command.args(["--listen", &format!("127.0.0.1:{port}")]).env("NO_COLOR", "1");
    let mut running = Running::start("nullius up again", command);
    running.wait_line("hub  ");
    works().unwrap();

    // A removed cluster: its streams are cut, what was made in it goes, and it is unknown.
    let watch = [&in_namespace[..], &["get", "configmaps", "--watch"]].concat();
    let mut watch = Running::start("watch", kubectl.command(&watch));
    watch.wait_line("mine");
    let began = Instant::now();
    laptop.nullius_ok("admin", &["cluster", "remove", "laptop", "--yes"]).unwrap();
    watch.wait_end(Duration::from_secs(2));
    assert!(began.elapsed() < Duration::from_secs(3));
    wait_until(SOON, "the session's objects to go", || {
        session_objects(&direct, session).is_empty().then_some(())
    })
    .unwrap();
    let unknown = kubectl.run(&["get", "--raw", "/api/v1/configmaps"]).unwrap();
    ended_with(&unknown, 1);
    assert!(unknown.stderr.contains("`laptop` does not exist"), "{}", unknown.stderr);
    kill(running.id(), Signal::INT);
    running.wait_end(SOON);
}
