//! Connections that the agent makes: TCP with a deadline, and gRPC over a stream that is already proven.

use std::{future::Future, io, pin::Pin, time::Duration};

use hyper_util::rt::TokioIo;
use nullius_tunnel::Io;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::Address;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A proven stream under gRPC.
pub(crate) type BoxIo = Box<dyn Io>;
/// A connection that is being made.
pub(crate) type Connecting = Pin<Box<dyn Future<Output = io::Result<BoxIo>> + Send>>;

/// Dials with a deadline.
pub(crate) async fn dial(address: &Address) -> io::Result<TcpStream> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("`{address}` does not answer"));
    let connect = TcpStream::connect((address.host.as_str(), address.port));
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| late())??;
    nullius_tls::tcp::prepare(&stream);
    Ok(stream)
}

/// A gRPC channel that makes its connection when it is needed, and again when it broke.
pub(crate) fn channel(connect: impl Fn() -> Connecting + Send + Sync + 'static) -> Channel {
    let connector = tower::service_fn(move |_: hyper::Uri| {
        let connecting = connect();
        async move { connecting.await.map(TokioIo::new) }
    });
    // The address names nobody: the connector knows where to dial and proves who is there.
    Endpoint::from_static("http://nullius")
        .connect_timeout(2 * CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector)
}
