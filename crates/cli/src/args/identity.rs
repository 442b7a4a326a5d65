//! `identity`.

use std::{fmt, str::FromStr};

use clap::{Args, Subcommand};
use nullius_model::{Namespace, SpiffeId};

use super::OfCluster;

/// `nullius identity …`.
#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    /// Show who has which workload identity in a cluster, until when and why
    ///
    /// Shown is what the cluster's authority signed: for each identity of each pod the X.509-SVID that was issued last, until its end. A pod
    /// that is gone is shown until then, since who took its key can use it so long.
    List(IdentityListArgs),
    /// Show all that is known of one ID, or of the identities of one pod, and the locks that touch it
    Show(IdentityShowArgs),
}

/// `nullius identity list`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius identity list -c dev -n shop\n  nullius identity list -c dev --node worker-1 -o wide"
)]
pub(crate) struct IdentityListArgs {
    #[command(flatten)]
    pub(crate) of: OfCluster,
    /// Of pods of this namespace
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<Namespace>,
    /// Of pods on this node
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
}

/// `nullius identity show`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius identity show -c dev spiffe://dev.nullius.internal/ns/shop/sa/web\n  nullius identity show -c dev shop/web-0"
)]
pub(crate) struct IdentityShowArgs {
    #[command(flatten)]
    pub(crate) of: OfCluster,
    /// A SPIFFE ID, or a pod as NAMESPACE/NAME
    #[arg(value_name = "ID|NAMESPACE/POD")]
    pub(crate) whose: Whose,
}

/// An identity, or a pod.
#[derive(Debug, Clone)]
pub(crate) enum Whose {
    Id(SpiffeId),
    Pod(Namespace, String),
}

impl FromStr for Whose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("spiffe://") {
            return text.parse().map(Self::Id).map_err(|error| format!("{error}"));
        }
        let (namespace, pod) = text
            .split_once('/')
            .filter(|(_, pod)| !pod.is_empty() && !pod.contains('/'))
            .ok_or("write a SPIFFE ID, or a pod as NAMESPACE/NAME")?;
        let namespace = namespace.parse().map_err(|error| format!("{error}"))?;
        Ok(Self::Pod(namespace, pod.to_owned()))
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Pod(namespace, pod) => write!(f, "{namespace}/{pod}"),
        }
    }
}
