//! Protobuf: the versioned seam between hub and agents, what workloads, Envoy and the kubelet ask a node, all generated from
//! `proto/`, and Kubernetes' own form of the few objects that the hub reads itself.

pub mod kubernetes;
pub mod report;

/// `Debug` of messages in which secrets stand: their name alone.
macro_rules! opaque {
    ($($message:ident),*) => {$(
        impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($message)).finish_non_exhaustive()
            }
        }
    )*};
}
use opaque;

/// Hub ↔ agent, version 1.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
pub mod agent_v1 {
    tonic::include_proto!("nullius.agent.v1");
}

/// `agent identity` ↔ nodes, version 1. What holds a token has a `Debug` that shows nothing of it.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
pub mod node_v1 {
    tonic::include_proto!("nullius.node.v1");

    super::opaque!(IssueJwtResponse, JoinMachineRequest);
}

/// The SPIFFE Workload API. What holds private keys or tokens has a `Debug` that shows nothing of them.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
pub mod spiffe {
    tonic::include_proto!("_");

    super::opaque!(X509svid, Jwtsvid, ValidateJwtsvidRequest);
}

/// Envoy's Secret Discovery Service, in modules that are nested as its packages are.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
pub mod envoy {
    pub mod service {
        pub mod discovery {
            pub mod v3 {
                tonic::include_proto!("envoy.service.discovery.v3");
                crate::opaque!(DiscoveryResponse);
            }
        }
        pub mod secret {
            pub mod v3 {
                tonic::include_proto!("envoy.service.secret.v3");
            }
        }
    }
    pub mod extensions {
        pub mod transport_sockets {
            pub mod tls {
                pub mod v3 {
                    tonic::include_proto!("envoy.extensions.transport_sockets.tls.v3");
                    crate::opaque!(DataSource);
                }
            }
        }
    }
}

/// The Container Storage Interface of a node. The request to publish may hold secrets, and has a `Debug` that shows nothing of them.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
pub mod csi_v1 {
    tonic::include_proto!("csi.v1");

    super::opaque!(NodePublishVolumeRequest);
}

/// How plugins tell the kubelet of themselves.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
pub mod plugin_registration {
    tonic::include_proto!("pluginregistration");
}

/// Values of any form, as protobuf writes JSON and messages within messages.
pub use prost_types::{Any, ListValue, Struct, Value, value};

/// The bytes of a message.
pub fn encode(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// Reads a message; nothing where the bytes are none.
pub fn decode<M: prost::Message + Default>(bytes: &[u8]) -> Option<M> {
    M::decode(bytes).ok()
}

/// How long a message is on the wire.
pub fn encoded_len(message: &impl prost::Message) -> usize {
    message.encoded_len()
}

/// The version that this build speaks; anything else is refused.
pub const VERSION: u32 = 1;

/// Audience of the ServiceAccount tokens with which agents enrol.
pub const HUB_AUDIENCE: &str = "nullius-hub";
