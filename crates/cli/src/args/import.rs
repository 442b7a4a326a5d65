//! `import`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nullius_model::{Namespace, SpiffeId, Timestamp, TrustDomain};

/// `nullius import …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Write Intentions for Istio's `AuthorizationPolicy` and `PeerAuthentication` of files
    ///
    /// What comes allows no more than Istio did. What has no counterpart is refused by name, and with it the policies for the same
    /// workloads; the rest is written all the same, with exit code 2.
    Istio(ImportIstio),
    /// Write Intentions for Consul's service intentions of files
    ///
    /// Read are config entries as `consul config read` prints them, one or several, and objects of Kubernetes (`ServiceIntentions`,
    /// `JWTProvider`). What comes allows no more than Consul did. What has no counterpart is refused by name, and with it all for the
    /// same destination; the rest is written all the same, with exit code 2.
    Consul(ImportConsul),
    /// Write WorkloadIdentities for SPIRE's registrations of files
    ///
    /// Read are entries as `spire-server entry show -output json` prints them, and the objects of spire-controller-manager
    /// (`ClusterSPIFFEID`, `ClusterStaticEntry`) with the namespaces that they choose. What has no counterpart is refused by name, with
    /// exit code 2; an ID that every enrolled pod has anyway needs no object.
    Spire(ImportSpire),
}

/// `nullius import consul`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  consul config read -kind service-intentions -name orders | nullius import consul - --namespace shop\n  kubectl get serviceintentions,jwtproviders -A -o yaml | nullius import consul - --namespace shop --service cache=infra/redis\n  curl -s $CONSUL_HTTP_ADDR/v1/config/service-intentions | nullius import consul - --namespace shop -o json"
)]
pub(crate) struct ImportConsul {
    /// A file, a folder, or `-` for standard input
    #[arg(value_name = "PATH", required = true, value_hint = clap::ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,
    /// The namespace whose service accounts are Consul's services, by the same names; may be repeated for namespaces of Consul
    #[arg(short, long = "namespace", value_name = "[CONSUL=]NAMESPACE")]
    pub(crate) namespaces: Vec<String>,
    /// A service that is another service account; may be repeated
    #[arg(long = "service", value_name = "[CONSUL/]NAME=NAMESPACE/ACCOUNT")]
    pub(crate) services: Vec<String>,
    /// The cluster's own trust domain
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub(crate) trust_domain: TrustDomain,
}

/// `nullius import spire`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  spire-server entry show -output json | nullius import spire - > identities.yaml\n  kubectl get namespaces,clusterspiffeids,clusterstaticentries -o yaml | nullius import spire -"
)]
pub(crate) struct ImportSpire {
    /// A file, a folder, or `-` for standard input
    #[arg(value_name = "PATH", required = true, value_hint = clap::ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,
    /// The trust domain that becomes the cluster's own; others are refused. Without it the one that all entries are of
    #[arg(long, value_name = "NAME")]
    pub(crate) trust_domain: Option<TrustDomain>,
    /// A parent of entries that stands for all nodes of the cluster; may be repeated
    #[arg(long = "parent", value_name = "ID")]
    pub(crate) parents: Vec<SpiffeId>,
    /// A namespace that spire-controller-manager passes over (`ignoreNamespaces`); may be repeated
    #[arg(long = "ignore-namespace", value_name = "NAME")]
    pub(crate) ignored: Vec<Namespace>,
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
