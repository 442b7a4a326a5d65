//! `cluster`, `access`, `session`, `lock`, `user`.

use clap::{Args, Subcommand, ValueEnum};
use nullius_model::{
    ClusterName, GroupName, Kind, ObjectName, SessionId, TrustDomain, Ttl, UserName,
};

use super::InCluster;
use crate::completion;

/// `nullius cluster …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make a cluster known and print a single-use join token with the command that starts the agent
    ///
    /// For a cluster that is known but has not joined, a new token is printed.
    Add(Box<ClusterAdd>),
    /// List clusters
    List,
    /// Show a cluster
    Show {
        /// The cluster
        #[arg(add = completion::names(Kind::Cluster))]
        name: ClusterName,
    },
    /// Remove a cluster: everything made in it for sessions goes, its agents are refused
    Remove {
        /// The cluster
        #[arg(add = completion::names(Kind::Cluster))]
        name: ClusterName,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// `nullius cluster add`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius cluster add dev\n  nullius cluster add dev --manifest --image registry.example.org/nullius:0.1.0 | kubectl apply -f -"
)]
pub(crate) struct ClusterAdd {
    /// The cluster's name, as people will type it
    pub(crate) name: ClusterName,
    /// The ClusterRole above which nothing can ever be granted in the cluster; the cluster itself enforces it [default
    /// for a new cluster: admin]
    #[arg(long, value_name = "CLUSTERROLE")]
    pub(crate) ceiling: Option<String>,
    /// A label, `KEY=VALUE`, that grants may select by; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// The trust domain of the cluster's workloads; it cannot change once an authority was certified for it [default for
    /// a new cluster: NAME.nullius.internal]
    #[arg(long, value_name = "TRUST_DOMAIN")]
    pub(crate) trust_domain: Option<TrustDomain>,
    /// Print the manifests that join the cluster, for `kubectl apply -f -`
    #[arg(long)]
    pub(crate) manifest: bool,
    /// The image that the manifests run
    #[arg(
        long,
        env = "NULLIUS_IMAGE",
        value_name = "IMAGE",
        required_if_eq("manifest", "true"),
        hide_env_values = true
    )]
    pub(crate) image: Option<String>,
    /// When the image is pulled
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, requires = "manifest")]
    pub(crate) pull: Pull,
    /// Have an authority in the cluster that gives its workloads identities (SPIFFE)
    #[arg(long, requires = "manifest")]
    pub(crate) identity: bool,
    /// Also lead the traffic of pods whose namespaces are labelled for the mesh: adds a plugin to the network of each node
    #[arg(long, requires = "identity")]
    pub(crate) mesh: bool,
    #[command(flatten)]
    pub(crate) hosts: Hosts,
}

/// Where things are on the hosts of a cluster, for those whose distribution has them elsewhere.
#[derive(Debug, Args)]
#[command(next_help_heading = "Hosts")]
pub(crate) struct Hosts {
    /// The kubelet's root directory [default: /var/lib/kubelet]
    #[arg(long, value_name = "DIR", requires = "identity", value_parser = directory)]
    pub(crate) kubelet_root: Option<String>,
    /// The cgroup below which the kubelet keeps its pods [default: /]
    #[arg(long, value_name = "CGROUP", requires = "identity", value_parser = directory)]
    pub(crate) cgroup_root: Option<String>,
    /// Where the node puts its socket for workloads [default: /run/nullius/workload]
    #[arg(long, value_name = "DIR", requires = "identity", value_parser = directory)]
    pub(crate) socket_dir: Option<String>,
    /// Where the node keeps what it remembers [default: /var/lib/nullius/node]
    #[arg(long, value_name = "DIR", requires = "identity", value_parser = directory)]
    pub(crate) state_dir: Option<String>,
    /// Where the container runtime looks for network plugins [default: /opt/cni/bin]
    #[arg(long, value_name = "DIR", requires = "mesh", value_parser = directory)]
    pub(crate) cni_programs: Option<String>,
    /// Where it looks for networks [default: /etc/cni/net.d]
    #[arg(long, value_name = "DIR", requires = "mesh", value_parser = directory)]
    pub(crate) cni_networks: Option<String>,
    /// Where the network plugin finds the node's socket [default: /run/nullius/node]
    #[arg(long, value_name = "DIR", requires = "mesh", value_parser = directory)]
    pub(crate) cni_socket_dir: Option<String>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Pull {
    #[default]
    IfNotPresent,
    Never,
    Always,
}

impl Pull {
    /// As a container says it.
    pub(crate) fn as_kubernetes(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
            Self::Always => "Always",
        }
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("write `KEY=VALUE`".to_owned()),
    }
}

