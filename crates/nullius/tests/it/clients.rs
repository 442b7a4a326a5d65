//! Clients other than kubectl: kube-rs and Helm, by the same kubeconfig.

use std::{fs, path::Path, process::Command, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Client, Config,
    api::{AttachParams, DeleteParams, ListParams, LogParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::watcher,
};
use nullius_testkit::ensure_helm;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use crate::world::World;

/// How long something that should come may take.
const SOON: Duration = Duration::from_secs(120);

/// Where asynchronous clients run.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A kube-rs client by a kubeconfig; ours asks the exec plugin.
pub(crate) async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

#[test]
fn a_kube_rs_client_lists_watches_and_enters_pods() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker_with_pod("kube-rs");
    runtime().block_on(async {
        let client = client(&worker.kubeconfig).await;
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        let names: Vec<_> = pods.list(&ListParams::default()).await.unwrap().items;
        assert_eq!(names[0].metadata.name.as_deref(), Some("page"));

        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        let only = watcher::Config::default().fields("metadata.name=watched");
        let mut events = std::pin::pin!(watcher(maps.clone(), only));
        let watched: ConfigMap =
            serde_json::from_value(json!({"metadata": {"name": "watched"}})).unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let event = tokio::time::timeout(SOON, events.try_next()).await.unwrap().unwrap();
            match event.unwrap() {
                watcher::Event::InitDone => {
                    maps.create(&PostParams::default(), &watched).await.unwrap();
                }
                watcher::Event::Apply(_) => {
                    seen.push("applied");
                    maps.delete("watched", &DeleteParams::default()).await.unwrap();
                }
                watcher::Event::Delete(_) => seen.push("deleted"),
                watcher::Event::Init | watcher::Event::InitApply(_) => {}
            }
        }
        assert_eq!(seen, ["applied", "deleted"]);

        let params = AttachParams::default().stdout(true).stderr(true);
        let command = ["sh", "-c", "echo inside; exit 3"];
        let mut process = pods.exec("page", command, &params).await.unwrap();
        let status = process.take_status().unwrap();
        let mut said = String::new();
        process.stdout().unwrap().read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "inside\n");
        let status = status.await.unwrap();
        assert_eq!(status.status.as_deref(), Some("Failure"));
        assert!(status.message.unwrap().contains("exit code 3"));

        let follow = LogParams { follow: true, ..LogParams::default() };
        let lines =
            futures::AsyncBufReadExt::lines(pods.log_stream("page", &follow).await.unwrap());
        let some: Vec<String> = lines.take(5).try_collect().await.unwrap();
        assert!(some[0].starts_with("tick"), "{some:?}");

        let elsewhere: Api<Pod> = Api::namespaced(client, "ops");
        let refused = elsewhere.list(&ListParams::default()).await.unwrap_err();
        let kube::Error::Api(status) = refused else { panic!("{refused}") };
        assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
        assert!(status.message.contains("ask an admin"), "{}", status.message);
    });
}

const CHART: [(&str, &str); 3] = [
    ("Chart.yaml", "apiVersion: v2\nname: page\nversion: 0.1.0\nappVersion: \"1\"\n"),
    ("values.yaml", "color: blue\n"),
    (
        "templates/all.yaml",
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-settings}
data: {color: {{ .Values.color }}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}-server}
spec:
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: server
        image: localhost/nullius-busybox:1
        imagePullPolicy: Never
        command: [sleep, "100000"]
"#,
    ),
];

#[test]
fn helm_installs_upgrades_lists_and_removes_a_chart() {
    let Some(world) = World::together() else { return };
    let (namespace, worker) = world.worker("helm");
    let program = ensure_helm().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let chart = folder.path().join("page");
    fs::create_dir_all(chart.join("templates")).unwrap();
    for (name, content) in CHART {
        fs::write(chart.join(name), content).unwrap();
    }
    let chart = chart.to_str().unwrap();
    let helm = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args).args(["--namespace", namespace.name()]);
        command.env("KUBECONFIG", &worker.kubeconfig).env("HOME", folder.path());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{args:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    };
    helm(&["install", "first", chart, "--wait", "--timeout=180s"]);
    let ready = "jsonpath={.status.readyReplicas}";
    let ready = namespace.kubectl(&["get", "deployment", "first-server", "-o", ready]).unwrap();
    assert_eq!(ready, "1");
    helm(&["upgrade", "first", chart, "--set", "color=red"]);
    let color = ["get", "configmap", "first-settings", "-o", "jsonpath={.data.color}"];
    assert_eq!(namespace.kubectl(&color).unwrap(), "red");
    let listed: serde_json::Value = serde_json::from_str(&helm(&["list", "-o", "json"])).unwrap();
    assert_eq!(listed[0]["name"], "first");
    assert_eq!(listed[0]["revision"], "2");
    assert!(helm(&["get", "values", "first"]).contains("color: red"));
    helm(&["uninstall", "first", "--wait", "--timeout=180s"]);
    let left = namespace.kubectl(&["get", "deployments,secrets", "-o", "name"]).unwrap();
    assert_eq!(left, "");
}
