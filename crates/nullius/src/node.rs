//! `nullius node`: settings from the environment that the join manifest writes, then the role until it is told to stop.

use std::{path::PathBuf, str::FromStr};

use anyhow::{Context as _, Result};
use nullius_cli::NodeArgs;
use nullius_kube::env;
use nullius_node::{NodeError, NodeSettings};
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
    Ok(NodeSettings {
        node: required(env::NODE)?,
        trust: path(env::NODE_TRUST)?,
        token_file: path(env::NODE_TOKEN_FILE)?,
        socket: path(env::NODE_SOCKET)?,
        state: path(env::NODE_STATE)?,
        kubelet: optional(env::KUBELET).map(PathBuf::from),
        cgroup_root: args.cgroup_root,
        health: optional(env::HEALTH).map(|_| parsed(env::HEALTH)).transpose()?,
        probes: optional(env::PROBES).map(|_| parsed(env::PROBES)).transpose()?,
    })
}

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
