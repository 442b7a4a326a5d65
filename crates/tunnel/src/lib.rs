//! The tunnel of users' traffic: from the hub, over connections that agents dialled, to API servers.
//!
//! [`Tunnels`] is the hub's side and [`Agent`] the cluster's. Both run the same header pipeline and neither holds
//! a whole body. Requests go out for a `KubePermit` only, credentials come from the [`Gate`] only, and every
//! stream can be cut while it runs.

#![forbid(unsafe_code)]

mod agent;
mod body;
mod cut_short;
mod elsewhere;
mod exchange;
mod farewell;
mod fetch;
mod forward;
mod headers;
mod hub;
mod inbound;
mod link;
mod live;
mod outcome;
mod pipe;
mod public;
mod refusal;
mod registry;
mod upgrade;
mod upload;
mod upstream;
mod wire;

pub use agent::{Admission, Agent, Gate, Presented, Served};
pub use body::{BoxError, StreamError, TunnelBody};
pub use elsewhere::{is_elsewhere, is_metadata};
pub use farewell::OnCut;
pub use fetch::{Fetch, FetchError, Reach, ServerProof};
pub use forward::{Assert, AssertError, Forward};
pub use headers::check_headers;
pub use hub::{AgentState, AgentView, Attached, TunnelOptions, Tunnels};
pub use link::AttachError;
pub use live::{MAX_UNREAD, Mark, Owner};
pub use outcome::{AnsweredBy, Ended, OnEnd, Report};
pub use public::{PublicLimits, serve_public_connection};
pub use refusal::Refusal;
pub use upgrade::Upgrade;
pub use upstream::{ApiServer, Dial, Dialled, Upstream};
pub use wire::{Class, Io, VERSION};
