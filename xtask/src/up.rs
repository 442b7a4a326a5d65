//! `cargo xtask up` and `down`: a real cluster, a hub, agents and example people, until Ctrl-C or `down`.
//!
//! Ctrl-C, SIGTERM and a terminal that is closed end all of it at any moment, also in the middle of a start.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nullius_testkit::{
    AgentPlace, Cluster, ClusterConfig, Environment, EnvironmentConfig, Profile, Progress,
    StateDir, example_rights, interrupt, kubectl_on_path, missing_for_nodes, up_all,
};

/// The arguments of `cargo xtask up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave it running and return; end it with `cargo xtask down`.
    #[arg(long)]
    detach: bool,
    /// How many clusters to start: dev, dev2, …. More than one needs nodes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    clusters: u8,
    /// How many nodes each cluster has.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=15))]
    nodes: u8,
    /// Use this cluster of yours instead of starting one; the agent runs beside it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["clusters", "nodes"])]
    kubeconfig: Option<PathBuf>,
    /// Where everything keeps its files: a new or an empty directory [default: /tmp/nullius-dev-UID].
    #[arg(long, env = "NULLIUS_DEV_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// The form of the result on standard output.
    #[arg(short, long, default_value = "text")]
    output: Form,
}

/// The arguments of `cargo xtask down`.
#[derive(Debug, clap::Args)]
pub(crate) struct DownArguments {
    /// The state directory that `up` was given.
    #[arg(long, env = "NULLIUS_DEV_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Text,
    Json,
}

/// Starts everything.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    refuse_many_without_nodes(arguments)?;
    crate::ci::cargo(root, &["build", "--package", "nullius", "--bin", "nullius"])?;
    let path = arguments.state.clone().unwrap_or_else(StateDir::default_path);
    let state = StateDir::open(&path)?;
    // From here on there is something to end.
    let (stop, stopped) = mpsc::channel();
    ctrlc::set_handler(move || {
        interrupt();
        Progress::Lines.say("\nending: what was started is taken away again, a few seconds more");
        let _ = stop.send(());
    })
    .context("cannot listen for Ctrl-C")?;
    let worked = serve(root, &state, arguments, &stopped);
    if worked.is_ok() && arguments.detach {
        return Ok(());
    }
    let ended = down_at(&path);
    // The first error is the one to look at.
    if let (Err(_), Err(error)) = (&worked, &ended) {
        Progress::Lines.say(&format!("what was started could not be ended: {error:#}"));
    }
    worked.and(ended)
}

/// Starts everything, shows it, and, unless it is left running, waits until somebody ends it.
fn serve(
    root: &Path,
    state: &StateDir,
    arguments: &Arguments,
    stopped: &mpsc::Receiver<()>,
) -> Result<()> {
    let began = Instant::now();
    let (environment, kubectl) = start(root, state, arguments)?;
    if stopped.try_recv().is_ok() {
        bail!("it was interrupted");
    }
    show(&environment, &kubectl, arguments, began.elapsed())?;
    if arguments.detach {
        return Ok(());
    }
    loop {
        match stopped.recv_timeout(Duration::from_secs(2)) {
            Ok(()) => return Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) if Environment::open(state.path())?.is_some() => {}
            Err(_) => {
                let log = state.path().join("nullius/hub.log");
                Progress::Lines.say(&format!("the hub has ended; see {}", log.display()));
                return Ok(());
            }
        }
    }
}

/// Ends everything.
pub(crate) fn down(arguments: &DownArguments) -> Result<()> {
    down_at(&arguments.state.clone().unwrap_or_else(StateDir::default_path))
}

fn down_at(path: &Path) -> Result<()> {
    if !path.exists() {
        Progress::Lines.say(&format!("nothing runs in {}", path.display()));
        return Ok(());
    }
    let state = StateDir::open(path)?;
    Environment::stop(state.path(), Progress::Lines)?;
    state.down_all(Progress::Lines)
}

/// Gives the environment, and the kubectl that fits its clusters.
fn start(root: &Path, state: &StateDir, arguments: &Arguments) -> Result<(Environment, PathBuf)> {
    Environment::stop(state.path(), Progress::Silent)?;
    let clusters = match &arguments.kubeconfig {
        Some(kubeconfig) => vec![Cluster::external(kubeconfig)?],
        None => {
            let name =
                |number: u8| if number == 1 { "dev".to_owned() } else { format!("dev{number}") };
            let config = |number| {
                ClusterConfig::new(&name(number), Profile::Standard).nodes(arguments.nodes)
            };
            up_all(state, (1..=arguments.clusters).map(config).collect(), Progress::Lines)?
        }
    };
    let first = clusters.first().context("at least one cluster is started")?;
    let kubectl = first.kubectl()?.program().to_owned();
    let mut config = EnvironmentConfig::new(state.path(), binary(root));
    config.mesh = true;
    Ok((Environment::start(config, clusters, Progress::Lines)?, kubectl))
}

