//! The plugin as a container runtime starts it, against the node's side of it.

#![allow(clippy::unwrap_used, reason = "test")]

use std::{
    collections::BTreeMap,
    fs::File,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use nix::sched::{CloneFlags, unshare};
use nullius_redirect::Network;
use serde_json::{Value, json};
use tokio::{net::UnixListener, sync::watch};
use tokio_util::sync::CancellationToken;

use super::*;

/// Decides as it is told.
struct Told {
    verdict: Mutex<Verdict>,
    ready: Result<(), &'static str>,
    seen: Mutex<Vec<Arc<Attachment>>>,
}

impl Desk for Told {
    async fn decide(&self, attachment: Arc<Attachment>) -> Verdict {
        self.seen.lock().unwrap().push(attachment);
        self.verdict.lock().unwrap().clone()
    }

    fn is_ready(&self) -> Result<(), &'static str> {
        self.ready
    }
}

struct Node {
    folder: tempfile::TempDir,
    desk: Arc<Told>,
    attachments: watch::Receiver<Attachments>,
    stop: CancellationToken,
    _runtime: tokio::runtime::Runtime,
}

impl Node {
    fn new(verdict: Verdict, ready: Result<(), &'static str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (told, attachments) = watch::channel(Attachments::new());
        let desk = Arc::new(Told { verdict: Mutex::new(verdict), ready, seen: Mutex::default() });
        let stop = CancellationToken::new();
        let entered = runtime.enter();
        let listener = UnixListener::bind(folder.path().join("cni.sock")).unwrap();
        runtime.spawn(serve(listener, told, Arc::clone(&desk), stop.clone()));
        drop(entered);
        Self { folder, desk, attachments, stop, _runtime: runtime }
    }

    fn call(
        &self,
        command: &str,
        change: impl FnOnce(&mut BTreeMap<String, String>, &mut Value),
    ) -> (bool, String) {
        call(&self.folder.path().join("cni.sock"), command, change)
    }
}

fn call(
    socket: &Path,
    command: &str,
    change: impl FnOnce(&mut BTreeMap<String, String>, &mut Value),
) -> (bool, String) {
    let arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-1;K8S_POD_UID=u-1";
    let mut environment: BTreeMap<String, String> = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
        ("CNI_ARGS", arguments),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let mut config = json!({
        "cniVersion": "1.1.0", "name": "pods", "type": PLUGIN, "socket": socket,
        "passNamespaces": ["kube-system"],
        "prevResult": { "cniVersion": "1.1.0", "interfaces": [{ "name": "eth0" }],
            "ips": [{ "address": "10.244.1.7/24", "interface": 0 }, { "address": "fd00::7/64" }] },
    });
    change(&mut environment, &mut config);
    let output = run_plugin(&environment, config.to_string().as_bytes());
    (output.is_success, output.text)
}

fn unchanged(_: &mut BTreeMap<String, String>, _: &mut Value) {}

fn code(text: &str) -> u64 {
    let error: Value = serde_json::from_str(text).unwrap();
    assert!(!error["msg"].as_str().unwrap().is_empty(), "{text}");
    assert!(error["cniVersion"].is_string(), "{text}");
    error["code"].as_u64().unwrap()
}

/// A network of its own, as a file that stays open.
fn other_network() -> Option<File> {
    if !rustix::process::geteuid().is_root() {
        nullius_skip::skip("a network namespace takes root");
        return None;
    }
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    });
    Some(made.join().unwrap())
}

fn path_of(network: &File) -> String {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", network.as_raw_fd())
}

#[test]
fn a_pod_begins_when_the_node_says_so_and_its_network_is_handed_over() {
    let Some(network) = other_network() else { return };
    let node = Node::new(Verdict::Later("the agent has not told of it yet".to_owned()), Ok(()));
    let in_network = |environment: &mut BTreeMap<String, String>, _: &mut Value| {
        environment.insert("CNI_NETNS".to_owned(), path_of(&network));
    };
    let (is_success, text) = node.call("ADD", in_network);
    assert!(!is_success);
    assert_eq!(code(&text), 11);
    assert!(text.contains("the agent has not told of it yet"), "{text}");

    *node.desk.verdict.lock().unwrap() = Verdict::Begin;
    let mut previous = String::new();
    let (is_success, text) = node.call("ADD", |environment, config| {
        in_network(environment, config);
        previous = config["prevResult"].to_string();
    });
    assert!(is_success, "{text}");
    assert_eq!(text, previous, "what was made before is passed on as it came");
    let seen = node.desk.seen.lock().unwrap().last().cloned().unwrap();
    assert_eq!((seen.pod.namespace.as_str(), seen.pod.name.as_str()), ("shop", "cart-1"));
    assert_eq!(seen.pod.uid, "u-1");
    assert_eq!(seen.addresses, ["10.244.1.7", "fd00::7"].map(|one| one.parse::<IpAddr>().unwrap()));
    assert_eq!(seen.network.id(), Network::open(path_of(&network).as_ref()).unwrap().id());
    assert!(node.attachments.borrow().contains_key("c1"));
    assert!(node.call("CHECK", unchanged).0);

    *node.desk.verdict.lock().unwrap() = Verdict::Later("led no more".to_owned());
    assert_eq!(code(&node.call("CHECK", unchanged).1), 11);
    assert_eq!(node.call("DEL", unchanged), (true, String::new()));
    assert!(node.attachments.borrow().is_empty());
}

