//! `hub`, `agent`, `up`: what units and manifests run.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use nullius_model::ClusterName;
use url::Url;

use crate::home::contexts::hub_url;

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// `nullius hub`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false, subcommand_negates_reqs = true)]
pub struct HubArgs {
    #[command(flatten)]
    pub flags: HubFlags,
    #[command(subcommand)]
    pub command: Option<HubCommand>,
}

/// What a hub is started with.
#[derive(Debug, Clone, Default, Args)]
pub struct HubFlags {
    /// Directory of the store, the sealed keys and the audit files
    #[arg(long, env = "NULLIUS_STATE", value_name = "DIR", global = true, value_hint = ValueHint::DirPath, hide_env_values = true)]
    pub state: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one
    #[arg(
        long,
        env = "NULLIUS_LISTEN",
        value_name = "ADDR:PORT",
        global = true,
        hide_env_values = true
    )]
    pub listen: Option<SocketAddr>,
    /// What people and agents call the hub
    #[arg(long, env = "NULLIUS_PUBLIC_URL", value_name = "URL", global = true, value_parser = hub_url, hide_env_values = true)]
    pub public_url: Option<Url>,
    /// A file with settings
    #[arg(long, env = "NULLIUS_CONFIG", value_name = "FILE", global = true, value_hint = ValueHint::FilePath, hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// The form of log lines
    #[arg(
        long,
        env = "NULLIUS_LOG_FORMAT",
        value_enum,
        value_name = "text|json",
        hide_possible_values = true,
        global = true,
        hide_env_values = true
    )]
    pub log_format: Option<LogFormat>,
    /// Seal the keys by the passphrase in this file instead of by a key file beside the store
    ///
    /// The passphrase can also stand in `NULLIUS_KEY_PASSPHRASE`.
    #[arg(long, env = "NULLIUS_KEY_PASSPHRASE_FILE", value_name = "FILE", global = true, value_hint = ValueHint::FilePath, hide_env_values = true)]
    pub key_passphrase_file: Option<PathBuf>,
}

/// What a hub does before it runs.
#[derive(Debug, Subcommand)]
pub enum HubCommand {
    /// Make the state, and print the one-time enrolment link of the first admin
    ///
    /// Done again before the first admin has enrolled, it prints a new link.
    Init,
}

/// `nullius agent …`.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Forward permitted requests to the API server, with the session's credential
    Proxy(AgentProxyArgs),
    /// Make and flush credentials as the hub orders and the ceiling allows
    Control(AgentControlArgs),
}

/// `nullius agent proxy`.
#[derive(Debug, Clone, Args)]
pub struct AgentProxyArgs {
    /// The cluster's name
    #[arg(long, env = "NULLIUS_CLUSTER", value_name = "NAME", hide_env_values = true)]
    pub cluster: ClusterName,
    /// The form of log lines
    #[arg(
        long,
        env = "NULLIUS_LOG_FORMAT",
        value_enum,
        value_name = "text|json",
        hide_possible_values = true,
        default_value_t,
        hide_env_values = true
    )]
    pub log_format: LogFormat,
}

/// `nullius agent control`.
#[derive(Debug, Clone, Args)]
pub struct AgentControlArgs {
    /// The cluster's name
    #[arg(long, env = "NULLIUS_CLUSTER", value_name = "NAME", hide_env_values = true)]
    pub cluster: ClusterName,
    /// The form of log lines
    #[arg(
        long,
        env = "NULLIUS_LOG_FORMAT",
        value_enum,
        value_name = "text|json",
        hide_possible_values = true,
        default_value_t,
        hide_env_values = true
    )]
    pub log_format: LogFormat,
}

/// `nullius up`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Example:\n  nullius up --kubeconfig ~/.kube/config --state ./nullius-state"
)]
pub struct UpArgs {
    /// The kubeconfig of the cluster, used once to make the agent's own accounts
    #[arg(long, env = "NULLIUS_KUBECONFIG", value_name = "FILE", value_hint = ValueHint::FilePath, hide_env_values = true)]
    pub kubeconfig: PathBuf,
    /// The context in that kubeconfig; without it the current one
    #[arg(long, value_name = "NAME")]
    pub kube_context: Option<String>,
    /// The cluster's name at the hub
    #[arg(
        long,
        env = "NULLIUS_CLUSTER",
        value_name = "NAME",
        default_value = "local",
        hide_env_values = true
    )]
    pub cluster: ClusterName,
    /// The ClusterRole above which nothing can ever be granted in the cluster
    #[arg(long, value_name = "CLUSTERROLE", default_value = "admin")]
    pub ceiling: String,
    #[command(flatten)]
    pub hub: HubFlags,
}
