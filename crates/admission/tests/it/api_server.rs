//! The same pods for the API server and for us: verdict, code and message are equal.
//!
//! They run where a test run has started clusters (`NULLIUS_TEST_STATE`, set by `cargo xtask test`).

use std::collections::BTreeMap;

use nullius_policy::pod_security::{Operation, PodRequest, Review, Settings, review};
use nullius_testkit::{Api, Cluster, Profile, TestNamespace, shared};
use proptest::{prelude::*, sample::select, strategy::ValueTree as _, test_runner::TestRunner};
use serde_json::{Value, json};

const POLICIES: [(&str, &str); 8] = [
    ("baseline", "latest"),
    ("baseline", "v1.18"),
    ("baseline", "v1.30"),
    ("restricted", "latest"),
    ("restricted", "v1.7"),
    ("restricted", "v1.21"),
    ("restricted", "v1.24"),
    ("restricted", "v1.34"),
];
const PODS: usize = 60;

/// A namespace with its labels.
struct Room {
    namespace: TestNamespace,
    labels: BTreeMap<String, String>,
}

fn rooms(cluster: &Cluster) -> Vec<Room> {
    let open = |(level, version): &(&str, &str)| {
        let namespace = cluster.namespace("psa").unwrap();
        let labels = BTreeMap::from([
            ("pod-security.kubernetes.io/enforce".to_owned(), (*level).to_owned()),
            ("pod-security.kubernetes.io/enforce-version".to_owned(), (*version).to_owned()),
        ]);
        let mut words =
            vec!["label".to_owned(), "namespace".to_owned(), namespace.name().to_owned()];
        words.extend(labels.iter().map(|(label, value)| format!("{label}={value}")));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        cluster.kubectl().unwrap().ok(&words).unwrap();
        Room { namespace, labels }
    };
    POLICIES.iter().map(open).collect()
}

pub(crate) fn settings(api: &Api) -> Settings {
    let version = api.get("/version").unwrap().json().unwrap();
    let minor = version["minor"].as_str().unwrap_or_default().trim_end_matches('+');
    Settings { newest: minor.parse().unwrap(), ..Settings::default() }
}

fn ours(settings: &Settings, room: &Room, pod: &Value) -> Review {
    let labels =
        room.labels.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect();
    let request = PodRequest {
        operation: Operation::Create,
        group: "",
        resource: "pods",
        subresource: "",
        namespace: room.namespace.name(),
        name: pod["metadata"]["name"].as_str().unwrap_or_default(),
        user: "kubernetes-admin",
        object: pod,
        old_object: None,
    };
    review(settings, &request, Ok(&labels))
}

/// A container that the API takes, whatever the standards say of it.
fn container(name: &'static str) -> impl Strategy<Value = Value> {
    let add = || {
        prop::collection::vec(select(vec!["NET_BIND_SERVICE", "CHOWN", "BPF", "NET_ADMIN"]), 0..3)
    };
    let drop = select(vec![json!(null), json!(["ALL"]), json!(["all"]), json!(["CHOWN", "ALL"])]);
    let flag = || select(vec![json!(null), json!(true), json!(false)]);
    let profile = || {
        select(vec![
            json!(null),
            json!({ "type": "RuntimeDefault" }),
            json!({ "type": "Unconfined" }),
        ])
    };
    let se_linux = select(vec![
        json!(null),
        json!({ "type": "container_t" }),
        json!({ "type": "spc_t", "role": "r" }),
        json!({ "user": "u" }),
    ]);
    let host = || select(vec![json!(null), json!(null), json!("10.0.0.1")]);
    let port = select(vec![
        json!([]),
        json!([{ "containerPort": 80 }]),
        json!([{ "containerPort": 81, "hostPort": 81 }]),
    ]);
    (
        (add(), drop, flag(), flag(), flag()),
        (profile(), profile(), se_linux, host(), port),
        (select(vec![json!(null), json!(0), json!(1000)]), any::<bool>()),
    )
        .prop_map(move |((add, drop, privileged, escalation, non_root), (seccomp, app_armor, se_linux, host, ports), (user, bare))| {
            if bare {
                return json!({ "name": name, "image": "registry.example/i" });
            }
            // The API has an opinion on some pairs.
            let escalation = if privileged == json!(true) { json!(null) } else { escalation };
            let ports: Vec<Value> = ports.as_array().cloned().unwrap_or_default();
            let mut container = json!({
                "name": name, "image": "registry.example/i", "ports": ports,
                "securityContext": {
                    "privileged": privileged, "allowPrivilegeEscalation": escalation, "runAsNonRoot": non_root, "runAsUser": user,
                    "seccompProfile": seccomp, "appArmorProfile": app_armor, "seLinuxOptions": se_linux,
                    "capabilities": { "add": add, "drop": drop },
                },
            });
            if name == "a" {
                container["livenessProbe"] = json!({ "httpGet": { "port": 80, "host": host } });
                container["lifecycle"] = json!({ "preStop": { "httpGet": { "port": 80, "host": host } } });
            }
            container
        })
}

