//! How the traffic of a pod is led through a proxy that sits outside of it.
//!
//! A [`Network`] is a network namespace by its descriptor: [`Network::install`] puts rules and routes into it, [`Network::listen`],
//! [`Network::connect_out`] and [`Network::connect_in`] make sockets there that belong to the process outside; a [`Tag`] lets sockets that
//! a process inside made do the same. Rules without listeners let nothing pass; `docs/redirect.md` draws the ways that packets take.

mod error;
mod network;
mod plan;
mod route;
mod sockets;
mod tag;

pub use error::RedirectError;
pub use network::{Network, NetworkId};
pub use plan::{INBOUND_PORT, Mark, OUTBOUND_PORT, TABLE, table};
pub use sockets::Listeners;
pub use tag::{NotAdded, Tag};
