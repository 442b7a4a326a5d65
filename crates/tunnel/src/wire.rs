//! What hub and agent say to each other on a tunnel connection beside users' requests, and its HTTP/2 settings.
//!
//! The agent dials and then serves; the hub's first request is `GET /nullius/hello`. Paths under `/nullius/` are
//! no Kubernetes paths and never reach an API server.

use std::time::Duration;

use h2::PingPong;
use http::{Uri, uri};
use nullius_tls::Protocol;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

/// The version of the tunnel that this build speaks; anything else is refused.
pub const VERSION: u32 = 1;

/// What no path of a user may begin with.
pub(crate) const RESERVED: &str = "/nullius/";
pub(crate) const HELLO: &str = "/nullius/hello";
pub(crate) const DRAIN: &str = "/nullius/drain";
/// `:protocol` of the extended CONNECT (RFC 8441) that an upgrade rides on.
pub(crate) const UPGRADE_PROTOCOL: &str = "nullius-upgrade";
/// `:authority` of everything in the tunnel: where a request goes is the agent's to know.
const AUTHORITY: &str = "kubernetes";

/// Streams of one connection that run at the same time.
pub(crate) const MAX_STREAMS: u32 = 1_000;
/// Bytes of the headers of one message, as HTTP/2 counts them.
pub(crate) const MAX_HEADER_LIST: u32 = 64 * 1024;
pub(crate) const MAX_FRAME: u32 = 64 * 1024;
pub(crate) const MAX_SEND_BUFFER: usize = 256 * 1024;
/// Streams that the hub opened and reset before the agent looked at them. People share the connection, so it must
/// not end because one of them cancels much: who cancels too much is stopped at the hub's public listener. For the
/// same reason nobody counts the resets of a connection's whole life here.
pub(crate) const MAX_PENDING_RESETS: usize = 10_000;

pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(10);
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A byte stream under a connection.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// What a connection is for, so that heavy streams do not hold up short requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Short requests.
    Small,
    /// Upgrades, watches, logs that are followed, proxied applications.
    Bulk,
}

impl Class {
    /// The class of a connection's negotiated protocol, if it is a tunnel at all.
    pub fn of(protocol: Protocol) -> Option<Self> {
        match protocol {
            Protocol::TunnelSmall => Some(Self::Small),
            Protocol::TunnelBulk => Some(Self::Bulk),
            Protocol::Control | Protocol::Handover | Protocol::Admission | Protocol::Identity => {
                None
            }
        }
    }

    /// The protocol to negotiate for it.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Small => Protocol::TunnelSmall,
            Self::Bulk => Protocol::TunnelBulk,
        }
    }

    /// Bytes that one stream may have in flight.
    pub(crate) fn stream_window(self) -> u32 {
        match self {
            Self::Small => 1 << 20,
            Self::Bulk => 4 << 20,
        }
    }

    /// Bytes that all streams together may have in flight: several times what one session may leave unread, so that
    /// nobody waits for somebody else's reader.
    pub(crate) fn connection_window(self) -> u32 {
        match self {
            Self::Small => 256 << 20,
            Self::Bulk => 256 << 20,
        }
    }
}

/// The agent's answer to the first request on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    /// Grows when an agent instance gives up its connections for new ones; the highest wins.
    #[serde(default)]
    pub(crate) epoch: u64,
    #[serde(default)]
    pub(crate) agent_version: String,
}

/// The URI in the tunnel of a path that was read already.
pub(crate) fn tunnel_uri(path_and_query: &str) -> Result<Uri, http::Error> {
    uri::Builder::new()
        .scheme(uri::Scheme::HTTPS)
        .authority(uri::Authority::from_static(AUTHORITY))
        .path_and_query(path_and_query)
        .build()
}

/// Resolves when the other side has not answered a ping in time.
pub(crate) async fn silence(mut pings: PingPong) {
    loop {
        tokio::time::sleep(PING_INTERVAL).await;
        let pong = tokio::time::timeout(PING_TIMEOUT, pings.ping(h2::Ping::opaque())).await;
        if !matches!(pong, Ok(Ok(_))) {
            return;
        }
    }
}
