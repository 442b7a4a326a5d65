//! `scan`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nullius_cel::Version;
use nullius_policy::pod_security::{Level, LevelVersion, ParseLevelError, Version as Standards};

use super::policy::version;
use crate::object::document::nearest;

/// `nullius scan`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius scan manifests/\n  nullius scan manifests/ --builtin all --policies policies/\n  helm template CHART | nullius scan - --pod-security baseline\n  nullius scan . -o sarif > scan.sarif"
)]
pub(crate) struct Scan {
    /// A file, a folder, or `-` for standard input
    #[arg(value_name = "PATH", required = true, value_hint = clap::ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) asks: Asks,
    /// Say what each check is for, name every field that must change, and show what each policy saw of each object
    #[arg(long)]
    pub(crate) explain: bool,
    /// End well where no object stands in the paths, as for a commit that changes none
    #[arg(long)]
    pub(crate) allow_empty: bool,
}

/// What is asked of objects.
#[derive(Debug, Args)]
pub(crate) struct Asks {
    /// What is asked that comes with Nullius; `restricted` unless `--policies` or `--pod-security` says something else
    #[arg(long, value_name = "SET", value_enum)]
    pub(crate) builtin: Option<Builtin>,
    /// The level of the Pod Security Standards, `baseline` or `restricted`, and its version, such as `v1.36`
    #[arg(long, value_name = "LEVEL[:VERSION]", value_parser = level_version)]
    pub(crate) pod_security: Option<LevelVersion>,
    /// A file or folder with admission policies, their bindings and parameters; may be repeated
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) policies: Vec<PathBuf>,
    /// Leave out a check or policy that comes with Nullius, by its name; may be repeated
    #[arg(long, value_name = "NAME", value_parser = excludable)]
    pub(crate) exclude: Vec<String>,
    /// A file or folder with what the cluster holds beside the objects; may be repeated
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) state: Vec<PathBuf>,
    /// The namespace of objects that say none, as policies see it
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub(crate) namespace: String,
    /// Who sends the objects, as policies see it
    #[arg(long = "as", value_name = "USER", default_value = "kubernetes-admin")]
    pub(crate) user: String,
    /// A group of who sends them; may be repeated
    #[arg(long = "as-group", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// The API server's version whose expressions policies may use, `k8s-1.27` to `k8s-1.37`
    #[arg(long, value_name = "ENV", default_value = "k8s-1.36", value_parser = version)]
    pub(crate) env: Version,
    /// Findings that are accepted, each with an owner, a reason and a last day
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) waivers: Option<PathBuf>,
}

/// What comes with Nullius.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Builtin {
    /// The Pod Security Standards, level `restricted`
    Restricted,
    /// Good practice: policies on images, resources, rights, services
    Practice,
    /// Both
    All,
    /// Nothing
    None,
}

impl Asks {
    /// The level of the Pod Security Standards that is asked for; `privileged` asks for nothing.
    pub(crate) fn level(&self) -> LevelVersion {
        let latest = |level| LevelVersion { level, version: Standards::Latest };
        match (self.pod_security, self.builtin) {
            (Some(level), _) => level,
            (None, Some(Builtin::Restricted | Builtin::All)) => latest(Level::Restricted),
            (None, Some(Builtin::Practice | Builtin::None)) => latest(Level::Privileged),
            (None, None) if self.policies.is_empty() => latest(Level::Restricted),
            (None, None) => latest(Level::Privileged),
        }
    }

    /// Whether nothing is asked at all.
    pub(crate) fn asks_nothing(&self) -> bool {
        let nothing = Some(Builtin::None);
        self.builtin == nothing && self.pod_security.is_none() && self.policies.is_empty()
    }

    /// Whether good practice is asked for.
    pub(crate) fn asks_practice(&self) -> bool {
        matches!(self.builtin, Some(Builtin::Practice | Builtin::All))
    }
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

/// The whole name of a check or policy; the end that all policies of good practice share may be left out.
fn excludable(text: &str) -> Result<String, String> {
    let known = nullius_admission::excludable();
    let whole = format!("{text}.nullius.dev");
    let found = known.iter().find(|name| *name == text || **name == whole);
    found.cloned().ok_or_else(|| match nearest(text, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "what comes with Nullius is `{}`; of your own take it out of `--policies`",
            known.join("`, `")
        ),
    })
}
