//! The project's own tasks: `cargo xtask --help` is their table of contents, one module each.

mod cluster;
mod image;
mod tidy;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

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
    /// Start, end or look at development clusters: real Kubernetes on this machine.
    Cluster(cluster::Arguments),
    /// Pack the `nullius` binary as a container image, and bring it to running clusters.
    Image(image::Arguments),
    /// Check that the code has the structure that ARCHITECTURE.md promises.
    Tidy,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Cluster(arguments) => cluster::run(&arguments),
        Task::Image(arguments) => image::run(&arguments),
        Task::Tidy => tidy::run(&root()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}
