//! Checked settings of the three ways to run; flags, environment and files are the command line's matter.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use nullius_kube::InCluster;
use nullius_model::{Ceiling, ClusterName};
use nullius_pki::PublicKey;
use nullius_tls::InfraRoots;
use secrecy::SecretString;

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// DNS name or address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Text that is not a host and a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address: write `host:port` or `[ipv6]:port`")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.chars().take(200).flat_map(char::escape_debug).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
        if host.is_empty() || !host.chars().all(legal) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Whom the agent trusts and where it dials.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Replicas of the hub; at least one.
    pub addresses: Vec<Address>,
    /// The pinned infrastructure root.
    pub roots: InfraRoots,
    /// The pinned key that signs key sets.
    pub offline_key: PublicKey,
    /// Identity of the hub fleet.
    pub hub_id: String,
}

/// How many connections `agent proxy` keeps to each hub replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelCount {
    /// For short requests.
    pub small: u8,
    /// For watches, exec, cp and port-forward.
    pub bulk: u8,
}

impl Default for TunnelCount {
    fn default() -> Self {
        Self { small: 1, bulk: 1 }
    }
}

/// `agent control` in a pod.
#[derive(Debug)]
pub struct ControlSettings {
    /// The cluster's name at the hub.
    pub cluster: ClusterName,
    /// Whom to trust.
    pub hub: HubSettings,
    /// Projected token of the provisioner for the hub.
    pub hub_token_file: PathBuf,
    /// The API server.
    pub api: InCluster,
    /// Projected token of the provisioner for the API server.
    pub api_token_file: PathBuf,
    /// The join token; the file need not exist once the cluster has joined.
    pub join_token_file: Option<PathBuf>,
    /// Where proxies connect.
    pub listen: SocketAddr,
    /// Where API servers tell what they did; they are not heard where it is absent.
    pub audit_listen: Option<SocketAddr>,
    /// Where the kubelet asks for health.
    pub health: Option<SocketAddr>,
}

/// `agent proxy` in a pod.
#[derive(Debug)]
pub struct ProxySettings {
    /// The cluster's name at the hub.
    pub cluster: ClusterName,
    /// Whom to trust.
    pub hub: HubSettings,
    /// Projected token of the proxy's account for the hub.
    pub hub_token_file: PathBuf,
    /// The API server.
    pub api: InCluster,
    /// Where `agent control` listens.
    pub control: Address,
    /// How many tunnels.
    pub tunnels: TunnelCount,
    /// Where the kubelet asks for health.
    pub health: Option<SocketAddr>,
}

/// Both in one process, beside a kubeconfig.
#[derive(Debug)]
pub struct BesideSettings {
    /// The cluster's name at the hub.
    pub cluster: ClusterName,
    /// What no session's rights ever exceed.
    pub ceiling: Ceiling,
    /// Whom to trust.
    pub hub: HubSettings,
    /// The kubeconfig of an administrator; used to make the agent's accounts and then dropped.
    pub kubeconfig: PathBuf,
    /// Its context; the current one when absent.
    pub context: Option<String>,
    /// The join token; not needed once the cluster has joined this hub.
    pub join_token: Option<SecretString>,
    /// How many tunnels.
    pub tunnels: TunnelCount,
    /// How long running streams may go on after the end was asked for.
    pub drain: Duration,
    /// Where to serve health.
    pub health: Option<SocketAddr>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn an_address_reads_and_prints_the_same() {
        for text in ["hub.example:8443", "10.99.1.1:8443", "[fd00::1]:443"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "hub",
            "hub:",
            "hub:0",
            "hub:70000",
            ":443",
            "fd00::1:443",
            "a b:1",
            "u@h:1",
            "h/x:1",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }
}
