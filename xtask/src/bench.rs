//! `cargo xtask bench NAME`: figures of the real thing on this machine, beside the same without Nullius.
//!
//! Prints rows and rewrites their table in BENCHMARKS.md. A goal that is missed is a row that says so, not an error.

mod access;
mod admission;
mod cel;
mod client;
mod identity;
mod intention;
mod mesh;
mod process;
mod report;
mod scan;
mod stats;
mod stub;
mod upgrade;
mod world;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use nullius_testkit::{KubernetesVersion, Progress, StubApi, ensure_python_packages};

use access::Part;
use world::{Nodes, World, release_binary};

/// Work of others above this is said beside the figures.
const QUIET_PERCENT: f64 = 5.0;

/// The arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to measure.
    name: Name,
    /// The form of the rows on standard output.
    #[arg(short, long, default_value = "text")]
    output: Form,
    /// Only these parts of `access`; BENCHMARKS.md is left alone.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Small sizes, to see that it works; BENCHMARKS.md is left alone.
    #[arg(long)]
    quick: bool,
    /// Requests whose latency is taken, on each way [default: 5000].
    #[arg(long)]
    requests: Option<usize>,
    /// Execs whose time is taken, on each way [default: 40].
    #[arg(long)]
    execs: Option<usize>,
    /// Requests at a time in runs of load against the stub [default: 1,8,64].
    #[arg(long, value_delimiter = ',')]
    streams: Vec<usize>,
    /// Seconds of each run of load [default: 2].
    #[arg(long)]
    seconds: Option<f64>,
    /// Sessions that are opened and ended [default: 15].
    #[arg(long)]
    rounds: Option<usize>,
    /// Idle watches [default: 500].
    #[arg(long)]
    watches: Option<usize>,
    /// Size of the file that is copied, in MiB [default: 1024].
    #[arg(long)]
    megabytes: Option<usize>,
}

/// The benches that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// What hub and agent cost between a person and an API server.
    Access,
    /// What the admission webhook adds to a request, and its memory.
    Admission,
    /// What an expression costs, beside cel-go.
    Cel,
    /// How soon a pod has its identity, and what an SVID costs.
    Identity,
    /// What a decision between workloads costs.
    Intention,
    /// What two proxies cost between two workloads, beside Envoy.
    Mesh,
    /// What a scan of files costs.
    Scan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Text,
    Json,
}

/// How long a bench that has no sizes of its own goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    /// To see that it works.
    Quick,
    /// For figures.
    Full,
}

/// How much is measured.
#[derive(Clone, Debug)]
struct Sizes {
    streams: Vec<usize>,
    requests: usize,
    execs: usize,
    seconds: f64,
    rounds: usize,
    watches: usize,
    megabytes: usize,
}

/// The arguments of `cargo xtask stub-api`.
#[derive(Debug, clap::Args)]
pub(crate) struct StubArguments {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    certificate: PathBuf,
    #[arg(long)]
    key: PathBuf,
}

