//! `import`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nullius_model::{Timestamp, TrustDomain};

/// `nullius import …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Write Intentions for Istio's `AuthorizationPolicy` and `PeerAuthentication` of files
    ///
    /// What comes allows no more than Istio did. What has no counterpart is refused by name, and with it the policies for the same
    /// workloads; the rest is written all the same, with exit code 2.
    Istio(ImportIstio),
}

/// `nullius import istio`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius import istio mesh/ > intentions.yaml\n  kubectl get authorizationpolicies,peerauthentications -A -o yaml | nullius import istio -\n  nullius import istio mesh/ --permissive-until 2027-01-31T00:00:00Z -o json"
)]
pub(crate) struct ImportIstio {
    /// A file, a folder, or `-` for standard input
    #[arg(value_name = "PATH", required = true, value_hint = clap::ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,
    /// The namespace whose policies are for all
    #[arg(long, value_name = "NAME", default_value = "istio-system")]
    pub(crate) root_namespace: String,
    /// The trust domain that principals begin with; it stands for the cluster's own
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub(crate) trust_domain: TrustDomain,
    /// When what `PERMISSIVE` lets pass ends; without it such a `PeerAuthentication` is refused
    #[arg(long, value_name = "TIME")]
    pub(crate) permissive_until: Option<Timestamp>,
}
