//! `nullius node`: settings from the environment that the join manifest writes, then the role until it is told to stop.

use std::{path::PathBuf, str::FromStr};

use anyhow::{Context as _, Result};
use nullius_cli::NodeArgs;
use nullius_kube::{NODE_NAMESPACE, SYSTEM_NAMESPACE, env};
use nullius_node::{CniHost, MeshSettings, NodeError, NodeSettings, ProofSettings};
use tokio_util::sync::CancellationToken;

use crate::config::Misconfigured;

/// Sees cgroups as the host does, from now on.
pub(crate) fn enter() -> Result<(), NodeError> {
    nullius_node::enter_cgroups()
}

/// Runs the role until `shutdown`.
pub(crate) async fn run(args: NodeArgs, shutdown: CancellationToken) -> Result<()> {
    let settings = settings(args).context(Misconfigured)?;
    Ok(nullius_node::run_node(settings, shutdown).await?)
}

fn settings(args: NodeArgs) -> Result<NodeSettings> {
    if let Some(join) = args.join.clone() {
        return Ok(machine(args, join));
    }
    Ok(NodeSettings {
        node: required(env::NODE)?,
        proof: ProofSettings::Pod {
            trust: path(env::NODE_TRUST)?,
            token_file: path(env::NODE_TOKEN_FILE)?,
        },
        socket: args.socket.map_or_else(|| path(env::NODE_SOCKET), Ok)?,
        state: args.state.map_or_else(|| path(env::NODE_STATE), Ok)?,
        kubelet: optional(env::KUBELET).map(PathBuf::from),
        cgroup_root: args.cgroup_root,
        health: args.health,
        probes: optional(env::PROBES).map(|_| parsed(env::PROBES)).transpose()?,
        mesh: optional(env::CNI_PROGRAMS).map(|_| mesh()).transpose()?,
    })
}

/// A machine outside of the cluster: without a kubelet, and without a part of the mesh.
fn machine(args: NodeArgs, join: PathBuf) -> NodeSettings {
    NodeSettings {
        node: join.display().to_string(),
        proof: ProofSettings::Machine { join, certificates: args.certificate.zip(args.key) },
        socket: args.socket.unwrap_or_else(|| PathBuf::from(SOCKET)),
        state: args.state.unwrap_or_else(|| PathBuf::from(STATE)),
        kubelet: None,
        cgroup_root: args.cgroup_root,
        health: args.health,
        probes: None,
        mesh: None,
    }
}

/// Where workloads of a machine find the Workload API, and where it remembers.
const SOCKET: &str = "/run/nullius/workload/api.sock";
const STATE: &str = "/var/lib/nullius/node";

fn mesh() -> Result<MeshSettings> {
    let cni = CniHost {
        programs: path(env::CNI_PROGRAMS)?,
        networks: path(env::CNI_NETWORKS)?,
        socket: path(env::CNI_SOCKET)?,
        pass_namespaces: NEVER_LED.map(str::to_owned).into(),
    };
    Ok(MeshSettings { cni })
}

/// Namespaces whose pods are never in the mesh, and begin while the node is away: the cluster comes up by them.
const NEVER_LED: [&str; 3] = ["kube-system", SYSTEM_NAMESPACE, NODE_NAMESPACE];

fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn required(name: &str) -> Result<String> {
    optional(name).with_context(|| {
        format!(
            "`{name}` is not set: the node runs from the manifest of `nullius cluster add --manifest`"
        )
    })
}

fn path(name: &str) -> Result<PathBuf> {
    required(name).map(PathBuf::from)
}

fn parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(name: &str) -> Result<T> {
    required(name)?.parse().with_context(|| format!("`{name}` cannot be read"))
}
