//! `cargo xtask image`: the `nullius` binary with all it needs, as an OCI image archive.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nullius_testkit::{Progress, StateDir, image_from_binary};

use crate::up::target_directory;

/// The image's name in the development clusters.
const NAME: &str = "localhost/nullius:dev";

/// The arguments of `cargo xtask image`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The archive to write [default: target/nullius-image.tar].
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Build with optimizations, for clusters that are to stay; without it the image is for development.
    #[arg(long)]
    release: bool,
    /// Bring the image to the clusters of this state directory [default: /tmp/nullius-dev-UID].
    #[arg(long, env = "NULLIUS_DEV_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Builds the binary, packs it, and brings it to the clusters that run.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let mut build = vec!["build", "--package", "nullius", "--bin", "nullius"];
    let (profile, about) = match arguments.release {
        true => ("release", "a release build"),
        false => ("debug", "a debug build, for development: `--release` makes one to keep"),
    };
    if arguments.release {
        build.push("--release");
    }
    crate::ci::cargo(root, &build)?;
    let target = target_directory(root);
    let image = image_from_binary(&target.join(profile).join("nullius"), NAME)?;
    let file = arguments.file.clone().unwrap_or_else(|| target.join("nullius-image.tar"));
    image.write(&file).with_context(|| format!("cannot write `{}`", file.display()))?;
    Progress::Lines.say(&format!("wrote {NAME} to {} ({about})", file.display()));

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
