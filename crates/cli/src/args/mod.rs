//! The command line as types: what exists, and nothing that does not work yet.
//!
//! `nullius NOUN VERB [NAME] [flags]`; the few things done daily stand at the top level. Names and flags mean one
//! thing everywhere.

mod access;
mod audit;
mod cel;
mod exception;
mod findings;
mod identity;
mod import;
mod inject;
mod intention;
mod mesh;
mod node;
mod object;
mod policy;
mod record;
mod role;
mod scan;
mod session;
mod svid;
mod test;
mod trust;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use nullius_model::{ClusterName, ObjectName};
use url::Url;

pub(crate) use access::{AccessCommand, ClusterCommand, LockCommand, SessionCommand, UserCommand};
pub(crate) use access::{
    AccessExplain, AccessList, ClusterAdd, LockAdd, LockedWhat, Pull, SessionEnd, SessionList,
    UserAdd,
};
pub use audit::AuditVerify;
pub(crate) use audit::{AuditCommand, UsageCommand};
pub(crate) use audit::{AuditFilter, AuditList, UsageShow};
pub(crate) use cel::{CelCommand, CelEval};
pub(crate) use exception::{ExceptionCommand, ExceptionList};
pub(crate) use findings::{FindingsCommand, FindingsList};
pub(crate) use identity::{IdentityCommand, IdentityListArgs, IdentityShowArgs, Whose};
pub(crate) use import::{ImportCommand, ImportConsul, ImportIstio, ImportSpire};
pub(crate) use inject::Inject;
pub(crate) use intention::{IntentionCommand, IntentionExplain, IntentionTest};
pub(crate) use mesh::{MeshCommand, MeshGraphArgs, OfCluster};
pub(crate) use node::{NodeCommand, NodeJoinToken};
pub(crate) use object::Selector;
pub(crate) use object::{Apply, Delete, Describe, Diff, Edit, Get};
pub(crate) use policy::{Judged, PolicyCommand, PolicyEval, PolicyExport};
pub(crate) use record::{OfKubeconfig, Record};
pub use role::{
    AgentAdmissionArgs, AgentCommand, AgentControlArgs, AgentIdentityArgs, AgentProxyArgs, CniArgs,
    CniCommand, HubArgs, HubCommand, HubFlags, HubInit, HubKeysCommand, HubKeysExport,
    HubKeysRotate, LogFormat, NodeArgs, OfflinePassphrase, ProxyArgs, UpArgs,
};
pub(crate) use scan::{Asks, Scan};
pub(crate) use session::{Kubeconfig, KubeconfigCommand, Login, Logout};
pub(crate) use svid::{
    BundleFile, SvidCommand, SvidFetch, SvidValidate, SvidWatch, WorkloadSocket,
};
pub(crate) use test::Test;
pub(crate) use trust::{TrustAcceptOlder, TrustCommand, TrustFederate, TrustRotate};

use crate::{completion, failure::Failure, home::contexts::hub_url, output::Format};

/// Zero trust for Kubernetes: every access is made by a verified identity, decided by a readable policy and recorded.
#[derive(Debug, Parser)]
#[command(name = "nullius", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    disable_help_subcommand = true,
    infer_long_args = false,
    subcommand_value_name = "COMMAND"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The hub, when it is not the one of the current context
    #[arg(long, env = "NULLIUS_HUB", value_name = "URL", global = true, hide_env_values = true)]
    pub(crate) hub: Option<String>,
    /// The context: a hub that you signed in to
    #[arg(long, env = "NULLIUS_CONTEXT", value_name = "NAME", global = true, add = completion::contexts(), hide_env_values = true)]
    pub(crate) context: Option<ObjectName>,
    /// The form of the result
    #[arg(
        short,
        long,
        env = "NULLIUS_OUTPUT",
        value_enum,
        value_name = "table|wide|json|yaml|name",
        default_value_t,
        hide_possible_values = true,
        global = true,
        hide_env_values = true,
        hide_default_value = true
    )]
    pub(crate) output: Format,
    /// Leave out the titles of tables
    #[arg(long, env = "NULLIUS_NO_HEADERS", global = true, value_parser = clap::builder::FalseyValueParser::new(), hide_env_values = true)]
    pub(crate) no_headers: bool,
    /// Show the causes behind an error
    #[arg(short, long, env = "NULLIUS_VERBOSE", global = true, value_parser = clap::builder::FalseyValueParser::new(), hide_env_values = true)]
    pub(crate) verbose: bool,
    /// When to use colour; `NO_COLOR` is honoured
    #[arg(
        long,
        env = "NULLIUS_COLOR",
        value_enum,
        value_name = "auto|always|never",
        default_value_t,
        hide_possible_values = true,
        global = true,
        hide_env_values = true,
        hide_default_value = true
    )]
    pub(crate) color: Color,
}

