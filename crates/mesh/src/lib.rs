//! The mesh's data plane: connections between workloads, each proven on both sides and decided at the destination.
//!
//! [`Proxy`] has listeners, where others reach its workload over mutual TLS, and upstreams, by which its workload reaches others. The
//! destination decides: who calls is what the certificate has proven, and `nullius-policy` makes the permit without which nothing is
//! forwarded; where intentions speak of requests, each request is read in one way and needs a permit of its own. What is decided is decided again when intentions, bundles or the identity change, and what is no longer right is
//! cut. Each attempt leaves a line ([`AccessLogTo`]), also one that never became a connection. [`news`] is what a node is told of its cluster.

#![forbid(unsafe_code)]

mod access_log;
mod application;
mod authority;
mod bodies;
mod config;
mod copy;
mod inbound;
mod judge;
mod live;
mod load;
pub mod news;
mod outbound;
mod pool;
mod proxy;
mod requests;
mod stream_io;
mod tunnel;
mod world;

pub use access_log::{End, Why};
pub use config::{
    AccessLogTo, Config, ConfigError, ConfigFault, IdentityFiles, Listener, Port, Ports, Upstream,
    Wire, WorkloadName,
};
pub use proxy::{Proxy, StartError, Stopped};
