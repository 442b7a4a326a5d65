//! An HTTP/2 stream as a connection, and a look at how a connection begins.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use http::{HeaderMap, StatusCode};
use nullius_tls::Transport;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// How HTTP/2 begins, as far as no other request does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream of a tunnel.
pub(crate) struct StreamIo {
    send: SendStream<Bytes>,
    recv: Recv,
    piece: Bytes,
}

/// What comes of it.
enum Recv {
    /// What was asked is not answered yet.
    Asked(ResponseFuture, Answer),
    Stream(RecvStream),
}

/// The answer to what was asked, once it is there: for whoever has given the stream away.
pub(crate) type Answer = Arc<OnceLock<(StatusCode, HeaderMap)>>;

impl StreamIo {
    pub(crate) fn new(send: SendStream<Bytes>, recv: RecvStream) -> Self {
        Self { send, recv: Recv::Stream(recv), piece: Bytes::new() }
    }

    /// One that is written to before its CONNECT is answered; with any other answer than 200 it breaks.
    pub(crate) fn asked(send: SendStream<Bytes>, response: ResponseFuture) -> (Self, Answer) {
        let answer = Answer::default();
        let recv = Recv::Asked(response, Arc::clone(&answer));
        (Self { send, recv, piece: Bytes::new() }, answer)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match &mut self.recv {
                Recv::Stream(recv) => return recv.poll_data(cx).map_err(broken),
                Recv::Asked(response, answer) => {
                    let (head, recv) = match ready!(Pin::new(response).poll(cx)) {
                        Ok(response) => response.into_parts(),
                        Err(error) => return Poll::Ready(Some(Err(broken(error)))),
                    };
                    // It is asked once.
                    let _ = answer.set((head.status, head.headers));
                    if head.status != StatusCode::OK {
                        return Poll::Ready(Some(Err(io::ErrorKind::ConnectionRefused.into())));
                    }
                    self.recv = Recv::Stream(recv);
                }
            }
        }
    }

    /// It is of the window, so that it can be given back.
    fn release(&mut self, count: usize) {
        if let Recv::Stream(recv) = &mut self.recv {
            let _ = recv.flow_control().release_capacity(count);
        }
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl AsyncRead for StreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            match ready!(self.poll_piece(cx)) {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.piece.len().min(buffer.remaining());
        buffer.put_slice(self.piece.get(..count).unwrap_or_default());
        self.piece.advance(count);
        self.release(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        while self.send.capacity() == 0 {
            self.send.reserve_capacity(bytes.len());
            if self.send.capacity() > 0 {
                break;
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let count = self.send.capacity().min(bytes.len());
        let piece = Bytes::copy_from_slice(bytes.get(..count).unwrap_or_default());
        self.send.send_data(piece, false).map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A stream that is gone needs no end.
        let _ = self.send.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}

impl Transport for StreamIo {
    fn poll_cut_short(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send.send_reset(Reason::CANCEL);
        Poll::Ready(Ok(()))
    }
}

/// A connection that outlives whoever reads HTTP from it: hyper drops one that should have been upgraded without ending it, and
/// then what was written last would be lost with it.
pub(crate) struct Held<IO>(Arc<Mutex<IO>>);

impl<IO> Held<IO> {
    pub(crate) fn new(io: IO) -> Self {
        Self(Arc::new(Mutex::new(io)))
    }

    fn with<T>(&self, act: impl FnOnce(Pin<&mut IO>) -> T) -> T
    where
        IO: Unpin,
    {
        act(Pin::new(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl<IO> Clone for Held<IO> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Held<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|io| io.poll_read(cx, buffer))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Held<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|io| io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|io| io.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.with(|io| io.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|io| io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|io| io.poll_shutdown(cx))
    }
}

impl<IO: Transport> Transport for Held<IO> {
    fn poll_cut_short(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|io| io.poll_cut_short(cx))
    }
}

/// Versions of HTTP by how they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begins {
    Http1,
    Http2,
}

/// A connection of which the first bytes were looked at.
pub(crate) struct Seen<IO> {
    io: IO,
    first: Bytes,
}

/// Looks at how a connection begins; no byte is lost.
pub(crate) async fn see<IO: AsyncRead + Unpin>(mut io: IO) -> io::Result<(Seen<IO>, Begins)> {
    let mut first = Vec::with_capacity(PREFACE.len());
    let begins = loop {
        if first.len() == PREFACE.len() {
            break Begins::Http2;
        }
        if !PREFACE.starts_with(&first) {
            break Begins::Http1;
        }
        let mut byte = [0; 1];
        if io.read(&mut byte).await? == 0 {
            break Begins::Http1;
        }
        first.extend_from_slice(&byte);
    };
    Ok((Seen { io, first: first.into() }, begins))
}

impl<IO: AsyncRead + Unpin> AsyncRead for Seen<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let count = self.first.len().min(buffer.remaining());
        buffer.put_slice(self.first.get(..count).unwrap_or_default());
        self.first.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Seen<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<IO: Transport> Transport for Seen<IO> {
    fn poll_cut_short(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_cut_short(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[tokio::test]
    async fn a_beginning_is_told_without_losing_a_byte() {
        let preface = [PREFACE, b"rest"].concat();
        for (bytes, begins) in [
            (&b"GET / HTTP/1.1\r\n"[..], Begins::Http1),
            (b"PRI / HTTP/1.1\r\n", Begins::Http1),
            (b"P", Begins::Http1),
            (b"", Begins::Http1),
            (&preface, Begins::Http2),
        ] {
            let (mut seen, told) = see(bytes).await.unwrap();
            assert_eq!(told, begins, "{bytes:?}");
            let mut all = Vec::new();
            seen.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, bytes);
        }
    }
}
