//! An endpoint to which a guest is led, and what the guest takes of it until it can have proven itself there.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use nullius_tls::tcp::reset_on_close;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
};

use crate::guests::Seat;

/// What a guest takes until it has answered what the endpoint has said to its client hello.
#[derive(Debug)]
pub(super) struct Waits {
    pub(super) _turn: OwnedSemaphorePermit,
    pub(super) _seat: Seat,
}

/// The connection to an endpoint that has heard a guest's client hello.
#[derive(Debug)]
pub(super) struct Endpoint {
    tcp: TcpStream,
    waits: Option<Waits>,
    has_answered: bool,
}

impl Endpoint {
    pub(super) fn new(tcp: TcpStream, waits: Waits) -> Self {
        Self { tcp, waits: Some(waits), has_answered: false }
    }

    /// Lets it end with a reset when it is dropped.
    pub(super) fn reset_on_close(&self) {
        reset_on_close(&self.tcp);
    }
}

impl AsyncRead for Endpoint {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buffer))?;
        self.has_answered |= buffer.filled().len() > before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endpoint {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.tcp).poll_write(cx, bytes))?;
        if self.has_answered && count > 0 {
            self.waits = None;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
