//! The hub's one port: people and agents arrive at the same listener and are told apart by ALPN.
//!
//! The ClientHello is read first. A client that offers a `nullius-` protocol must show an agent's certificate; one
//! that offers none is a person's tool and never gets further than the public side, whatever certificate it has.

use std::{io, sync::Arc, time::Duration};

use nullius_model::{InfraId, Timestamp};
use rustls::{ServerConfig, server::Acceptor};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::{
    InfraRoots, LiveCertificate, PeerError, PeerRule, Protocol, TlsError, agent_server_config,
    peer::{Peer, peer, refusal},
    public_server_config,
};

/// How long a client may take for the whole handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whom the hub's port let in.
#[derive(Debug)]
pub enum Accepted<IO> {
    /// A person's tool or a browser; nothing is proven yet.
    Public(TlsStream<IO>),
    /// An agent, proven by its certificate.
    Agent {
        /// The connection.
        stream: TlsStream<IO>,
        /// Who it is.
        id: InfraId,
        /// What it speaks.
        protocol: Protocol,
        /// When its certificate ends; the connection must not outlive it.
        not_after: Timestamp,
    },
}

/// Why somebody was not let in.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Too slow.
    #[error("the tls handshake took more than {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
    /// No TLS, a version or certificate that is refused, or the connection broke.
    #[error("the tls handshake failed")]
    Handshake(#[source] io::Error),
    /// The certificate is of the right root, but names somebody who may not connect here.
    #[error("the agent's certificate is refused: {0}")]
    Certificate(String),
    /// The handshake was right, but nobody that we know is at the other end.
    #[error("the agent is refused")]
    Peer(#[from] PeerError),
    /// No protocol was agreed upon.
    #[error("the agent speaks no protocol of this version; update the older of hub and agent")]
    Protocol,
}

/// Accepts TLS connections at the hub's port.
#[derive(Debug, Clone)]
pub struct HubAcceptor {
    public: Arc<ServerConfig>,
    agents: Arc<ServerConfig>,
}

impl HubAcceptor {
    /// Shows one certificate to everybody and admits agents of the infrastructure roots.
    pub fn new(certificate: Arc<LiveCertificate>, roots: &InfraRoots) -> Result<Self, TlsError> {
        let public = public_server_config(Arc::clone(&certificate))?;
        let agents = agent_server_config(roots, certificate, PeerRule::Agent, &Protocol::HUB)?;
        Ok(Self { public, agents })
    }

    /// Does the handshake with one client. Run it in a task of its own: a slow client must not hold up the next.
    pub async fn accept<IO>(&self, io: IO) -> Result<Accepted<IO>, AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = Box::pin(self.handshake(io));
        tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .unwrap_or(Err(AcceptError::Timeout))
    }

    async fn handshake<IO>(&self, io: IO) -> Result<Accepted<IO>, AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let start = LazyConfigAcceptor::new(Acceptor::default(), io)
            .await
            .map_err(AcceptError::Handshake)?;
        let is_agent = start
            .client_hello()
            .alpn()
            .is_some_and(|mut offered| offered.any(|name| name.starts_with(b"nullius-")));
        if !is_agent {
            let stream = start.into_stream(Arc::clone(&self.public)).await;
            return stream.map(Accepted::Public).map_err(AcceptError::Handshake);
        }
        let stream = start.into_stream(Arc::clone(&self.agents)).await.map_err(broken)?;
        let (_, connection) = stream.get_ref();
        let protocol = connection.alpn_protocol().and_then(Protocol::from_alpn);
        let protocol = protocol.ok_or(AcceptError::Protocol)?;
        let Peer { id, not_after } = peer(connection)?;
        Ok(Accepted::Agent { stream, id, protocol, not_after })
    }
}

fn broken(error: io::Error) -> AcceptError {
    match refusal(&error) {
        Some(reason) => AcceptError::Certificate(reason),
        None => AcceptError::Handshake(error),
    }
}
