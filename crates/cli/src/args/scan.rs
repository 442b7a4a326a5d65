//! `scan`.

use std::path::PathBuf;

use clap::Args;
use nullius_policy::pod_security::{LevelVersion, ParseLevelError};

/// `nullius scan`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius scan manifests/\n  helm template CHART | nullius scan - --pod-security baseline\n  nullius scan . -o sarif > scan.sarif"
)]
pub(crate) struct Scan {
    /// A file, a folder, or `-` for standard input
    #[arg(value_name = "PATH", required = true, value_hint = clap::ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,
    /// The level of the Pod Security Standards, `baseline` or `restricted`, and its version, such as `v1.36`
    #[arg(long, value_name = "LEVEL[:VERSION]", default_value = "restricted:latest", value_parser = level_version)]
    pub(crate) pod_security: LevelVersion,
    /// Findings that are accepted, each with a reason and a last day
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) waivers: Option<PathBuf>,
    /// Say what each check is for, and name every field that must change
    #[arg(long)]
    pub(crate) explain: bool,
}

/// As labels have it; people may leave out the `v`.
fn level_version(text: &str) -> Result<LevelVersion, String> {
    let labelled = match text.split_once(":1.") {
        Some((level, minor)) => format!("{level}:v1.{minor}"),
        None => text.to_owned(),
    };
    labelled.parse().map_err(|error: ParseLevelError| match error {
        ParseLevelError::Level => format!("the level {error}"),
        ParseLevelError::Version => format!("the version {error}"),
    })
}