/// Measures; builds everything for release first, the load generator too.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    if cfg!(debug_assertions) {
        return again_as_release(root, arguments.name);
    }
    let busy = process::busy_percent();
    let began = Instant::now();
    let (words, rows) = match arguments.name {
        Name::Access => {
            let world =
                World::start(release_binary(root, "nullius"), arguments.sizes(), Nodes::Bare)?;
            (access::WORDS, access::run(&world, &arguments.only)?)
        }
        Name::Admission => {
            let world =
                World::start(release_binary(root, "nullius"), arguments.sizes(), Nodes::Bare)?;
            (admission::WORDS, admission::run(&world, arguments.effort())?)
        }
        Name::Cel => (cel::WORDS, cel::run(root, arguments.effort())?),
        Name::Identity => {
            let binary = release_binary(root, "nullius");
            let world = World::start(binary, arguments.sizes(), Nodes::WithIdentities)?;
            (identity::WORDS, identity::run(&world, arguments.effort())?)
        }
        Name::Intention => (intention::WORDS, intention::run(arguments.effort())?),
        Name::Mesh => {
            let binary = release_binary(root, "nullius");
            let envoy = ensure_python_packages(Progress::Lines)?.join("envoy/_bin/envoy");
            (mesh::WORDS, mesh::run(&binary, &envoy, arguments.effort())?)
        }
        Name::Scan => {
            let binary = release_binary(root, "nullius");
            (scan::WORDS, scan::run(&binary, arguments.effort())?)
        }
    };
    let mut machine = format!("Measured on {}", process::machine());
    match arguments.name {
        Name::Access | Name::Admission | Name::Identity => {
            machine.push_str(&format!(", with Kubernetes {}.", KubernetesVersion::V1_36.full()));
        }
        Name::Cel | Name::Intention | Name::Mesh | Name::Scan => machine.push('.'),
    }
    if busy > QUIET_PERCENT {
        machine.push_str(&format!(" Other work took {busy:.0} % of it before the run."));
    }
    match arguments.output {
        Form::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
        Form::Text => println!("{}\n{machine}", report::text(&rows)),
    }
    if arguments.only.is_empty() && !arguments.quick {
        report::rewrite(root, arguments.name.word(), &format!("{words}\n\n{machine}"), &rows)?;
    }
    eprintln!("bench: done in {:.0} s", began.elapsed().as_secs_f32());
    Ok(())
}

/// Serves a stub API server until the process is ended; prints its address.
pub(crate) fn stub(arguments: &StubArguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stub = StubApi::bind(arguments.listen, &arguments.certificate, &arguments.key)?;
        println!("{}", stub.address()?);
        stub.serve().await
    })
}

impl Name {
    /// The name in BENCHMARKS.md and on the command line.
    fn word(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Admission => "admission",
            Self::Cel => "cel",
            Self::Identity => "identity",
            Self::Intention => "intention",
            Self::Mesh => "mesh",
            Self::Scan => "scan",
        }
    }
}

impl Arguments {
    fn effort(&self) -> Effort {
        if self.quick { Effort::Quick } else { Effort::Full }
    }

    fn sizes(&self) -> Sizes {
        let streams = if self.streams.is_empty() { vec![1, 8, 64] } else { self.streams.clone() };
        let usual = if self.quick {
            let (requests, execs, seconds) = (200, 5, 0.3);
            Sizes { streams, requests, execs, seconds, rounds: 2, watches: 50, megabytes: 16 }
        } else {
            let (requests, execs, seconds) = (5_000, 40, 2.0);
            Sizes { streams, requests, execs, seconds, rounds: 15, watches: 500, megabytes: 1024 }
        };
        Sizes {
            streams: usual.streams,
            requests: self.requests.unwrap_or(usual.requests),
            execs: self.execs.unwrap_or(usual.execs),
            seconds: self.seconds.unwrap_or(usual.seconds),
            rounds: self.rounds.unwrap_or(usual.rounds),
            watches: self.watches.unwrap_or(usual.watches),
            megabytes: self.megabytes.unwrap_or(usual.megabytes),
        }
    }
}

/// A load generator without optimisation would measure itself.
fn again_as_release(root: &Path, name: Name) -> Result<()> {
    let packages: &[&str] = match name {
        Name::Access | Name::Admission | Name::Identity | Name::Mesh | Name::Scan => {
            &["--package", "nullius", "--package", "xtask"]
        }
        Name::Cel | Name::Intention => &["--package", "xtask"],
    };
    crate::ci::cargo(root, &[&["build", "--release", "--locked"][..], packages].concat())?;
    let status = Command::new(release_binary(root, "xtask"))
        .args(std::env::args_os().skip(1))
        .status()
        .context("cannot run the release build of xtask")?;
    if !status.success() {
        bail!("the bench ended early");
    }
    Ok(())
}
