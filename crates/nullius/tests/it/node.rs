//! `nullius node` on real nodes: real kubelets mount its socket into pods, and its attestation meets real containers.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use nullius_kube::{
    Deployments, HubPins, IdentityParts, JoinManifest, MeshHost, NODE_HEALTH_PORT, NODE_NAMESPACE,
    NodeHost, PullPolicy, Shape,
};
use nullius_model::Ceiling;
use nullius_testkit::{Cluster, Kubectl, Output, TestNamespace, wait_until};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::world::World;

const IMAGE: &str = "localhost/nullius:dev";
const LONG: Duration = Duration::from_secs(180);
/// Where pods of the tests find the socket.
const SOCKET: &str = "/identity/api.sock";

/// The DaemonSet of the join manifest, once for each node: the kubelets of one machine have roots of their own.
pub(crate) struct Nodes<'w> {
    world: &'w World,
    kubectl: Kubectl,
    mesh: Mesh,
}

/// Whether nodes lead the traffic of pods.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mesh {
    Without,
    With,
}

impl<'w> Nodes<'w> {
    pub(crate) fn install(world: &'w World, mesh: Mesh) -> Self {
        let nodes = Self { world, kubectl: world.direct(), mesh };
        // The one of the manifest as it is finds no kubelet at the usual place, and has the port.
        nodes.run(&["delete", "daemonset", "nullius-node", "--ignore-not-found", "--wait"]);
        for (at, node) in world.cluster.record().nodes.iter().enumerate() {
            let host = host(&world.cluster, at + 1, &node.network_namespace, mesh);
            let mut set = daemon_set(world.cluster_name(), host);
            set["metadata"]["name"] = json!(format!("nullius-node-{}", node.name));
            let name = json!(node.name);
            set["spec"]["selector"]["matchLabels"]["test-node"] = name.clone();
            set["spec"]["template"]["metadata"]["labels"]["test-node"] = name.clone();
            set["spec"]["template"]["spec"]["nodeSelector"] =
                json!({ "kubernetes.io/hostname": name });
            nodes.kubectl.apply(&set.to_string()).unwrap();
        }
        nodes.are_ready();
        nodes
    }

    pub(crate) fn run(&self, args: &[&str]) -> String {
        self.kubectl.ok(&[&["-n", NODE_NAMESPACE], args].concat()).unwrap()
    }

    #[track_caller]
    pub(crate) fn are_ready(&self) {
        let count = self.world.cluster.record().nodes.len();
        let ready = wait_until(LONG, "nodes that are ready", || {
            let all = self.run(&["get", "pods", "-l", "test-node", "-o", "json"]);
            let all: Value = serde_json::from_str(&all).unwrap();
            let ready = all["items"]
                .as_array()?
                .iter()
                .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null() && is_ready(pod));
            (ready.count() == count).then_some(())
        });
        if let Err(error) = ready {
            let told = self.run(&["describe", "pods", "-l", "test-node"]);
            let logs = ["-n", NODE_NAMESPACE, "logs", "-l", "test-node"];
            panic!("{error}: {told}\n{}", self.kubectl.run(&logs).unwrap().stdout);
        }
    }

    /// The pod of the part that runs on this node.
    pub(crate) fn on(&self, node: &str) -> String {
        let label = format!("test-node={node}");
        self.run(&["get", "pods", "-l", &label, "-o", "name"]).trim().to_owned()
    }
}

impl Drop for Nodes<'_> {
    fn drop(&mut self) {
        let gone = ["-n", NODE_NAMESPACE, "delete", "daemonset", "-l", "app.kubernetes.io/part-of"];
        let _ = self.kubectl.run(&gone);
        if self.mesh == Mesh::Without {
            return;
        }
        // A node puts the plugin back as long as it runs; without one no pod begins where the plugin is.
        let ends = [
            "-n",
            NODE_NAMESPACE,
            "wait",
            "pods",
            "-l",
            "test-node",
            "--for=delete",
            "--timeout=60s",
        ];
        let _ = self.kubectl.run(&ends);
        for number in 1..=self.world.cluster.record().nodes.len() {
            let [programs, networks] = cni(&self.world.cluster, number);
            let removed = Command::new(env!("CARGO_BIN_EXE_nullius"))
                .args(["cni", "remove", "--programs", &programs, "--networks", &networks])
                .status();
            assert!(removed.is_ok_and(|it| it.success()) || std::thread::panicking());
        }
    }
}

