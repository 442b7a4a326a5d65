//! What a cluster is asked to be: its profile in words, and every part that a test may want otherwise.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use anyhow::{Error, Result, bail};

use crate::{network::MOST_NODES, versions::KubernetesVersion};

/// A cluster to be started.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Its name, unique in its state directory: lower case letters, digits, `-`.
    pub name: String,
    /// The profile it comes from, by which tests find it.
    pub profile: Profile,
    /// Whether other tests find it by its profile.
    pub found_by: FoundBy,
    /// The Kubernetes version.
    pub kubernetes: KubernetesVersion,
    /// How many nodes: 0 is a control plane only.
    pub nodes: u8,
    /// The address families of nodes, pods and Services.
    pub addresses: AddressFamilies,
    /// Whether names resolve in the cluster.
    pub dns: Dns,
    /// Feature gates for all of Kubernetes' programs.
    pub feature_gates: BTreeMap<String, bool>,
    /// What is special about the API server.
    pub api_server: ApiServerConfig,
}

/// How tests find a running cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// All that ask for its profile share it.
    Profile,
    /// It is a test's own.
    Name,
}

/// What is special about a cluster's API server.
///
/// In every text, `${CONFIG}` stands for the directory that `files` are written to.
#[derive(Clone, Debug, Default)]
pub struct ApiServerConfig {
    /// The address to listen on; by default the cluster's bridge, or loopback without nodes.
    pub bind: Option<IpAddr>,
    /// Further arguments, `--flag=value`; one that is set by default is replaced.
    pub args: Vec<String>,
    /// Structured authentication: the text of an `AuthenticationConfiguration`.
    pub authentication: Option<String>,
    /// Structured authorization: the text of an `AuthorizationConfiguration`, instead of `Node,RBAC`.
    pub authorization: Option<String>,
    /// The text of an audit `Policy`, instead of the level `Metadata` for everything.
    pub audit_policy: Option<String>,
    /// A kubeconfig of an audit webhook.
    pub audit_webhook: Option<String>,
    /// The text of an `AdmissionConfiguration`.
    pub admission: Option<String>,
    /// The text of an `EncryptionConfiguration`.
    pub encryption: Option<String>,
    /// Further files by name, for what the texts above refer to.
    pub files: BTreeMap<String, String>,
}

/// The address families of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressFamilies {
    /// IPv4 alone.
    #[default]
    Ipv4,
    /// IPv4 and IPv6 nodes, pods and Services.
    DualStack,
}

/// The cluster's DNS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dns {
    /// None: pods use the node's resolver.
    #[default]
    Off,
    /// CoreDNS for `cluster.local`.
    CoreDns,
}

/// The kinds of clusters that are started by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// What a plain production cluster has.
    #[default]
    Standard,
    /// Standard, with names.
    Dns,
    /// Standard, with IPv4 and IPv6.
    DualStack,
    /// No nodes.
    ControlPlane,
}

impl Profile {
    /// All profiles.
    pub const ALL: &'static [Self] =
        &[Self::Standard, Self::Dns, Self::DualStack, Self::ControlPlane];

    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Dns => "dns",
            Self::DualStack => "dual-stack",
            Self::ControlPlane => "control-plane",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(profile) = Self::ALL.iter().find(|profile| profile.as_str() == text) {
            return Ok(*profile);
        }
        let known: Vec<_> = Self::ALL.iter().map(|profile| profile.as_str()).collect();
        bail!("unknown profile `{text}`; known are {}", known.join(", "))
    }
}

impl ClusterConfig {
    /// A cluster of this profile with one node (none for [`Profile::ControlPlane`]).
    pub fn new(name: &str, profile: Profile) -> Self {
        Self {
            name: name.to_owned(),
            profile,
            found_by: FoundBy::Profile,
            kubernetes: KubernetesVersion::V1_36,
            nodes: u8::from(profile != Profile::ControlPlane),
            addresses: match profile {
                Profile::DualStack => AddressFamilies::DualStack,
                Profile::Standard | Profile::Dns | Profile::ControlPlane => AddressFamilies::Ipv4,
            },
            dns: if profile == Profile::Dns { Dns::CoreDns } else { Dns::Off },
            feature_gates: BTreeMap::new(),
            api_server: ApiServerConfig::default(),
        }
    }

    /// The same for one test alone, which may set it up otherwise and break it.
    #[must_use]
    pub fn own(mut self) -> Self {
        self.found_by = FoundBy::Name;
        self
    }

    /// The same with this number of nodes.
    #[must_use]
    pub fn nodes(mut self, nodes: u8) -> Self {
        self.nodes = nodes;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        if self.nodes > MOST_NODES {
            bail!("a cluster has at most {MOST_NODES} nodes, not {}", self.nodes);
        }
        Ok(())
    }

    /// The feature gates in the form of a flag's value, if there are any.
    pub(crate) fn gates(&self) -> Option<String> {
        let gates: Vec<_> =
            self.feature_gates.iter().map(|(gate, on)| format!("{gate}={on}")).collect();
        (!gates.is_empty()).then(|| gates.join(","))
    }
}

/// Refuses what is no name for a cluster.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 20 || !name.bytes().all(good) {
        bail!(
            "`{name}` is no name for a cluster: use at most 20 lower case letters, digits and `-`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn profiles_are_known_by_their_names() {
        for profile in Profile::ALL {
            assert_eq!(profile.as_str().parse::<Profile>().unwrap(), *profile);
        }
        let error = "standart".parse::<Profile>().unwrap_err().to_string();
        assert!(error.contains("`standart`") && error.contains("dual-stack"), "{error}");
    }

    #[test]
    fn bad_names_and_numbers_are_refused() {
        for name in ["", "UPPER", "a/b", "a.lock", "a-name-of-more-than-20-bytes"] {
            assert!(ClusterConfig::new(name, Profile::Standard).check().is_err(), "{name}");
        }
        assert!(ClusterConfig::new("c1", Profile::Standard).nodes(16).check().is_err());
        ClusterConfig::new("c1", Profile::Standard).nodes(15).check().unwrap();
    }
}