/// A path of a host as `hostPath` takes it.
fn directory(text: &str) -> Result<String, String> {
    match std::path::Path::new(text) {
        path if !path.is_absolute() => Err("write the whole path, from `/` on".to_owned()),
        path if path.components().any(|part| part == std::path::Component::ParentDir) => {
            Err("write it without `..`, which no `hostPath` may have".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

/// `nullius access …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// List what you may do where, and through which grant
    List(AccessList),
    /// Say whether somebody may do something, and why; exit code 2 when not
    Explain(AccessExplain),
}

/// `nullius access list`.
#[derive(Debug, Args)]
pub(crate) struct AccessList {
    /// Of this person instead of yourself
    #[arg(long, value_name = "NAME", add = completion::names(Kind::User))]
    pub(crate) user: Option<UserName>,
    #[command(flatten)]
    pub(crate) only: InCluster,
}

/// `nullius access explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius access explain ada get pods -c dev -n shop\n  nullius access explain ada create pods/exec -c dev -n shop\n  nullius access explain ada get /healthz -c dev"
)]
pub(crate) struct AccessExplain {
    /// The person
    #[arg(add = completion::names(Kind::User))]
    pub(crate) user: UserName,
    /// The verb as Kubernetes names it
    pub(crate) verb: String,
    /// `pods`, `deployments.apps/scale`, or a path that begins with `/`
    pub(crate) resource: String,
    /// The object's name
    pub(crate) name: Option<String>,
    /// The cluster
    #[arg(short, long, value_name = "NAME", add = completion::names(Kind::Cluster))]
    pub(crate) cluster: ClusterName,
    /// The namespace; without it cluster-wide
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

/// `nullius session …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List sessions: your own, or those of others
    List(SessionList),
    /// End sessions: their streams are cut, what was made for them in clusters goes
    End(SessionEnd),
}

/// `nullius session list`.
#[derive(Debug, Args)]
pub(crate) struct SessionList {
    /// Of this person
    #[arg(long, value_name = "NAME", conflicts_with = "all", add = completion::names(Kind::User))]
    pub(crate) user: Option<UserName>,
    /// Of everybody
    #[arg(long)]
    pub(crate) all: bool,
}

/// `nullius session end`.
#[derive(Debug, Args)]
pub(crate) struct SessionEnd {
    /// Session ids, as `nullius session list` shows them
    #[arg(required = true, value_name = "SESSION", add = completion::sessions())]
    pub(crate) sessions: Vec<SessionId>,
}

/// `nullius lock …`.
#[derive(Debug, Subcommand)]
pub(crate) enum LockCommand {
    /// Stop somebody or something at once
    Add(LockAdd),
    /// List locks
    List,
    /// Remove locks
    Remove {
        /// The locks' names, as `nullius lock list` shows them
        #[arg(required = true, value_name = "NAME", add = completion::names(Kind::Lock))]
        names: Vec<ObjectName>,
    },
}

/// `nullius lock add`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius lock add --user eve --message 'call security'\n  nullius lock add --cluster prod --for 2h"
)]
pub(crate) struct LockAdd {
    #[command(flatten)]
    pub(crate) what: LockedWhat,
    /// The lock's name; without it one is made of the target
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<ObjectName>,
    /// What those who are stopped are told
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// The lock ends by itself after this time, `15m`, `8h`, `30d`
    #[arg(long = "for", value_name = "DURATION")]
    pub(crate) duration: Option<Ttl>,
}

/// What is locked: exactly one.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct LockedWhat {
    /// This person
    #[arg(long, value_name = "NAME", add = completion::names(Kind::User))]
    pub(crate) user: Option<UserName>,
    /// Everybody in this group
    #[arg(long, value_name = "NAME", add = completion::names(Kind::Group))]
    pub(crate) group: Option<GroupName>,
    /// This session
    #[arg(long, value_name = "SESSION", add = completion::sessions())]
    pub(crate) session: Option<SessionId>,
    /// All access to this cluster
    #[arg(long, value_name = "NAME", add = completion::names(Kind::Cluster))]
    pub(crate) cluster: Option<ClusterName>,
}

/// `nullius user …`.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make a person known and print the link with which they set password and second factor
    Add(UserAdd),
    /// Print a new enrolment link for a person who has not enrolled
    Enrol {
        /// The person
        #[arg(add = completion::names(Kind::User))]
        name: UserName,
    },
    /// Take a person's password and factors away, end their sessions and print a new enrolment link
    Reset {
        /// The person
        #[arg(add = completion::names(Kind::User))]
        name: UserName,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// `nullius user add`.
#[derive(Debug, Args)]
pub(crate) struct UserAdd {
    /// The name with which the person signs in
    pub(crate) name: UserName,
    /// The name for people to read
    #[arg(long, value_name = "TEXT")]
    pub(crate) display_name: Option<String>,
    /// A group that the person is in; may be repeated
    #[arg(long = "group", value_name = "NAME", add = completion::names(Kind::Group))]
    pub(crate) groups: Vec<GroupName>,
}
