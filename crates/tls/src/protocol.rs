//! What is spoken inside TLS, as ALPN names it (RFC 7301).

/// A protocol between our own parts. The number grows when the other side could no longer understand us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// The agent serves HTTP/2 for short requests of people.
    TunnelSmall,
    /// The agent serves HTTP/2 for long and heavy streams: exec, cp, port-forward.
    TunnelBulk,
    /// The agent is the client of the hub's control service.
    Control,
    /// `agent proxy` is the client of `agent control`, inside a cluster.
    Handover,
    /// `agent admission` is the client of the hub's admission service.
    Admission,
    /// `agent identity` is the client of the hub's workload root.
    Identity,
}

impl Protocol {
    /// What an agent may speak to a hub.
    pub const HUB: [Self; 5] =
        [Self::TunnelSmall, Self::TunnelBulk, Self::Control, Self::Admission, Self::Identity];

    /// The ALPN name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TunnelSmall => "nullius-tunnel-small/1",
            Self::TunnelBulk => "nullius-tunnel-bulk/1",
            Self::Control => "nullius-control/1",
            Self::Handover => "nullius-handover/1",
            Self::Admission => "nullius-admission/1",
            Self::Identity => "nullius-identity/1",
        }
    }

    pub(crate) fn from_alpn(name: &[u8]) -> Option<Self> {
        Self::HUB
            .into_iter()
            .chain([Self::Handover])
            .find(|protocol| protocol.as_str().as_bytes() == name)
    }
}

/// Which versions of HTTP a client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpVersions {
    /// HTTP/1.1 alone, as upgrades need it.
    Http1,
    /// HTTP/2 alone.
    Http2,
    /// HTTP/2, or HTTP/1.1 where the server has nothing better.
    Either,
}

impl HttpVersions {
    pub(crate) fn alpn(self) -> Vec<Vec<u8>> {
        let (http1, http2) = (b"http/1.1".to_vec(), b"h2".to_vec());
        match self {
            Self::Http1 => vec![http1],
            Self::Http2 => vec![http2],
            Self::Either => vec![http2, http1],
        }
    }
}
