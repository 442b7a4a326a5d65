//! The project's own tasks: `cargo xtask --help` is their table of contents, one module each.

mod cluster;
mod image;

use std::process::ExitCode;

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
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Cluster(arguments) => cluster::run(&arguments),
        Task::Image(arguments) => image::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
