//! The one home of TLS: every rustls configuration of Nullius is built here.
//!
//! People and tools meet an ordinary server (TLS 1.2 and 1.3). Our own parts speak TLS 1.3 with certificates of the
//! infrastructure root on both sides, and check each other by the URI name in the certificate, never by DNS: an
//! address says where somebody is, not who. Workloads prove X.509-SVIDs to each other. Hybrid post-quantum key exchange is preferred throughout.

mod accept;
mod config;
mod hub_client;
mod live;
mod parts;
mod peer;
mod protocol;
mod roots;
pub mod tcp;
mod transport;
mod web_client;
mod webhook;
mod workload;

pub use accept::{AcceptError, Accepted, HANDSHAKE_TIMEOUT, HubAcceptor};
pub use config::{
    ClientIdentity, TlsError, agent_client_config, agent_server_config, hub_client_config,
    install_provider, public_server_config, web_client_config,
};
pub use hub_client::{HubConnector, UnverifiedPeer};
pub use live::LiveCertificate;
pub use parts::{EnrolmentConnector, PartAcceptor, PartConnector, Proven};
pub use peer::{EXPORTER_LABEL, Peer, PeerError, PeerRule, describe_failure, exporter, peer};
pub use protocol::{HttpVersions, Protocol};
pub use roots::{InfraRoots, WebRoots};
pub use transport::Transport;
pub use web_client::WebConnector;
pub use webhook::WebhookAcceptor;
pub use workload::{
    OpenAcceptor, WorkloadAcceptor, WorkloadConnector, WorkloadError, WorkloadPeer, WorkloadStream,
    WorkloadTls,
};