#[test]
fn what_is_gone_is_forgotten_by_gc() {
    let Some(network) = other_network() else { return };
    let node = Node::new(Verdict::Begin, Ok(()));
    for container in ["c1", "c2"] {
        let (is_success, text) = node.call("ADD", |environment, _| {
            environment.insert("CNI_NETNS".to_owned(), path_of(&network));
            environment.insert("CNI_CONTAINERID".to_owned(), container.to_owned());
        });
        assert!(is_success, "{text}");
    }
    let (is_success, text) = node.call("GC", |_, config| {
        config["cni.dev/valid-attachments"] = json!([{ "containerID": "c2", "ifname": "eth0" }]);
    });
    assert!(is_success, "{text}");
    assert_eq!(node.attachments.borrow().keys().collect::<Vec<_>>(), ["c2"]);
    assert_eq!(code(&node.call("GC", unchanged).1), 7);
}

#[test]
fn while_the_node_is_away_pods_wait_but_not_those_that_bring_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = folder.path().join("cni.sock");
    let (is_success, text) = call(&nobody, "ADD", unchanged);
    assert!(!is_success);
    assert_eq!(code(&text), 11);
    assert!(text.contains(&nobody.display().to_string()), "{text}");
    assert_eq!(code(&call(&nobody, "STATUS", unchanged).1), 50);
    assert_eq!(code(&call(&nobody, "CHECK", unchanged).1), 11);
    assert_eq!(call(&nobody, "DEL", unchanged), (true, String::new()));
    for arguments in ["K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=dns;K8S_POD_UID=u", ""] {
        let (is_success, text) = call(&nobody, "ADD", |environment, _| {
            environment.insert("CNI_ARGS".to_owned(), arguments.to_owned());
        });
        assert!(is_success, "{arguments}: {text}");
    }
}

#[test]
fn the_node_says_when_it_could_not_decide() {
    let node = Node::new(Verdict::Begin, Err("the agent has not told yet"));
    let (_, text) = node.call("STATUS", unchanged);
    assert_eq!(code(&text), 50);
    assert!(text.contains("the agent has not told yet"), "{text}");
    let node = Node::new(Verdict::Begin, Ok(()));
    assert_eq!(node.call("STATUS", unchanged), (true, String::new()));
}

#[test]
fn what_is_not_whole_is_an_error_of_its_kind() {
    let node = Node::new(Verdict::Begin, Ok(()));
    type Change = fn(&mut BTreeMap<String, String>, &mut Value);
    let cases: [(u64, Change); 8] = [
        (1, |_, config| config["cniVersion"] = json!("0.2.0")),
        (4, |environment, _| drop(environment.remove("CNI_COMMAND"))),
        (4, |environment, _| drop(environment.insert("CNI_COMMAND".into(), "EAT".into()))),
        (4, |environment, _| drop(environment.remove("CNI_CONTAINERID"))),
        (4, |environment, _| {
            environment.insert("CNI_ARGS".into(), "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=x".into());
        }),
        (5, |environment, _| drop(environment.insert("CNI_NETNS".into(), "/nowhere".into()))),
        (6, |_, config| config["prevResult"]["ips"][0]["address"] = json!("ten")),
        (7, |_, config| drop(config.as_object_mut().unwrap().remove("prevResult"))),
    ];
    for (expected, change) in cases {
        let (is_success, text) = node.call("ADD", change);
        assert!(!is_success);
        assert_eq!(code(&text), expected, "{text}");
    }
    assert!(node.desk.seen.lock().unwrap().is_empty());
    // The node's own network, and what is no network at all.
    for path in ["/proc/self/ns/net", "/dev/null"] {
        let (is_success, text) = node.call("ADD", |environment, _| {
            environment.insert("CNI_NETNS".into(), path.into());
        });
        assert!(!is_success);
        assert_eq!(code(&text), 100, "{text}");
    }
    assert!(node.attachments.borrow().is_empty());
    node.stop.cancel();
}

#[test]
fn the_versions_are_those_of_which_results_can_be_passed_on() {
    let (is_success, text) = call("/nowhere".as_ref(), "VERSION", unchanged);
    assert!(is_success);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["supportedVersions"], json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
}