fn pod() -> impl Strategy<Value = Value> {
    let volumes = prop::collection::vec(
        select(vec![
            json!({}),
            json!({ "emptyDir": {} }),
            json!({ "hostPath": { "path": "/x" } }),
            json!({ "nfs": { "server": "s", "path": "/" } }),
            json!({ "configMap": { "name": "c" } }),
            json!({ "iscsi": { "targetPortal": "p", "iqn": "iqn.2001-04.com.example:x", "lun": 0 } }),
        ]),
        0..3,
    );
    let annotations = select(vec![
        json!({}),
        json!({}),
        json!({ "container.apparmor.security.beta.kubernetes.io/a": "unconfined" }),
        json!({ "container.apparmor.security.beta.kubernetes.io/a": "runtime/default" }),
        json!({ "seccomp.security.alpha.kubernetes.io/pod": "unconfined" }),
        json!({ "container.seccomp.security.alpha.kubernetes.io/a": "unconfined", "container.seccomp.security.alpha.kubernetes.io/b": "docker/default" }),
    ]);
    let security = (
        select(vec![json!(null), json!(true), json!(false)]),
        select(vec![json!(null), json!(0), json!(7)]),
        select(vec![
            json!(null),
            json!({ "type": "RuntimeDefault" }),
            json!({ "type": "Unconfined" }),
        ]),
        select(vec![
            json!(null),
            json!({ "type": "RuntimeDefault" }),
            json!({ "type": "Unconfined" }),
        ]),
        prop::collection::vec(
            select(vec!["kernel.shm_rmid_forced", "net.ipv4.tcp_rmem", "kernel.msgmax"]),
            0..2,
        ),
    );
    let host = select(vec![
        json!({}),
        json!({}),
        json!({ "hostPID": true }),
        json!({ "hostNetwork": true }),
        json!({ "hostUsers": false }),
        json!({ "hostIPC": true }),
    ]);
    (container("a"), prop::option::of(container("b")), prop::option::of(container("c")), volumes, annotations, security, host)
        .prop_map(|(a, b, init, volumes, annotations, (non_root, user, seccomp, app_armor, sysctls), host)| {
            let volumes: Vec<Value> = volumes
                .into_iter()
                .enumerate()
                .map(|(index, mut volume)| {
                    volume["name"] = json!(format!("v{index}"));
                    volume
                })
                .collect();
            let sysctls: Vec<Value> = sysctls.into_iter().map(|name| json!({ "name": name, "value": "1" })).collect();
            let containers: Vec<Value> = std::iter::once(a).chain(b).collect();
            let init: Vec<Value> = init.into_iter().collect();
            let mut pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": "p", "annotations": annotations },
                "spec": {
                    "containers": containers,
                    "initContainers": init,
                    "volumes": volumes,
                    "securityContext": { "runAsNonRoot": non_root, "runAsUser": user, "seccompProfile": seccomp, "appArmorProfile": app_armor, "sysctls": sysctls },
                },
            });
            for (field, value) in host.as_object().into_iter().flatten() {
                pod["spec"][field] = value.clone();
            }
            pod
        })
}

/// The same pod with containers that pass, so that other fields decide.
fn hardened(mut pod: Value) -> Value {
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            *container = json!({
                "name": container["name"], "image": "registry.example/i",
                "securityContext": {
                    "allowPrivilegeEscalation": false, "runAsNonRoot": true,
                    "seccompProfile": { "type": "Localhost", "localhostProfile": "p" },
                    "capabilities": { "drop": ["ALL"], "add": ["NET_BIND_SERVICE"] },
                },
            });
        }
    }
    pod["spec"]["securityContext"] = json!({});
    pod
}

#[test]
fn pods_are_refused_with_the_api_servers_words() {
    let Some(cluster) = shared(Profile::ControlPlane) else { return };
    let api = cluster.api().unwrap();
    let settings = settings(&api);
    let rooms = rooms(&cluster);
    let mut runner = TestRunner::deterministic();
    let strategy = prop_oneof![pod(), pod().prop_map(hardened)];
    let (mut compared, mut refused, mut different) = (0, 0, Vec::new());
    for _ in 0..PODS {
        let pod = strategy.new_tree(&mut runner).unwrap().current();
        for room in &rooms {
            let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", room.namespace.name());
            let theirs = api.post(&path, &pod).unwrap();
            let told = theirs.json().unwrap()["message"].as_str().unwrap_or_default().to_owned();
            // What the API itself does not take is not judged by the standards.
            if theirs.status == 422 || theirs.status == 400 {
                continue;
            }
            let ours = ours(&settings, room, &pod);
            let expected = ours
                .refusal
                .map_or((201, String::new()), |refusal| (refusal.code, refusal.message));
            compared += 1;
            refused += usize::from(expected.0 == 403);
            if expected != (theirs.status, told.clone()) {
                different.push(format!(
                    "{pod}\n  theirs: {} {told}\n  ours:   {} {}",
                    theirs.status, expected.0, expected.1
                ));
            }
        }
    }
    assert!(
        different.is_empty(),
        "{} of {compared} differ:\n{}",
        different.len(),
        different[..different.len().min(5)].join("\n")
    );
    assert!(compared > PODS * rooms.len() / 2, "only {compared} pods were taken by the API");
    assert!(refused > 0 && refused < compared, "{refused} of {compared} refused");
    eprintln!("{compared} pods compared, {refused} refused");
}
