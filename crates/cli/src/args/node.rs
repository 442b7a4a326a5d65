//! `node join-token`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nullius_model::{Namespace, ObjectName, Ttl};

use super::OfKubeconfig;

/// `nullius node …`, without which it is the role.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum NodeCommand {
    /// Add a machine outside of the cluster, or let it join anew
    ///
    /// Writes the object `Machine` into the cluster of the kubeconfig, with the hash of a new token, and the file with which the machine
    /// joins: whom to believe, where to ask, and the token, which counts once. Whoever has the file first is the machine: bring it there by a
    /// way that nobody else reads. A machine that has joined before does so no more by its old key.
    JoinToken(NodeJoinToken),
}

/// `nullius node join-token`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  nullius node join-token db-1 --namespace shop --agent agent.example.org:8447 --to db-1.json\n  nullius node join-token db-1 --for 10m | ssh db-1 'umask 077; cat > /etc/nullius-join.json'\n  nullius node join-token db-1 --x509-ca machines.pem --x509-name db-1.example.org --to db-1.json"
)]
pub(crate) struct NodeJoinToken {
    /// The machine
    #[arg(value_name = "MACHINE")]
    pub(crate) machine: ObjectName,
    #[command(flatten)]
    pub(crate) cluster: OfKubeconfig,
    /// How long the token may be used
    #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
    pub(crate) life: Ttl,
    /// A namespace whose WorkloadIdentities may be for processes of the machine; may be repeated. Without it those stay that the machine
    /// has, and a new one has none
    #[arg(short, long = "namespace", value_name = "NAME")]
    pub(crate) namespaces: Vec<Namespace>,
    /// Where the machine reaches `agent identity`; without it the address that nodes of the cluster use
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub(crate) agent: Option<String>,
    /// Certificates of who stands behind the machine's own, which proves it instead of a token; in PEM
    #[arg(long, value_name = "FILE", requires = "x509_name", value_hint = clap::ValueHint::FilePath)]
    pub(crate) x509_ca: Option<PathBuf>,
    /// The DNS or URI name that the machine's certificate has
    #[arg(long, value_name = "NAME", requires = "x509_ca")]
    pub(crate) x509_name: Option<String>,
    /// Write the file here, for you alone (0600); without it to standard output
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) to: Option<PathBuf>,
}

fn address(text: &str) -> Result<String, String> {
    match nullius_registration::is_address(text) {
        true => Ok(text.to_owned()),
        false => Err("write `HOST:PORT`".to_owned()),
    }
}
