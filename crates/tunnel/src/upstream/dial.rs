//! How a connection to an API server is made.

use std::{future::Future, io, pin::Pin, time::Duration};

use nullius_tls::{HttpVersions, WebConnector};
use tokio::net::TcpStream;

use crate::wire::Io;

/// How long a connection may take to come up, handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes connections to one API server.
pub trait Dial: Send + Sync + 'static {
    /// A fresh connection that speaks one of the offered versions.
    fn dial(
        &self,
        offer: HttpVersions,
    ) -> Pin<Box<dyn Future<Output = io::Result<Dialled>> + Send + '_>>;

    /// Host and port as they stand in requests.
    fn authority(&self) -> String;
}

/// A fresh connection.
pub struct Dialled {
    /// Its bytes.
    pub io: Box<dyn Io>,
    /// What was agreed upon: `Http1` or `Http2`.
    pub speaks: HttpVersions,
}

/// An API server at a host and port, over TLS.
pub struct ApiServer {
    host: String,
    port: u16,
    connector: WebConnector,
}

impl ApiServer {
    /// The server at this DNS name or address (without brackets), believed as the connector does.
    pub fn new(host: impl Into<String>, port: u16, connector: WebConnector) -> Self {
        Self { host: host.into(), port, connector }
    }
}

impl Dial for ApiServer {
    fn dial(
        &self,
        offer: HttpVersions,
    ) -> Pin<Box<dyn Future<Output = io::Result<Dialled>> + Send + '_>> {
        Box::pin(async move {
            let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
            nullius_tls::tcp::prepare(&tcp);
            let (tls, speaks) = self.connector.connect(tcp, &self.host, offer).await?;
            Ok(Dialled { io: Box::new(tls), speaks })
        })
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Dials, but not for ever.
pub(super) async fn in_time(dial: &dyn Dial, offer: HttpVersions) -> io::Result<Dialled> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
    tokio::time::timeout(CONNECT_TIMEOUT, dial.dial(offer)).await.unwrap_or_else(|_| Err(late()))
}
