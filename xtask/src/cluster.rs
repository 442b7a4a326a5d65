//! `cargo xtask cluster up|down|status`: development clusters that stay until they are ended.

use std::{
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use nullius_testkit::{
    Cluster, ClusterConfig, Component, KubernetesVersion, Profile, Programs, Progress, StateDir,
    missing_for_nodes, up_all,
};
use serde_json::json;

/// The arguments of `cargo xtask cluster`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Where clusters keep their files: a new or an empty directory [default: /tmp/nullius-dev-UID].
    #[arg(long, global = true, env = "NULLIUS_DEV_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// The form of the result on standard output.
    #[arg(short, long, global = true, default_value = "table")]
    output: Form,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start clusters; those of the same names are replaced.
    Up(Up),
    /// End clusters and remove all they made on this machine.
    Down {
        /// The clusters to end [default: all in the state directory].
        names: Vec<String>,
    },
    /// Show the clusters, and what of them runs.
    Status,
    /// Build every program that clusters and their tests may need, ahead of time.
    Build,
}

#[derive(Debug, clap::Args)]
struct Up {
    /// How many clusters to start: c1, c2, ….
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    clusters: u8,
    /// How many nodes each cluster has [default: what the profile says].
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=15))]
    nodes: Option<u8>,
    /// What kind of clusters: standard, dns, dual-stack or control-plane.
    #[arg(long, default_value = "standard")]
    profile: Profile,
    /// The Kubernetes version, such as 1.36.
    #[arg(long, default_value = "1.36", value_parser = KubernetesVersion::parse)]
    kubernetes: KubernetesVersion,
    /// A feature gate of Kubernetes, `Name=true` or `Name=false`; may be given several times.
    #[arg(long = "feature-gate", value_parser = feature_gate, value_name = "GATE")]
    feature_gates: Vec<(String, bool)>,
    /// A further argument for the API server, `--flag=value`; may be given several times.
    #[arg(long = "apiserver-arg", value_name = "ARG", allow_hyphen_values = true)]
    api_server_arguments: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Json,
}

/// Runs the verb.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let state = arguments.state.clone().unwrap_or_else(StateDir::default_path);
    let state = StateDir::open(&state)?;
    match &arguments.verb {
        Verb::Up(up) => start(&state, up, arguments.output),
        Verb::Down { names } if names.is_empty() => state.down_all(Progress::Lines),
        Verb::Down { names } => names.iter().try_for_each(|name| state.down(name, Progress::Lines)),
        Verb::Status => status(&state, arguments.output),
        Verb::Build => build(),
    }
}

fn start(state: &StateDir, up: &Up, form: Form) -> Result<()> {
    let began = Instant::now();
    let configs = (1..=up.clusters).map(|number| {
        let mut config = ClusterConfig::new(&format!("c{number}"), up.profile);
        config.nodes = up.nodes.unwrap_or(config.nodes);
        config.kubernetes = up.kubernetes;
        config.feature_gates = up.feature_gates.iter().cloned().collect();
        config.api_server.args.clone_from(&up.api_server_arguments);
        config
    });
    let clusters = up_all(state, configs.collect(), Progress::Lines)?;
    match form {
        Form::Json => print(&json!({
            "apiVersion": "nullius.dev/v1alpha1",
            "kind": "DevClusterList",
            "items": clusters.iter().map(Cluster::record).collect::<Vec<_>>(),
        })),
        Form::Table => {
            for cluster in &clusters {
                show(cluster);
            }
            say(&format!(
                "started in {}; end with: cargo xtask cluster down",
                short(began.elapsed())
            ));
            Ok(())
        }
    }
}

fn show(cluster: &Cluster) {
    let record = cluster.record();
    say(&format!("{}  Kubernetes {}  {}", record.name, record.kubernetes, record.server));
    for node in &record.nodes {
        let addresses: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
        let ranges = node.pod_ranges.join(" ");
        say(&format!("    {}  {}  pods {ranges}", node.name, addresses.join(" ")));
    }
    for (step, seconds) in &record.timings {
        say(&format!("    {seconds:6.2} s  {step}"));
    }
    say(&format!("    export KUBECONFIG={}", record.kubeconfig.display()));
}

fn status(state: &StateDir, form: Form) -> Result<()> {
    let clusters = state.status()?;
    if form == Form::Json {
        return print(&json!({
            "apiVersion": "nullius.dev/v1alpha1",
            "kind": "DevClusterStatusList",
            "items": clusters,
        }));
    }
    if clusters.is_empty() {
        let path = state.path().display();
        say(&format!("no clusters in {path}; start one with: cargo xtask cluster up"));
        return Ok(());
    }
    for status in clusters {
        let processes = status.running.len() + status.ended.len();
        say(&format!(
            "{}  {}  {} of {processes} processes run",
            status.name,
            status.state,
            status.running.len()
        ));
        for process in &status.ended {
            say(&format!("    ended: {}, see {}", process.name, process.log.display()));
        }
        if let Some(cluster) = status.cluster {
            say(&format!("    {}  {} nodes", cluster.server, cluster.nodes.len()));
            say(&format!("    export KUBECONFIG={}", cluster.kubeconfig.display()));
        }
    }
    Ok(())
}

fn build() -> Result<()> {
    let mut components = Component::ALL.to_vec();
    if let Some(missing) = missing_for_nodes() {
        Progress::Lines.say(&format!("leaving out what nodes are made of: {missing}"));
        components.retain(|component| *component != Component::Nodes);
    }
    for version in KubernetesVersion::ALL {
        Programs::ensure(*version, &components, Progress::Lines)?;
    }
    Ok(())
}

fn feature_gate(text: &str) -> Result<(String, bool), String> {
    let parsed = text.split_once('=').and_then(|(gate, on)| Some((gate, on.parse().ok()?)));
    let (gate, on) = parsed.ok_or("write `Name=true` or `Name=false`")?;
    Ok((gate.to_owned(), on))
}

fn print(value: &serde_json::Value) -> Result<()> {
    say(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Writes a line to standard output; a reader that has gone away is no error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn short(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
