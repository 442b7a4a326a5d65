//! `hub`, `agent`, `node`, `up`: what units and manifests run.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use nullius_model::{ClusterName, Ttl};
use nullius_workload::{CgroupRoot, Endpoint};
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

/// `nullius cni`.
#[derive(Debug, Clone, Args)]
pub struct CniArgs {
    #[command(subcommand)]
    pub command: Option<CniCommand>,
}

/// What else is done with the plugin.
#[derive(Debug, Clone, Subcommand)]
pub enum CniCommand {
    /// Take the plugin out of this host's networks, then its program
    ///
    /// The node puts it back as long as it runs with the mesh: take it out of the cluster first.
    Remove {
        /// The directory of plugins
        #[arg(long, env = "NULLIUS_CNI_PROGRAMS", value_name = "DIR", default_value = "/opt/cni/bin", value_hint = ValueHint::DirPath, hide_env_values = true)]
        programs: PathBuf,
        /// The directory of networks
        #[arg(long, env = "NULLIUS_CNI_NETWORKS", value_name = "DIR", default_value = "/etc/cni/net.d", value_hint = ValueHint::DirPath, hide_env_values = true)]
        networks: PathBuf,
    },
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
    /// Seal the keys by the passphrase that this shell command prints
    ///
    /// It asks the key store of the operating system, such as `secret-tool lookup service nullius`.
    #[arg(
        long,
        env = "NULLIUS_KEY_PASSPHRASE_COMMAND",
        value_name = "COMMAND",
        global = true,
        conflicts_with = "key_passphrase_file",
        hide_env_values = true
    )]
    pub key_passphrase_command: Option<String>,
    /// Append every checkpoint of the audit to this file, or to one in this directory; keep it where the hub cannot
    /// take it back
    #[arg(long, env = "NULLIUS_AUDIT_ANCHOR", value_name = "PATH", global = true, value_hint = ValueHint::AnyPath, hide_env_values = true)]
    pub audit_anchor: Option<PathBuf>,
}

/// What a hub does before it runs.
#[derive(Debug, Subcommand)]
pub enum HubCommand {
    /// Make the state, and print the one-time enrolment link of the first admin
    ///
    /// Done again before the first admin has enrolled, it prints a new link.
    Init(HubInit),
    /// What the hub signs with, and how that is renewed
    #[command(subcommand, arg_required_else_help = true)]
    Keys(HubKeysCommand),
}

/// `nullius hub init`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  nullius hub init --state /var/lib/nullius --offline-key /media/stick/nullius.key"
)]
pub struct HubInit {
    /// Keep the key that names the signing keys in this file and not in the state; keep the file elsewhere
    ///
    /// Without it the key lies sealed in the state directory, and whoever copies that with what opens it can make
    /// agents trust another signer. `nullius hub keys export` carries it away later.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub offline_key: Option<PathBuf>,
    #[command(flatten)]
    pub passphrase: OfflinePassphrase,
}

/// What opens the file of an offline key.
#[derive(Debug, Clone, Default, Args)]
pub struct OfflinePassphrase {
    /// Seal the offline key in its file by the passphrase in this file
    ///
    /// The passphrase can also stand in `NULLIUS_OFFLINE_KEY_PASSPHRASE`; at a terminal it is asked for. Without one
    /// only the mode of the file guards the key.
    #[arg(long, env = "NULLIUS_OFFLINE_KEY_PASSPHRASE_FILE", value_name = "FILE", value_hint = ValueHint::FilePath, hide_env_values = true)]
    pub offline_key_passphrase_file: Option<PathBuf>,
}

/// `nullius hub keys …`.
#[derive(Debug, Subcommand)]
pub enum HubKeysCommand {
    /// List the keys: what each is for, where it lies, when it ends
    List,
    /// Make a new signing key, named by the offline key; a hub that runs takes it in without a restart
    ///
    /// Agents hear of the new key before it signs, and accept the one before until an hour after: no request is lost.
    Rotate(HubKeysRotate),
    /// Carry the offline key out of the state into a file; keep the file elsewhere
    ///
    /// The hub forgets the key as soon as the file is known to hold it. Backups that were made before still have it.
    Export(HubKeysExport),
}

