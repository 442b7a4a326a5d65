//! Connections between our own parts: an agent to a hub, `agent proxy` to `agent control`.

use std::{io, sync::Arc, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::{
    HANDSHAKE_TIMEOUT, HttpVersions, InfraRoots, LiveCertificate, Peer, PeerRule, Protocol,
    TlsError, agent_client_config, agent_server_config, exporter, hub_client::server_name,
    hub_client_config, peer,
};

/// A connection with a proof of who is at the other end.
#[derive(Debug)]
pub struct Proven<S> {
    /// The connection.
    pub stream: S,
    /// Who is there, and until when the certificate says so.
    pub peer: Peer,
    /// The connection's own secret, to bind assertions to it.
    pub exporter: [u8; 32],
}

/// Dials other parts of ours and proves who we are.
#[derive(Clone)]
pub struct PartConnector {
    connector: TlsConnector,
}

impl PartConnector {
    /// Shows this certificate to whom the rule admits, for one protocol.
    pub fn new(
        roots: &InfraRoots,
        certificate: Arc<LiveCertificate>,
        admit: PeerRule,
        protocol: Protocol,
    ) -> Result<Self, TlsError> {
        Ok(Self { connector: agent_client_config(roots, certificate, admit, protocol)?.into() })
    }

    /// Does the handshake; `host` is a DNS name or an address without brackets and serves as SNI.
    pub async fn connect<IO>(&self, io: IO, host: &str) -> io::Result<Proven<client::TlsStream<IO>>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = in_time(self.connector.connect(server_name(host)?, io)).await?;
        let connection = stream.get_ref().1;
        let peer = peer(connection).map_err(io::Error::other)?;
        let exporter = exporter(connection).map_err(io::Error::other)?;
        Ok(Proven { stream, peer, exporter })
    }
}

/// Dials the hub's public listener for HTTP/2 before there is a certificate: to join and to enrol.
#[derive(Clone)]
pub struct EnrolmentConnector {
    connector: TlsConnector,
}

impl EnrolmentConnector {
    /// Believes hubs of these roots and nobody else.
    pub fn new(roots: &InfraRoots) -> Result<Self, TlsError> {
        Ok(Self { connector: hub_client_config(roots, HttpVersions::Http2)?.into() })
    }

    /// Does the handshake; `host` is a DNS name or an address without brackets and serves as SNI.
    pub async fn connect<IO>(&self, io: IO, host: &str) -> io::Result<client::TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        in_time(self.connector.connect(server_name(host)?, io)).await
    }
}

/// Accepts other parts of ours.
#[derive(Clone)]
pub struct PartAcceptor {
    acceptor: TlsAcceptor,
}

impl PartAcceptor {
    /// Shows this certificate and admits whom the rule admits, for one protocol.
    pub fn new(
        roots: &InfraRoots,
        certificate: Arc<LiveCertificate>,
        admit: PeerRule,
        protocol: Protocol,
    ) -> Result<Self, TlsError> {
        Ok(Self { acceptor: agent_server_config(roots, certificate, admit, &[protocol])?.into() })
    }

    /// Does the handshake. Run it in a task of its own: a slow client must not hold up the next.
    pub async fn accept<IO>(&self, io: IO) -> io::Result<Proven<server::TlsStream<IO>>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = in_time(self.acceptor.accept(io)).await?;
        let connection = stream.get_ref().1;
        let peer = peer(connection).map_err(io::Error::other)?;
        let exporter = exporter(connection).map_err(io::Error::other)?;
        Ok(Proven { stream, peer, exporter })
    }
}

pub(crate) async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    const LATE: &str = "the tls handshake took too long";
    let limit: Duration = HANDSHAKE_TIMEOUT;
    tokio::time::timeout(limit, Box::pin(handshake))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, LATE)))
}
