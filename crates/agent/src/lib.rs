//! The agent: one cluster's side of Nullius, without one open port to the outside.
//!
//! `agent control` makes and flushes what sessions have in the cluster, as the hub orders and the ceiling allows;
//! `agent proxy` serves the tunnels with what control hands it;
//! `agent admission` answers API servers that hold a request back until policies have been asked;
//! `agent identity` keeps the authority of the cluster's workloads and issues SVIDs to its nodes. Beside a kubeconfig both are one process with two
//! identities. Each checks the hub's signature on every order and every request for itself.

#![forbid(unsafe_code)]

mod admission;
mod alarm;
mod backoff;
mod beside;
mod condition;
mod control;
mod error;
mod health;
mod identity;
mod lease;
mod meters;
mod net;
mod places;
mod proxy;
mod report;
mod settings;
mod svid;
mod tasks;

pub use admission::{AdmissionSettings, run_admission};
pub use beside::{check_kubeconfig, run_beside};
pub use control::run_control;
pub use error::AgentError;
pub use proxy::run_proxy;
pub use settings::{
    Address, AddressError, BesideSettings, ControlSettings, HubSettings, ProxySettings, TunnelCount,
};
pub use svid::{IdentitySettings, run_identity};
