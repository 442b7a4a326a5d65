//! Identities of our own parts in the infrastructure trust domain, as they stand in certificates.

use std::{fmt, str::FromStr};

use crate::{ClusterName, InstanceId};

/// Who holds an infrastructure certificate: a hub replica or one of a cluster's agents.
///
/// In a certificate it is the only URI SAN, `spiffe://infra.nullius/hub/<instance>` or
/// `spiffe://infra.nullius/cluster/<name>/agent/<proxy|control|admission|identity>/<instance>` (SPIFFE ID, section 2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InfraId {
    /// A replica of the hub.
    Hub { instance: InstanceId },
    /// An `agent proxy` of a cluster.
    AgentProxy { cluster: ClusterName, instance: InstanceId },
    /// An `agent control` of a cluster.
    AgentControl { cluster: ClusterName, instance: InstanceId },
    /// An `agent admission` of a cluster.
    AgentAdmission { cluster: ClusterName, instance: InstanceId },
    /// An `agent identity` of a cluster.
    AgentIdentity { cluster: ClusterName, instance: InstanceId },
}

/// A URI that names no part of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an identity of this trust domain")]
pub struct ParseInfraIdError(String);

impl InfraId {
    /// The cluster, for an agent.
    pub fn cluster(&self) -> Option<&ClusterName> {
        match self {
            Self::Hub { .. } => None,
            Self::AgentProxy { cluster, .. }
            | Self::AgentControl { cluster, .. }
            | Self::AgentAdmission { cluster, .. }
            | Self::AgentIdentity { cluster, .. } => Some(cluster),
        }
    }
}

impl fmt::Display for InfraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { instance } => write!(f, "spiffe://infra.nullius/hub/{instance}"),
            Self::AgentProxy { cluster, instance } => {
                write!(f, "spiffe://infra.nullius/cluster/{cluster}/agent/proxy/{instance}")
            }
            Self::AgentControl { cluster, instance } => {
                write!(f, "spiffe://infra.nullius/cluster/{cluster}/agent/control/{instance}")
            }
            Self::AgentAdmission { cluster, instance } => {
                write!(f, "spiffe://infra.nullius/cluster/{cluster}/agent/admission/{instance}")
            }
            Self::AgentIdentity { cluster, instance } => {
                write!(f, "spiffe://infra.nullius/cluster/{cluster}/agent/identity/{instance}")
            }
        }
    }
}

impl FromStr for InfraId {
    type Err = ParseInfraIdError;
    fn from_str(uri: &str) -> Result<Self, ParseInfraIdError> {
        let wrong =
            || ParseInfraIdError(uri.chars().take(200).flat_map(char::escape_debug).collect());
        let path = uri.strip_prefix("spiffe://infra.nullius/").ok_or_else(wrong)?;
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["hub", instance] => Ok(Self::Hub { instance: instance.parse().map_err(|_| wrong())? }),
            ["cluster", cluster, "agent", role, instance] => {
                let cluster = cluster.parse().map_err(|_| wrong())?;
                let instance = instance.parse().map_err(|_| wrong())?;
                match *role {
                    "proxy" => Ok(Self::AgentProxy { cluster, instance }),
                    "control" => Ok(Self::AgentControl { cluster, instance }),
                    "admission" => Ok(Self::AgentAdmission { cluster, instance }),
                    "identity" => Ok(Self::AgentIdentity { cluster, instance }),
                    _ => Err(wrong()),
                }
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn an_identity_survives_its_certificate_form_and_nothing_else_parses() {
        let (cluster, instance) = ("dev".parse().unwrap(), InstanceId::from_bits(1));
        let of = || -> (ClusterName, InstanceId) { (Clone::clone(&cluster), instance.clone()) };
        for id in [
            InfraId::AgentProxy { cluster: of().0, instance: of().1 },
            InfraId::AgentControl { cluster: of().0, instance: of().1 },
            InfraId::AgentAdmission { cluster: of().0, instance: of().1 },
            InfraId::AgentIdentity { cluster: of().0, instance: of().1 },
        ] {
            assert_eq!(id.to_string().parse::<InfraId>().unwrap(), id);
        }
        for bad in [
            "spiffe://infra.nullius/cluster/dev/agent/node/00000000000000000000000000000001",
            "spiffe://other/hub/00000000000000000000000000000001",
            "spiffe://infra.nullius/hub/1",
            "spiffe://infra.nullius/hub/00000000000000000000000000000001/x",
        ] {
            assert!(bad.parse::<InfraId>().is_err(), "{bad}");
        }
    }
}