/// Without nodes the agent runs beside its cluster, in the hub's process, and that serves one cluster.
fn refuse_many_without_nodes(arguments: &Arguments) -> Result<()> {
    if arguments.clusters < 2 || arguments.kubeconfig.is_some() {
        return Ok(());
    }
    let why = match arguments.nodes {
        0 => Some("`--nodes 0` leaves none".to_owned()),
        _ => missing_for_nodes(),
    };
    match why {
        None => Ok(()),
        Some(why) => bail!(
            "`--clusters {}` needs nodes for the agents: {why}; without nodes start one cluster, or several \
             environments, each with its own `--state DIR`",
            arguments.clusters
        ),
    }
}

/// The built `nullius` binary.
pub(crate) fn binary(root: &Path) -> PathBuf {
    target_directory(root).join("debug/nullius")
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

fn show(
    environment: &Environment,
    kubectl: &Path,
    arguments: &Arguments,
    took: Duration,
) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if arguments.output == Form::Json {
        writeln!(out, "{}", serde_json::to_string(environment)?)?;
        return Ok(());
    }
    let Some(developer) = environment.users.iter().find(|person| person.name == "dora") else {
        bail!("nobody is signed in");
    };
    let nullius = fs::canonicalize(&environment.nullius)?;
    let home = environment.homes.join("dora");
    writeln!(out, "\nNullius is up after {:.0} s.\n", took.as_secs_f32())?;
    writeln!(out, "  sign in     {}", environment.hub_url)?;
    for person in &environment.users {
        let (name, password, secret) = (&person.name, &person.password, &person.totp_secret);
        writeln!(out, "{}", person_line(name, password, secret))?;
    }
    writeln!(out, "\n  you are     {}, in {}", developer.name, developer.groups.join(", "))?;
    writeln!(out, "  export KUBECONFIG={}", environment.kubeconfig.display())?;
    let mut path = folder_of(&nullius).display().to_string();
    if kubectl_on_path(&environment.kubeconfig).is_none() {
        path = format!("{path}:{}", folder_of(kubectl).display());
    }
    writeln!(out, "  export NULLIUS_HOME={} PATH={path}:$PATH\n", home.display())?;
    if environment.clusters.iter().all(|cluster| cluster.agent == AgentPlace::InCluster) {
        writeln!(out, "  try         kubectl -n shop get pods")?;
        writeln!(out, "              kubectl -n shop exec deploy/web -- id")?;
        writeln!(
            out,
            "              kubectl -n shop logs -f deploy/orders # delete the intention `ledger` beside it"
        )?;
    } else {
        writeln!(out, "  try         kubectl -n shop get configmaps,services")?;
        writeln!(out, "              kubectl -n shop create configmap mine --from-literal=a=b")?;
    }
    writeln!(
        out,
        "              kubectl -n ops get secrets            # refused, and it says whom to ask"
    )?;
    writeln!(out, "              nullius access list\n")?;
    let stop = match (arguments.detach, &arguments.state) {
        (false, _) => "Ctrl-C".to_owned(),
        (true, None) => "cargo xtask down".to_owned(),
        (true, Some(state)) => format!("cargo xtask down --state {}", state.display()),
    };
    writeln!(out, "  stop        {stop}")?;
    Ok(())
}

/// How a person signs in, and what they may do.
fn person_line(name: &str, password: &str, secret: &str) -> String {
    let rights = example_rights(name).unwrap_or_default();
    format!("              {name:5}  {password:25}  code secret {secret}  {rights}")
}

fn folder_of(program: &Path) -> &Path {
    program.parent().unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn the_people_on_the_screen_are_those_of_the_readme() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for (page, people) in [("README.md", 4), ("docs/tour.md", 2)] {
            let text = fs::read_to_string(root.join(page)).unwrap();
            let lines: Vec<_> =
                text.lines().filter(|line| line.contains("  code secret ")).collect();
            assert_eq!(lines.len(), people, "{page}");
            for line in lines {
                let words: Vec<_> = line.split_whitespace().collect();
                assert!(example_rights(words[0]).is_some(), "{page}: {line}");
                assert_eq!(line, person_line(words[0], words[1], words[4]), "{page}");
            }
        }
    }
}
