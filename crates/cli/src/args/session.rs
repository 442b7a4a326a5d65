//! `login`, `logout`, `kubeconfig`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::InCluster;
use crate::login::pin::Fingerprint;

/// `nullius login`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius login --hub https://hub.example.org --ca root.pem\n  nullius login --device\n  printf '%s\\n' ada \"$PASSWORD\" \"$CODE\" | nullius login --password-stdin"
)]
pub(crate) struct Login {
    /// Sign in on another device: shows a page and a code
    #[arg(long, conflicts_with_all = ["terminal", "step_up"])]
    pub(crate) device: bool,
    /// Ask for user, password and code at the terminal
    #[arg(long, conflicts_with = "step_up")]
    pub(crate) terminal: bool,
    /// Prove your second factor anew in the session that stands
    #[arg(long)]
    pub(crate) step_up: bool,
    /// Read user, password and code from standard input, one a line
    ///
    /// With `--user` the line with the user is left out; with `--step-up` only the code is read.
    #[arg(long, conflicts_with = "device")]
    pub(crate) password_stdin: bool,
    /// The user to sign in as at the terminal
    #[arg(long, value_name = "NAME", conflicts_with_all = ["device", "step_up"])]
    pub(crate) user: Option<String>,
    /// Do not open a browser, only print the page
    #[arg(long, conflicts_with_all = ["device", "terminal", "step_up"])]
    pub(crate) no_browser: bool,
    /// Pin the hub's root from this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "step_up")]
    pub(crate) ca: Option<PathBuf>,
    /// Pin the hub's root if it has this fingerprint, `sha256:…`
    #[arg(long, value_name = "SHA256", value_parser = Fingerprint::parse, conflicts_with_all = ["ca", "step_up"])]
    pub(crate) ca_fingerprint: Option<Fingerprint>,
}

/// `nullius logout`.
#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// End all your sessions, on other machines too
    #[arg(long)]
    pub(crate) all: bool,
}

/// `nullius kubeconfig`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(
    after_help = "Examples:\n  nullius kubeconfig --merge\n  nullius kubeconfig -c dev -f dev.kubeconfig"
)]
pub(crate) struct Kubeconfig {
    /// Write the contexts into your kubeconfig and leave everything else there as it is
    ///
    /// Into the file of `--file`, else the first of `KUBECONFIG`, else ~/.kube/config.
    #[arg(long)]
    pub(crate) merge: bool,
    /// Write to this file
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) only: InCluster,
    #[command(subcommand)]
    pub(crate) command: Option<KubeconfigCommand>,
}

/// What a kubeconfig runs.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KubeconfigCommand {
    /// Print a credential for kubectl (client.authentication.k8s.io/v1)
    #[command(hide = true)]
    Credential,
}
