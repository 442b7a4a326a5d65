//! Ending a connection below TLS: what was sent arrives, and nobody takes the end for a clean one.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// A connection whose sending side can end without TLS's goodbye.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Ends the sending side of the TCP connection. Its peer reads all that was sent; under TLS it then knows that
    /// something is missing (RFC 8446, section 6.1).
    fn poll_cut_short(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Transport for TcpStream {
    fn poll_cut_short(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shutdown(cx)
    }
}

impl<T: Transport> Transport for TlsStream<T> {
    fn poll_cut_short(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().get_mut().0).poll_cut_short(cx)
    }
}
