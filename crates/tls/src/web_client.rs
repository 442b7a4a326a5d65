//! From an agent to a server that is not ours: the cluster's API server.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    ClientIdentity, HttpVersions, TlsError, WebRoots, hub_client::server_name, web_client_config,
};

/// Makes connections to a server of the web PKI or of a cluster's own authority. Sessions are resumed, which makes
/// the fresh connection of each upgrade cheap.
#[derive(Clone)]
pub struct WebConnector {
    either: TlsConnector,
    http1: TlsConnector,
    http2: TlsConnector,
}

impl WebConnector {
    /// Believes servers of these roots and shows them this identity.
    pub fn new(roots: &WebRoots, identity: &ClientIdentity) -> Result<Self, TlsError> {
        let config = |versions| web_client_config(roots, identity.clone(), versions);
        Ok(Self {
            either: config(HttpVersions::Either)?.into(),
            http1: config(HttpVersions::Http1)?.into(),
            http2: config(HttpVersions::Http2)?.into(),
        })
    }

    /// Does the handshake; says which version of HTTP was agreed upon. `host` is a DNS name or an address without
    /// brackets, and is checked.
    pub async fn connect<IO>(
        &self,
        io: IO,
        host: &str,
        offer: HttpVersions,
    ) -> io::Result<(TlsStream<IO>, HttpVersions)>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = match offer {
            HttpVersions::Either => &self.either,
            HttpVersions::Http1 => &self.http1,
            HttpVersions::Http2 => &self.http2,
        };
        let stream = connector.connect(server_name(host)?, io).await?;
        let agreed = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => HttpVersions::Http2,
            _ => HttpVersions::Http1,
        };
        Ok((stream, agreed))
    }
}
