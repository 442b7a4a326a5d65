//! The mesh's data plane: connections between workloads, each proven on both sides and decided at the destination.
//!
//! [`Proxy`] has listeners, where others reach its workload over mutual TLS, and upstreams, by which its workload reaches others.
//! [`Captured`] is the same for a pod whose connections are led to it, in both directions, without that the pod knows. The
//! destination decides: who calls is what the certificate has proven, and `nullius-policy` makes the permit without which nothing is
//! forwarded; where intentions speak of requests, each request is read in one way and needs a permit of its own. What is decided is decided again when intentions, bundles or the identity change, and what is no longer right is
//! cut. A gateway leads workloads of other clusters to Services that are exported ([`Exports`], [`Via`]). Each attempt leaves a line ([`AccessLogTo`]), also one that never became a connection. [`news`] is what a node is told of its cluster.

#![forbid(unsafe_code)]

mod access_log;
mod application;
mod authority;
mod bodies;
mod captured;
mod config;
mod copy;
mod directory;
mod exports;
mod files;
mod first_bytes;
mod front;
mod gateway;
mod guests;
mod held;
mod hello;
mod host;
mod inbound;
mod issuers;
mod judge;
mod keys;
mod limiter;
mod live;
mod load;
pub mod news;
mod outbound;
mod places;
mod pool;
mod proxy;
mod reach;
mod requests;
mod room;
mod route;
mod seen;
mod shared;
mod shared_map;
mod sockets;
mod stream_io;
mod tunnel;
mod world;

pub use access_log::{AccessLog, AccessLogWriter, End, Why};
pub use captured::{Captured, CapturedParts};
pub use config::{
    AccessLogTo, At, Config, ConfigError, ConfigFault, GatewayListener, IdentityFiles, KeysFrom,
    Listener, Port, Ports, Reached, Upstream, Wire, WorkloadName,
};
pub use directory::{Claim, Directory, GONE, Who};
pub use exports::{Exported, Exports, NotExported, Via};
pub use gateway::{GatewayParts, Serving};
pub use hello::{Beginning, HELLO_MAX};
pub use host::HostSockets;
pub use issuers::{IssuerKeys, Issuers, KeyAsks};
pub use keys::{
    FetchError, FetchedKeys, KEYS_LIFE, KeyRing, KeySource, KeySources, Reach, SOURCES_MAX,
    keep_keys,
};
pub use proxy::{Proxy, StartError, Stopped};
pub use seen::{Hears, Neighbours, Seen, TICK, Teller, Unheard, Witness};
pub use shared_map::SharedMap;
pub use sockets::{Caller, Sockets};
pub use world::{Here, PortProtocol, World};
