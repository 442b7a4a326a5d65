//! Connections of API servers to our webhook.

use std::{io, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{LiveCertificate, TlsError, WebRoots, config::webhook_server_config, parts::in_time};

/// Accepts API servers.
#[derive(Clone)]
pub struct WebhookAcceptor {
    acceptor: TlsAcceptor,
}

impl WebhookAcceptor {
    /// Shows this certificate; where there are authorities for clients, nobody gets in without a certificate of theirs.
    pub fn new(
        certificate: Arc<LiveCertificate>,
        clients: Option<&WebRoots>,
    ) -> Result<Self, TlsError> {
        Ok(Self { acceptor: webhook_server_config(certificate, clients)?.into() })
    }

    /// Does the handshake. Run it in a task of its own: a slow client must not hold up the next.
    pub async fn accept<IO>(&self, io: IO) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        in_time(self.acceptor.accept(io)).await
    }
}
