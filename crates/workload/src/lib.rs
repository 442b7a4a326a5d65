//! Identities of workloads on a node: who calls on the socket, which registered entries are theirs, and the SVIDs of those.
//!
//! [`keep()`] holds an SVID for each registered entry, with a key that never leaves the node, and renews it. [`serve()`] answers the SPIFFE
//! Workload API and Envoy's secret discovery on a Unix socket. What is registered comes in by a `watch`, signatures by an [`Issuer`]:
//! this crate knows no agent and no cluster. [`Client`] is the other end of the socket, for any implementation of the specification.

mod account;
mod api;
mod aside;
mod attest;
mod authority;
mod caller;
mod cgroup;
mod client;
mod entry;
mod issuer;
mod jwt;
mod keep;
mod peer;
mod procfs;
mod request;
mod resident;
mod sds;
mod selector;
mod serve;
mod unfinished;
pub mod wire;
mod words;

pub use aside::{Guarded, Handed, Kept, close_listener, receive};
pub use attest::{Attestor, Executable, Facts};
pub use authority::{AuthorityMender, Mended};
pub use cgroup::{CgroupError, CgroupRoot, ContainerId, ParseCgroupError, Place, PodUid, place};
pub use client::{
    Client, ClientError, Endpoint, Identities, Identity, IdentityKey, JwtIdentity,
    ParseEndpointError, WorkloadIdentities,
};
pub use entry::{Entry, Registered};
pub use issuer::{IssueError, Issuer, JwtIssued};
pub use keep::{Held, Holdings, keep, wait_after};
pub use request::{AskError, JwtAsk, SecretsAsk, ValidateAsk};
pub use resident::Resident;
pub use selector::{ParseSelectorError, Selector};
pub use serve::{Limits, bind, serve};
pub use unfinished::{Measured, Room, Unfinished};
pub use words::Words;