impl Global {
    /// The hub's URL. Read here and not by the parser: in an agent's pod the same variable lists addresses.
    pub(crate) fn hub(&self) -> Result<Option<Url>, Failure> {
        let read = |text: &String| {
            hub_url(text).map_err(|why| {
                Failure::usage(format!("`{}` names no hub", text.escape_debug()))
                    .why(why)
                    .next("mend `--hub` or `NULLIUS_HUB`; without both the current context's hub is asked")
            })
        };
        self.hub.as_ref().map(read).transpose()
    }
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign in at a hub
    ///
    /// Opens the hub's page in a browser and waits for it. On a machine without a browser use `--device`; for scripts
    /// and where there is no browser at all, `--terminal` or `--password-stdin`.
    ///
    /// At first contact the hub's root is pinned: give the file or the fingerprint that the hub's operator gave you, or
    /// compare the fingerprint when asked.
    Login(Login),
    /// Sign out: the session and everything made for it in clusters ends
    Logout(Logout),
    /// Show who you are, since when and until when
    Whoami,
    /// Write a kubeconfig with one context for each cluster that you may reach
    ///
    /// The kubeconfig holds no secret: kubectl asks this program for a short-lived credential. With neither `--merge` nor
    /// `--file` it goes to standard output.
    Kubeconfig(Kubeconfig),
    /// Run a hub and an agent beside a kubeconfig, as one process
    ///
    /// The shortest way to a hub: it keeps its state in a directory, joins the cluster of the kubeconfig as an agent
    /// beside it, and prints on the first start the enrolment link of the first admin. Ctrl-C ends it and takes back what
    /// it made in the cluster for sessions.
    Up(UpArgs),
    /// Show the version of this program and of the hub
    Version,
    /// Print completion for a shell
    ///
    /// Names of users, clusters and other objects are completed from the hub while a session stands.
    ///
    /// bash: `source <(nullius completion bash)`, zsh: `source <(nullius completion zsh)`,
    /// fish: `nullius completion fish | source`.
    Completion {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Clusters behind the hub
    #[command(subcommand, arg_required_else_help = true)]
    Cluster(ClusterCommand),
    /// What somebody may do where, and why
    #[command(subcommand, arg_required_else_help = true)]
    Access(AccessCommand),
    /// Sign-ins that stand
    #[command(subcommand, arg_required_else_help = true)]
    Session(SessionCommand),
    /// Stop a user, group, session or cluster at once, live streams too
    #[command(subcommand, arg_required_else_help = true)]
    Lock(LockCommand),
    /// People who sign in at the hub
    #[command(subcommand, arg_required_else_help = true)]
    User(UserCommand),
    /// Create or change objects from files
    ///
    /// All files are read and checked before the first object is sent. Each object is created or changed as a whole, and
    /// only if nobody changed it meanwhile.
    Apply(Apply),
    /// List objects of a kind
    Get(Get),
    /// Show objects in full
    Describe(Describe),
    /// Delete objects
    Delete(Delete),
    /// Show what an apply would change, or what changes between two folders of manifests
    ///
    /// With `-f`: what an apply of objects of Nullius would change at the hub; exit code 2 when something would.
    ///
    /// With BASE and HEAD, two folders or files of Kubernetes' objects, and without a hub: which findings of `nullius scan` come
    /// and go, who gains and loses which rights, and which admission policies and bindings come, go or let more pass; exit
    /// code 2 when something got worse. Beside the forms of every command `-o` takes `markdown` then.
    Diff(Diff),
    /// Change an object in your editor
    Edit(Edit),
    /// Judge objects in files by the Pod Security Standards; exit code 2 with findings
    ///
    /// Reads YAML and JSON as kubectl does, of one or many documents, also what Helm and kustomize print. It needs no hub and
    /// no cluster. What cannot be read is told, and the rest is still judged.
    ///
    /// Beside the forms of every command `-o` takes `sarif`, `junit` and `codequality`.
    Scan(Scan),
    /// Test policies by requests in files, and what must come of them; exit code 2 where something else comes
    ///
    /// A file of tests names policies, what is known of the cluster, and cases: an object or a whole request, who sends it,
    /// and what is expected. Policies decide as in `nullius policy eval`; a fact that nobody gave fails the case and is named.
    ///
    /// Beside the forms of every command `-o` takes `junit`.
    Test(Test),
    /// Record what policies ask of a cluster, for tests without it
    ///
    /// Namespaces, roles and bindings, definitions of kinds, admission policies with their bindings, and the parameters that
    /// are asked for. Never a Secret, and of ConfigMaps only those that are parameters. Two records of a cluster that did not
    /// change are the same.
    Record(Record),
    /// Requests under Kubernetes' own admission policies
    #[command(subcommand, arg_required_else_help = true)]
    Policy(PolicyCommand),
    /// What somebody accepts of what policies find
    #[command(subcommand, arg_required_else_help = true)]
    Exception(ExceptionCommand),
    /// What is not as it should be in clusters
    #[command(subcommand, arg_required_else_help = true)]
    Findings(FindingsCommand),
    /// Who may call which workload, with what requests
    #[command(subcommand, arg_required_else_help = true)]
    Intention(IntentionCommand),
    /// Who called whom in a cluster's mesh
    #[command(subcommand, arg_required_else_help = true)]
    Mesh(MeshCommand),
    /// Expressions in CEL, as the API server of a version understands them
    #[command(subcommand, arg_required_else_help = true)]
    Cel(CelCommand),
    /// Certificates and tokens by which workloads prove who they are (SPIFFE)
    #[command(subcommand, arg_required_else_help = true)]
    Svid(SvidCommand),
    /// Who has which workload identity in a cluster
    #[command(subcommand, arg_required_else_help = true)]
    Identity(IdentityCommand),
    /// Whom workloads believe: the authorities of clusters' trust domains
    #[command(subcommand, arg_required_else_help = true)]
    Trust(TrustCommand),
    /// Put a proxy of the mesh beside the containers of pods in files
    ///
    /// Pods, and workloads that make them, come out with the proxy; everything else as it was, but for comments. Doing it again changes
    /// nothing. Where something stands in the way, nothing is written, with exit code 2. The cluster must have joined with
    /// `--identity --mesh`.
    Inject(Inject),
    /// What other meshes and SPIRE say, written as Intentions and WorkloadIdentities
    #[command(subcommand, arg_required_else_help = true)]
    Import(ImportCommand),
    /// What occurred, merged: the other side of what is permitted
    #[command(subcommand, arg_required_else_help = true)]
    Usage(UsageCommand),
    /// The audit: who did what where, in an unbroken chain
    #[command(subcommand, arg_required_else_help = true)]
    Audit(AuditCommand),
    /// Run the hub
    ///
    /// Every setting can stand in the file of `--config` (TOML) as well; a flag wins over the environment, and both over
    /// the file.
    Hub(HubArgs),
    /// Run an agent in a cluster
    #[command(subcommand, arg_required_else_help = true)]
    Agent(AgentCommand),
    /// Run the part on a node, or on a machine outside of the cluster, that proves to workloads who they are
    ///
    /// It attests who calls on its socket, and answers the SPIFFE Workload API and Envoy's secret discovery; to the kubelet it is a
    /// CSI driver that mounts the socket. It runs from the join manifest, which writes its settings; on a machine outside of the cluster by
    /// `--join`, with the file of `nullius node join-token`.
    Node(NodeArgs),
    /// Be the plugin of a pod's network (CNI)
    ///
    /// A container runtime starts it, under the name `nullius-cni`, with everything in its environment and on standard input. `nullius node`
    /// puts it in its place where a cluster wants the mesh.
    Cni(CniArgs),
    /// Run a workload's proxy in the mesh
    ///
    /// Others reach the workload through its listeners, by mutual TLS with SPIFFE identities, where intentions allow it; the
    /// workload reaches others through its upstreams.
    Proxy(ProxyArgs),
}

/// Shells that completion exists for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// The name as the shell has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }
}

/// `-c/--cluster`, where it narrows.
#[derive(Debug, Clone, Args)]
pub(crate) struct InCluster {
    /// Only this cluster
    #[arg(short, long, value_name = "NAME", add = completion::names(nullius_model::Kind::Cluster))]
    pub(crate) cluster: Option<ClusterName>,
}

/// `-f`, repeated.
#[derive(Debug, Clone, Args)]
pub(crate) struct Files {
    /// A file, a folder, or `-` for standard input; may be repeated
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true, value_hint = clap::ValueHint::AnyPath)]
    pub(crate) files: Vec<PathBuf>,
}
