//! Protobuf: the versioned seam between hub and agents, generated from `proto/`, and Kubernetes' own form of the
//! few objects that the hub reads itself.

pub mod admission;
pub mod kubernetes;

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

/// How long a message is on the wire.
pub fn encoded_len(message: &impl prost::Message) -> usize {
    message.encoded_len()
}

/// The version that this build speaks; anything else is refused.
pub const VERSION: u32 = 1;

/// Audience of the ServiceAccount tokens with which agents enrol.
pub const HUB_AUDIENCE: &str = "nullius-hub";
