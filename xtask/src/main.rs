//! The project's own tasks: `cargo xtask --help` is their table of contents, one module each.

mod bench;
mod ci;
mod cluster;
mod generate;
mod image;
mod test;
mod tidy;
mod up;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

/// Tasks of the Nullius repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start everything: a real cluster, a hub, an agent, example people; print where to go.
    Up(up::Arguments),
    /// End what `up` started.
    Down(up::DownArguments),
    /// Run everything that must hold.
    Test(test::Arguments),
    /// Measure, and write the figures to BENCHMARKS.md.
    Bench(bench::Arguments),
    /// Serve the API server that a bench measures against.
    #[command(hide = true)]
    StubApi(bench::StubArguments),
    /// Run the gate: format, lints, structure, tests.
    Ci,
    /// Check the structure that ARCHITECTURE.md promises.
    Tidy,
    /// Write the files that are made from the code, ours and Kubernetes'.
    Generate(generate::Arguments),
    /// Start, end or look at development clusters: real Kubernetes on this machine.
    Cluster(cluster::Arguments),
    /// Pack the `nullius` binary as a container image, and bring it to running clusters.
    Image(image::Arguments),
}

fn main() -> ExitCode {
    match root().and_then(|root| run(&root, Arguments::parse().task)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(root: &Path, task: Task) -> Result<()> {
    match task {
        Task::Up(arguments) => up::run(root, &arguments),
        Task::Down(arguments) => up::down(&arguments),
        Task::Test(arguments) => test::run(root, &arguments),
        Task::Bench(arguments) => bench::run(root, &arguments),
        Task::StubApi(arguments) => bench::stub(&arguments),
        Task::Ci => ci::run(root),
        Task::Tidy => tidy::run(root),
        Task::Generate(arguments) => generate::run(root, &arguments),
        Task::Cluster(arguments) => cluster::run(&arguments),
        Task::Image(arguments) => image::run(root, &arguments),
    }
}

/// The repository.
fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("xtask lies in the repository")?.to_owned())
}
