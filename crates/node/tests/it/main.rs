//! A node as the kubelet and workloads meet it, with an agent that has a real authority.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod agent;
mod csi;
mod identity;
mod machine;
mod mesh;
mod mesh_tokens;
mod node;
mod sidecar;
