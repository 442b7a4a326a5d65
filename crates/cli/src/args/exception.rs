//! `exception`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nullius_model::Ttl;

use super::record::OfKubeconfig;

/// `nullius exception …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ExceptionCommand {
    /// List exceptions from policies: of whom, from what, until when, and whether they count
    ///
    /// Of files with `-f`, else of the cluster of a kubeconfig. An exception is `in force`; or it has `ended`; or it is `refused`,
    /// since something in it is wrong; or, in a cluster, it is `elsewhere`: in a namespace whose exceptions do not count. Why
    /// is told on standard error.
    List(ExceptionList),
}

/// `nullius exception list`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius exception list -f policies/\n  nullius exception list --kube-context prod --expiring 7d\n  nullius exception list --policy PodSecurity -o wide"
)]
pub(crate) struct ExceptionList {
    /// A file, a folder, or `-` for standard input; may be repeated
    #[arg(short = 'f', long = "file", value_name = "PATH", conflicts_with_all = ["kubeconfig", "kube_context"], value_hint = clap::ValueHint::AnyPath)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) cluster: OfKubeconfig,
    /// In this namespace
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// From this policy, or `PodSecurity`
    #[arg(long, value_name = "NAME")]
    pub(crate) policy: Option<String>,
    /// In force, and ending within this time: `7d`, `12h`
    #[arg(long, value_name = "DURATION")]
    pub(crate) expiring: Option<Ttl>,
}
