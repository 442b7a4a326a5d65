//! `trust`.

use clap::{Args, Subcommand};
use nullius_model::{ClusterName, Kind};

use super::InCluster;
use crate::completion;

/// `nullius trust …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    /// Show the authorities of each cluster's trust domain: which signs, which will, which did, and how far a rotation is
    #[command(after_help = "Examples:\n  nullius trust show\n  nullius trust show -c prod -o wide")]
    Show(InCluster),
    /// Have the authority of a cluster's workloads replaced at once
    ///
    /// The agent in the cluster prepares another one, has the hub certify it, waits until every node can know it, and then signs with
    /// it alone. With `--taint`, as without either, the one before is believed until every SVID is renewed, and no call fails. With
    /// `--revoke` it is believed no more from that moment on: for a key in wrong hands; calls may fail for seconds.
    Rotate(TrustRotate),
}

/// `nullius trust rotate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius trust rotate -c prod --reason 'drill'\n  nullius trust rotate -c prod --revoke --reason 'INC-42: backup of the Secret leaked'"
)]
pub(crate) struct TrustRotate {
    /// The cluster
    #[arg(short, long, value_name = "NAME", add = completion::names(Kind::Cluster))]
    pub(crate) cluster: ClusterName,
    /// Believe the authority of before until all that it signed is renewed, as without it
    #[arg(long, conflicts_with = "revoke")]
    pub(crate) taint: bool,
    /// Believe the authority of before no more once the next one signs
    #[arg(long)]
    pub(crate) revoke: bool,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}