fn below(cluster: &Cluster, number: usize, name: &str) -> String {
    let path = cluster.file(&format!("n{number}/{name}")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Where a node's container runtime looks for plugins that are added, and for networks.
pub(crate) fn cni(cluster: &Cluster, number: usize) -> [String; 2] {
    ["cni-programs", "cni"].map(|name| below(cluster, number, name))
}

fn host(cluster: &Cluster, number: usize, cgroup: &str, mesh: Mesh) -> NodeHost {
    let below = |name: &str| below(cluster, number, name);
    let [cni_programs, cni_networks] = cni(cluster, number);
    let socket_dir = below("identity/node");
    NodeHost {
        kubelet: below("kubelet"),
        cgroup_root: format!("/{cgroup}"),
        socket_dir: below("identity/socket"),
        state_dir: below("identity/state"),
        mesh: (mesh == Mesh::With).then_some(MeshHost { cni_programs, cni_networks, socket_dir }),
    }
}

fn daemon_set(cluster: &str, host: NodeHost) -> Value {
    let mut deployments = Deployments::of_image(IMAGE);
    deployments.pull_policy = PullPolicy::Never;
    deployments.identity = Some(IdentityParts::of_domain("any.example".parse().unwrap()));
    deployments.host = host.into();
    let hub = HubPins {
        address: "hub:1".to_owned(),
        infra_ca_pem: String::new(),
        offline_key: String::new(),
        hub_id: String::new(),
    };
    let shape = Shape::InCluster { deployments, hub, join_token: SecretString::from("none") };
    let manifest =
        JoinManifest { cluster: cluster.parse().unwrap(), ceiling: Ceiling::default(), shape };
    let mut objects = manifest.objects();
    objects.retain(|object| object["kind"] == "DaemonSet");
    objects.remove(0)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// A pod of an account, with containers that watch their identities.
fn pod(name: &str, account: &str, node: &str, containers: &[&str]) -> Value {
    let container = |name: &&str| {
        json!({
            "name": name, "image": IMAGE, "imagePullPolicy": "Never",
            "args": ["svid", "watch", "--socket", format!("unix://{SOCKET}")],
            "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
            },
            "volumeMounts": [{ "name": "identity", "mountPath": "/identity", "readOnly": true }],
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name },
        "spec": {
            "serviceAccountName": account,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "nodeName": node,
            "securityContext": {
                "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": containers.iter().map(container).collect::<Vec<_>>(),
            "volumes": [{
                "name": "identity", "csi": { "driver": "csi.nullius.dev", "readOnly": true },
            }],
        },
    })
}

/// Makes a pod; gives its UID.
fn make(namespace: &TestNamespace, pod: &Value) -> String {
    namespace.apply(&pod.to_string()).unwrap();
    let name = pod["metadata"]["name"].as_str().unwrap();
    namespace.kubectl(&["get", "pod", name, "-o", "jsonpath={.metadata.uid}"]).unwrap()
}

#[track_caller]
fn says(namespace: &TestNamespace, pod: &str, container: &str, wanted: &str) -> String {
    let logs = ["logs", pod, "-c", container, "--timestamps"];
    let mut last = String::new();
    let said = wait_until(LONG, &format!("`{wanted}` of {pod}/{container}"), || {
        let output = namespace.run(&logs).ok()?;
        last = output.stdout + &output.stderr;
        last.lines().rfind(|line| line.contains(wanted)).map(str::to_owned)
    });
    let told = || namespace.run(&["describe", "pod", pod]).map(|told| told.stdout);
    said.unwrap_or_else(|error| panic!("{error}: {last}\n{}", told().unwrap_or_default()))
}

fn fetch(namespace: &TestNamespace, pod: &str, container: &str) -> Output {
    let command = format!("--socket=unix://{SOCKET}");
    let exec = [
        "exec",
        pod,
        "-c",
        container,
        "--",
        "/usr/local/bin/nullius",
        "svid",
        "fetch",
        &command,
        "--timeout=10s",
    ];
    namespace.run(&exec).unwrap()
}

#[test]
fn pods_prove_who_they_are_by_the_node_that_runs_them() {
    // Alone: what its node holds is counted.
    let Some(world) = World::alone() else { return };
    let record = world.cluster.record();
    let names: Vec<&str> = record.nodes.iter().map(|node| node.name.as_str()).collect();
    // The same where there is one.
    let (one, two) = (names[0], names[names.len() - 1]);
    let nodes = Nodes::install(&world, Mesh::Without);
    let domain =
        nodes.run(&["get", "configmap", "nullius-trust", "-o", "jsonpath={.data.trust-domain}"]);

    // The strictest level of Pod Security lets pods have the volume.
    let namespace = world.cluster.namespace("node").unwrap();
    for label in ["pod-security.kubernetes.io/enforce=restricted", "nullius.dev/identity=enabled"] {
        world.direct().ok(&["label", "namespace", namespace.name(), label]).unwrap();
    }
    for account in ["front", "back"] {
        namespace.kubectl(&["create", "serviceaccount", account]).unwrap();
    }
    let began = Instant::now();
    let front = make(&namespace, &pod("front", "front", one, &["main", "side"]));
    make(&namespace, &pod("back", "back", two, &["main"]));
    make(&namespace, &pod("beside", "back", one, &["main"]));
    let mut stranger = pod("stranger", "front", one, &["main"]);
    stranger["metadata"]["labels"] = json!({ "nullius.dev/identity": "disabled" });
    make(&namespace, &stranger);

    // Each container has the identity of its own pod and no other.
    let spiffe = |account: &str| format!("spiffe://{domain}/ns/{}/sa/{account}", namespace.name());
    let line = says(&namespace, "front", "main", &spiffe("front"));
    let after = began.elapsed();
    says(&namespace, "front", "side", &spiffe("front"));
    says(&namespace, "back", "main", &spiffe("back"));
    says(&namespace, "beside", "main", &spiffe("back"));
    eprintln!(
        "node: `kubectl apply` to a printed SVID {} ms; container's start to it {} ms",
        after.as_millis(),
        since_start(&namespace, "front", "main", &line),
    );
    for (pod, container, account) in
        [("front", "main", "front"), ("front", "side", "front"), ("beside", "main", "back")]
    {
        let told = fetch(&namespace, pod, container);
        assert_eq!(told.code, 0, "{} {}", told.stdout, told.stderr);
        assert!(told.stdout.contains(&spiffe(account)), "{}", told.stdout);
        let other = if account == "front" { "back" } else { "front" };
        assert!(!told.stdout.contains(&spiffe(other)), "{}", told.stdout);
    }
    // Who is not enrolled is told that, and nothing else.
    let told = says(&namespace, "stranger", "main", "no identity is registered");
    assert!(!told.contains("spiffe://"), "{told}");

    declared_identities(&namespace, &spiffe("front"));

    // A new node's socket is seen through the mounts that pods have.
    let old = nodes.on(one);
    nodes.run(&["delete", &old, "--wait"]);
    nodes.are_ready();
    assert_ne!(nodes.on(one), old);
    let answered = wait_until(LONG, "an answer of the new node", || {
        let told = fetch(&namespace, "front", "main");
        (told.code == 0 && told.stdout.contains(&spiffe("front"))).then_some(())
    });
    answered.unwrap();
    // Who streams has gone on by itself.
    let running =
        ["get", "pod", "front", "-o", "jsonpath={.status.containerStatuses[*].restartCount}"];
    assert_eq!(namespace.kubectl(&running).unwrap(), "0 0");

    // With the pod go its mount and its SVID.
    assert_eq!(mounts(&front), 1, "the volume is mounted once");
    let at = format!("{}:{NODE_HEALTH_PORT}", record.nodes[0].addresses[0]);
    let held = || {
        let page = metrics(&at)?;
        let line = page.lines().find_map(|line| line.strip_prefix("nullius_node_svids "))?;
        line.parse::<u32>().ok()
    };
    let before = held().unwrap();
    namespace.kubectl(&["delete", "pod", "front", "--wait", "--timeout=120s"]).unwrap();
    wait_until(LONG, "the end of the mount", || (mounts(&front) == 0).then_some(())).unwrap();
    let dropped = wait_until(LONG, "an SVID less", || (held()? == before - 1).then_some(()));
    dropped.unwrap();
}

/// What a `WorkloadIdentity` gives one container of the pod `front` the other does not get, and what cannot be given says why.
#[track_caller]
fn declared_identities(namespace: &TestNamespace, default: &str) {
    let object = |name: &str, spec: Value| {
        json!({
            "apiVersion": "nullius.dev/v1alpha1", "kind": "WorkloadIdentity",
            "metadata": { "name": name }, "spec": spec,
        })
        .to_string()
    };
    let side = json!({
        "selector": { "serviceAccounts": ["front"] },
        "containers": { "names": ["side"] },
        "path": "/ns/{namespace}/sa/{serviceAccount}/{container}",
        "x509": { "ttl": "30m", "dnsNames": ["{serviceAccount}.{namespace}.svc"] },
        "hint": "inner",
    });
    namespace.apply(&object("side", side)).unwrap();
    let foreign = json!({ "selector": { "any": true }, "path": "/ns/kube-system/sa/admin" });
    namespace.apply(&object("foreign", foreign)).unwrap();
    let odd = json!({ "selector": { "any": true, "namespaces": ["all"] } });
    let refused = namespace.apply(&object("odd", odd)).unwrap_err().to_string();
    assert!(refused.contains("spec.selector: unknown field"), "{refused}");

    let inner = format!("{default}/side");
    let given = wait_until(LONG, "the identity of one container", || {
        let told = fetch(namespace, "front", "side");
        told.stdout.contains(&inner).then_some(told.stdout)
    });
    let given = given.unwrap();
    assert!(given.find(default) < given.find(&inner), "the default one comes first: {given}");
    let other = fetch(namespace, "front", "main");
    assert!(other.stdout.contains(default) && !other.stdout.contains(&inner), "{}", other.stdout);

    let standing = |name: &str| {
        let path = "jsonpath={.status.pods} {.status.conditions[0].status} {.status.conditions[0].message}";
        let stands = ["get", "workloadidentities.nullius.dev", name, "-o", path];
        let said = wait_until(LONG, "how it stands", || {
            namespace
                .kubectl(&stands)
                .ok()
                .filter(|said| said.contains("True") || said.contains("False"))
        });
        said.unwrap()
    };
    assert!(standing("foreign").starts_with("0 False spec.path: an ID of this namespace begins"));
    // The pod `stranger` has the account, and no identity at all.
    assert_eq!(standing("side"), "1 True it can be read");

    namespace.kubectl(&["delete", "workloadidentities.nullius.dev", "--all"]).unwrap();
    let gone = wait_until(LONG, "the end of that identity", || {
        let told = fetch(namespace, "front", "side");
        (told.stdout.contains(default) && !told.stdout.contains(&inner)).then_some(())
    });
    gone.unwrap();
}

/// How many volumes of the driver a pod has, as the kubelet's mount namespace has it.
fn mounts(uid: &str) -> usize {
    let all = fs::read_to_string("/proc/1/mountinfo").unwrap();
    let place = format!("/pods/{uid}/volumes/kubernetes.io~csi/");
    all.lines().filter(|line| line.contains(&place)).count()
}

fn metrics(address: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut tcp = std::net::TcpStream::connect(address).ok()?;
    tcp.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    tcp.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    tcp.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Milliseconds from a container's start to a line that it printed, both by the clock of its node.
fn since_start(namespace: &TestNamespace, pod: &str, container: &str, line: &str) -> i64 {
    let printed: jiff::Timestamp = line.split(' ').next().unwrap().parse().unwrap();
    let path = format!(
        "jsonpath={{.status.containerStatuses[?(@.name==\"{container}\")].state.running.startedAt}}"
    );
    let started = wait_until(LONG, "the container's start", || {
        let text = namespace.kubectl(&["get", "pod", pod, "-o", &path]).ok()?;
        text.parse::<jiff::Timestamp>().ok()
    });
    printed.as_millisecond() - started.unwrap().as_millisecond()
}
