//! The agent and its objects on a real API server: what Kubernetes itself refuses, what is left behind, and a whole
//! session through an agent that runs beside a kubeconfig.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod beside;
mod ceiling;
mod guards;
mod hub;
mod intentions;
mod manifest;
mod plane;
mod sessions;
