//! `cargo xtask image`: the `nullius` binary with all it needs, as an OCI image archive.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use nullius_testkit::{Progress, StateDir, image_from_binary};

/// The image's name in the development clusters.
const NAME: &str = "localhost/nullius:dev";

/// The arguments of `cargo xtask image`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The archive to write [default: target/nullius-image.tar].
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Build with optimizations.
    #[arg(long)]
    release: bool,
    /// Bring the image to the clusters of this state directory [default: /tmp/nullius-dev-UID].
    #[arg(long, env = "NULLIUS_DEV_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Builds the binary, packs it, and brings it to the clusters that run.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let target = target_directory()?;
    let mut build = Command::new(crate::ci::cargo_program());
    build.args(["build", "--package", "nullius", "--bin", "nullius"]);
    if arguments.release {
        build.arg("--release");
    }
    if !build.status().context("cannot run cargo")?.success() {
        bail!("the nullius binary does not build");
    }
    let profile = if arguments.release { "release" } else { "debug" };
    let image = image_from_binary(&target.join(profile).join("nullius"), NAME)?;
    let file = arguments.file.clone().unwrap_or_else(|| target.join("nullius-image.tar"));
    image.write(&file)?;
    Progress::Lines.say(&format!("wrote {NAME} to {}", file.display()));

    let state = arguments.state.clone().unwrap_or_else(StateDir::default_path);
    if !state.exists() {
        return Ok(());
    }
    for cluster in StateDir::open(&state)?.clusters()? {
        if cluster.record().nodes.is_empty() {
            continue;
        }
        cluster.load_image(&image)?;
        Progress::Lines.say(&format!("brought {NAME} to the nodes of {}", cluster.name()));
    }
    Ok(())
}

fn target_directory() -> Result<PathBuf> {
    let output = Command::new(crate::ci::cargo_program())
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cannot run cargo")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let directory =
        metadata["target_directory"].as_str().context("cargo names no target directory")?;
    Ok(PathBuf::from(directory))
}
