//! `record`.

use std::path::PathBuf;

use clap::Args;

/// A cluster that is asked with the user of a kubeconfig.
#[derive(Debug, Clone, Args)]
pub(crate) struct OfKubeconfig {
    /// The kubeconfig of the cluster; without it the one that kubectl would use
    #[arg(long, env = "NULLIUS_KUBECONFIG", value_name = "FILE", value_hint = clap::ValueHint::FilePath, hide_env_values = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context in that kubeconfig; without it the current one
    #[arg(long, value_name = "NAME")]
    pub(crate) kube_context: Option<String>,
}

/// `nullius record`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius record > state.yaml\n  nullius record --policies policies/ --to state/\n  nullius record --kube-context prod --params --to prod.yaml"
)]
pub(crate) struct Record {
    #[command(flatten)]
    pub(crate) cluster: OfKubeconfig,
    /// Files or folders with policies and bindings whose parameters are recorded too; may be repeated
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) policies: Vec<PathBuf>,
    /// Record the parameters of the policies in the cluster too
    #[arg(long)]
    pub(crate) params: bool,
    /// Write to a file, or to a folder with one file for each kind; without it to standard output
    #[arg(long, value_name = "FILE|FOLDER", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) to: Option<PathBuf>,
}
