//! `trust`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nullius_model::{ClusterName, Kind, ObjectName, SpiffeId, TrustDomain};

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
    /// Let workloads of clusters believe each other, or a trust domain of somebody else: makes a `Federation`
    ///
    /// The hub gives each cluster the bundles of the others' trust domains, and new ones whenever they change. With `--with` it gives them
    /// the bundle of a trust domain of somebody else, which it fetches at `--url` again and again. A workload is given those that its
    /// WorkloadIdentity names in `federatesWith`. `nullius delete federation NAME` ends it.
    Federate(TrustFederate),
    /// Take the bundle of somebody else though it is older than the one that was taken last
    ///
    /// A bundle with a lower `spiffe_sequence` than that of before is refused: nobody brings back keys that were revoked. Where the number
    /// of before is none that can be left (the endpoint was in wrong hands, its owner began anew), this forgets what was fetched. What
    /// counts then is the bundle of the Federation, where it has one, and what is fetched next, which is at once. The audit has the keys of
    /// before and after.
    AcceptOlder(TrustAcceptOlder),
}

/// `nullius trust accept-older`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius trust accept-older bank.example.org --reason 'INC-51: their endpoint was taken over, they say that it is theirs again'"
)]
pub(crate) struct TrustAcceptOlder {
    /// The federation
    #[arg(value_name = "FEDERATION", add = completion::names(Kind::Federation))]
    pub(crate) federation: ObjectName,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `nullius trust federate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius trust federate prod stage\n  nullius trust federate prod --with bank.example.org --url https://bank.example.org/bundle\n  nullius trust federate prod --with bank.example.org --url https://10.0.0.5:8443/ --spiffe-id spiffe://bank.example.org/spire/server --bundle bank.json"
)]
pub(crate) struct TrustFederate {
    /// The clusters: two at least, or one with `--with`
    #[arg(required = true, value_name = "CLUSTER", add = completion::names(Kind::Cluster))]
    pub(crate) clusters: Vec<ClusterName>,
    /// A trust domain of none of the hub's clusters
    #[arg(long, value_name = "TRUST-DOMAIN", requires = "url")]
    pub(crate) with: Option<TrustDomain>,
    /// Where its owner publishes its bundle
    #[arg(long, value_name = "URL", requires = "with")]
    pub(crate) url: Option<String>,
    /// The server at the URL proves itself by the SVID of this ID (profile `https_spiffe`) [default: by a certificate for its name]
    #[arg(long, value_name = "SPIFFE-ID", requires = "with", requires = "bundle")]
    pub(crate) spiffe_id: Option<SpiffeId>,
    /// Its bundle of today, SPIFFE's JSON, until one was fetched
    #[arg(long, value_name = "FILE", requires = "with")]
    pub(crate) bundle: Option<PathBuf>,
    /// Authorities in PEM that stand behind the server's certificate [default: those that browsers believe]
    #[arg(long, value_name = "FILE", requires = "with", conflicts_with = "spiffe_id")]
    pub(crate) authorities: Option<PathBuf>,
    /// The federation's name [default: the clusters' names, or the trust domain]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<ObjectName>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
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