/// `nullius hub keys rotate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius hub keys rotate --offline-key /media/stick/nullius.key\n  nullius hub keys rotate --offline-key /media/stick/nullius.key --compromised"
)]
pub struct HubKeysRotate {
    /// The file of the offline key, where it is kept elsewhere
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub offline_key: Option<PathBuf>,
    #[command(flatten)]
    pub passphrase: OfflinePassphrase,
    /// The new key signs after so long: what every agent needs to hear of it
    #[arg(long, value_name = "DURATION", default_value = "90s")]
    pub after: Ttl,
    /// The new key counts so long
    #[arg(long, value_name = "DURATION", default_value = "400d")]
    pub valid_for: Ttl,
    /// A signing key is in wrong hands: those before count no more at once, and requests fail until agents have heard
    #[arg(long, conflicts_with = "after")]
    pub compromised: bool,
}

/// `nullius hub keys export`.
#[derive(Debug, Args)]
pub struct HubKeysExport {
    /// The file to make; one that exists is left alone
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    #[command(flatten)]
    pub passphrase: OfflinePassphrase,
}

/// `nullius agent …`.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Forward permitted requests to the API server, with the session's credential
    Proxy(AgentProxyArgs),
    /// Make and flush credentials as the hub orders and the ceiling allows
    Control(AgentControlArgs),
    /// Answer the API server, which asks admission policies before it stores anything
    Admission(AgentAdmissionArgs),
    /// Keep the authority of the cluster's workloads, and issue identities to its nodes
    Identity(AgentIdentityArgs),
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

/// `nullius agent admission`.
#[derive(Debug, Clone, Args)]
pub struct AgentAdmissionArgs {
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

/// `nullius agent identity`.
#[derive(Debug, Clone, Args)]
pub struct AgentIdentityArgs {
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

/// `nullius proxy`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  nullius proxy --config /etc/nullius/proxy.yaml\n  nullius proxy --captured --health [::]:15020"
)]
pub struct ProxyArgs {
    /// The file that says who it is, where it listens and whom it dials (YAML, `kind: ProxyConfiguration`)
    #[arg(long, env = "NULLIUS_PROXY_CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath, required_unless_present = "captured", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Take all traffic of the pod in which it runs; the node tells it what decides, as `nullius inject` has it
    #[arg(long, conflicts_with = "config")]
    pub captured: bool,
    /// The node's socket for proxies in pods
    #[arg(long, value_name = "SOCKET", default_value = "/run/nullius/proxy/node.sock", value_hint = ValueHint::FilePath, requires = "captured")]
    pub node_socket: PathBuf,
    /// The socket of the Workload API, `unix:///PATH` or a path
    #[arg(
        long,
        value_name = "SOCKET",
        default_value = "unix:///run/nullius/workload/api.sock",
        requires = "captured"
    )]
    pub identity_socket: Endpoint,
    /// Where health, readiness and metrics are asked for
    #[arg(long, value_name = "ADDRESS", requires = "captured")]
    pub health: Option<SocketAddr>,
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

/// `nullius node`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct NodeArgs {
    #[command(subcommand)]
    pub(crate) command: Option<super::NodeCommand>,
    /// Run on a machine outside of the cluster, with the file of `nullius node join-token`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub join: Option<PathBuf>,
    /// The machine's certificate with its chain, in PEM, where that proves it
    #[arg(long, value_name = "FILE", requires_all = ["join", "key"], value_hint = ValueHint::FilePath)]
    pub certificate: Option<PathBuf>,
    /// The key of that certificate (ECDSA P-256, PKCS #8), in PEM
    #[arg(long, value_name = "FILE", requires_all = ["join", "certificate"], value_hint = ValueHint::FilePath)]
    pub key: Option<PathBuf>,
    /// The socket of the Workload API, alone in its directory; on a machine `/run/nullius/workload/api.sock`
    #[arg(long, env = "NULLIUS_NODE_SOCKET", value_name = "PATH", hide_env_values = true)]
    pub socket: Option<PathBuf>,
    /// The folder for what outlives a restart; on a machine `/var/lib/nullius/node`
    #[arg(long = "state-dir", env = "NULLIUS_NODE_STATE", value_name = "DIR", value_hint = ValueHint::DirPath, hide_env_values = true)]
    pub state: Option<PathBuf>,
    /// Where health, readiness and metrics are served; nowhere without it
    #[arg(long, env = "NULLIUS_HEALTH", value_name = "ADDRESS", hide_env_values = true)]
    pub health: Option<SocketAddr>,
    /// The cgroup below which the kubelet keeps its pods (its own `--cgroup-root`)
    #[arg(
        long,
        env = "NULLIUS_CGROUP_ROOT",
        value_name = "PATH",
        default_value = "/",
        hide_env_values = true
    )]
    pub cgroup_root: CgroupRoot,
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
