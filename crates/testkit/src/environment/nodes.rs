//! `nullius node` on development nodes: nodes of one machine share its folders, so each gets a DaemonSet of its own that is told
//! where things are on it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::{cluster::Cluster, kubectl::Kubectl, record::NodeRecord, wait::wait_until};

/// What `nullius cluster add` is told instead of a place, which differs between nodes.
const PLACES: [(&str, &str); 7] = [
    ("--kubelet-root", "/of-this-node/kubelet"),
    ("--socket-dir", "/of-this-node/identity/socket"),
    ("--state-dir", "/of-this-node/identity/state"),
    ("--cni-programs", "/of-this-node/cni-programs"),
    ("--cni-networks", "/of-this-node/cni"),
    ("--cni-socket-dir", "/of-this-node/identity/node"),
    ("--cgroup-root", CGROUP),
];
const NAMESPACE: &str = "nullius-node";
const PATIENCE: Duration = Duration::from_secs(180);
const ROOT: &str = "/of-this-node";
const CGROUP: &str = "/cgroup-of-this-node";
/// Tells the sets of two nodes apart, and their pods.
const LABEL: &str = "nullius.dev/dev-node";

/// The arguments of `cluster add` for nodes whose DaemonSets [`daemon_set`] makes.
pub(super) fn arguments<'a>() -> impl Iterator<Item = &'a str> {
    PLACES.into_iter().flat_map(|(flag, place)| [flag, place])
}

/// A join manifest for a cluster whose nodes are those of one machine: the DaemonSet once for each node, or none at all.
pub(super) fn of_each(cluster: &Cluster, with_nodes: bool, manifest: &str) -> Result<String> {
    let mut text = String::new();
    for document in serde_yaml_ng::Deserializer::from_str(manifest) {
        let object = Value::deserialize(document).context("the join manifest cannot be read")?;
        let objects = match object["kind"].as_str() {
            Some("DaemonSet") if with_nodes => sets(cluster, &object)?,
            Some("DaemonSet") => Vec::new(),
            _ => vec![object],
        };
        for object in objects {
            text += &format!("---\n{object}\n");
        }
    }
    Ok(text)
}

/// Waits until each node leads its pods, and brings the part of the sample that is in the mesh.
pub(super) fn wait_and_furnish(cluster: &Cluster, sample: &str) -> Result<()> {
    let kubectl = cluster.kubectl()?;
    for (at, node) in cluster.record().nodes.iter().enumerate() {
        let networks = cluster.file(&format!("n{}/cni", at + 1))?;
        let led = wait_until(PATIENCE, &format!("the mesh on node `{}`", node.name), || {
            let is_ready = are_ready(&kubectl, &node.name)?;
            (is_ready && is_in_the_network(&networks)).then_some(())
        });
        if let Err(error) = led {
            let logs = kubectl.run(&["-n", NAMESPACE, "logs", "-l", LABEL, "--tail=20"]);
            bail!("{error}\n{}", logs.map(|output| output.stdout).unwrap_or_default());
        }
    }
    kubectl.apply(sample).map(drop)
}

fn are_ready(kubectl: &Kubectl, node: &str) -> Option<bool> {
    let label = format!("{LABEL}={node}");
    let ready = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}";
    let pods = kubectl.run(&["-n", NAMESPACE, "get", "pods", "-l", &label, "-o", ready]).ok()?;
    Some(pods.code == 0 && pods.stdout.trim() == "True")
}

/// Whether the node's plugin is in the network that the container runtime reads.
fn is_in_the_network(networks: &std::path::Path) -> bool {
    let files = std::fs::read_dir(networks).into_iter().flatten().flatten();
    files
        .filter_map(|file| std::fs::read_to_string(file.path()).ok())
        .any(|network| network.contains("nullius-cni"))
}

/// The DaemonSet of a manifest, for each node.
fn sets(cluster: &Cluster, set: &Value) -> Result<Vec<Value>> {
    let nodes = cluster.record().nodes.iter().enumerate();
    nodes.map(|(at, node)| daemon_set(cluster, (at + 1, node), set)).collect()
}

fn daemon_set(
    cluster: &Cluster,
    (number, node): (usize, &NodeRecord),
    set: &Value,
) -> Result<Value> {
    let own = cluster.file(&format!("n{number}"))?;
    let own = own.to_str().context("the path of the cluster is not UTF-8")?;
    let name = &node.name;
    let mut set = set.clone();
    place(&mut set, own, &format!("/{}", node.network_namespace));
    set["metadata"]["name"] = json!(format!("nullius-node-{name}"));
    set["spec"]["selector"]["matchLabels"][LABEL] = json!(name);
    let template = &mut set["spec"]["template"];
    template["metadata"]["labels"][LABEL] = json!(name);
    template["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": name });
    Ok(set)
}

fn place(value: &mut Value, own: &str, cgroup: &str) {
    match value {
        Value::String(text) if text == CGROUP => cgroup.clone_into(text),
        Value::String(text) => *text = text.replace(ROOT, own),
        Value::Array(items) => items.iter_mut().for_each(|item| place(item, own, cgroup)),
        Value::Object(fields) => fields.values_mut().for_each(|field| place(field, own, cgroup)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
