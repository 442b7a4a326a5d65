//! Bytes both ways, each direction ending by itself.
//!
//! An end is passed on as an end and a break as a break: a half-closed side goes on in the other direction for as long as it
//! likes, and nothing that was cut off looks whole. Buffers begin small, since most connections are quiet, and grow with what
//! passes. Nothing is allocated for what is copied, but for the pieces that HTTP/2 still holds.

use std::{
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How large a buffer is once so many bytes have passed.
const SIZES: [(u64, usize); 3] = [(10 << 20, 256 << 10), (128 << 10, 16 << 10), (0, 1 << 10)];

/// How many bytes have passed.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) to_destination: AtomicU64,
    pub(crate) to_source: AtomicU64,
}

/// Which side broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broke {
    /// The plain one, on this machine.
    Local,
    /// The one in the mesh.
    Mesh,
}

fn size_after(moved: u64) -> usize {
    SIZES.iter().find(|(from, _)| moved >= *from).map_or(1 << 10, |(_, size)| *size)
}

/// A plain connection joined to an HTTP/2 stream.
pub(crate) struct StreamCopy<'a, L> {
    local: &'a mut L,
    send: &'a mut SendStream<Bytes>,
    recv: &'a mut RecvStream,
    out: OutOf<'a>,
    into: IntoLocal<'a>,
}

/// From the plain connection into the stream.
struct OutOf<'a> {
    buffer: BytesMut,
    piece: Bytes,
    is_done: bool,
    /// Nobody reads any more at the other end.
    is_unheard: bool,
    moved: &'a AtomicU64,
}

/// From the stream into the plain connection.
struct IntoLocal<'a> {
    piece: Bytes,
    has_ended: bool,
    is_done: bool,
    moved: &'a AtomicU64,
}

impl<'a, L: AsyncRead + AsyncWrite + Unpin> StreamCopy<'a, L> {
    /// Joins them; what was moved out of and into the plain connection is counted.
    pub(crate) fn new(
        local: &'a mut L,
        send: &'a mut SendStream<Bytes>,
        recv: &'a mut RecvStream,
        out: &'a AtomicU64,
        into: &'a AtomicU64,
    ) -> Self {
        let (buffer, piece) = (BytesMut::new(), Bytes::new());
        let out = OutOf { buffer, piece, is_done: false, is_unheard: false, moved: out };
        let into = IntoLocal { piece: Bytes::new(), has_ended: false, is_done: false, moved: into };
        Self { local, send, recv, out, into }
    }
}

impl<L: AsyncRead + AsyncWrite + Unpin> Future for StreamCopy<'_, L> {
    type Output = Result<(), Broke>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        let this = self.get_mut();
        if let Poll::Ready(Err(broke)) = this.into.poll(this.local, this.recv, cx) {
            return Poll::Ready(Err(broke));
        }
        if let Poll::Ready(Err(broke)) = this.out.poll(this.local, this.send, cx) {
            return Poll::Ready(Err(broke));
        }
        // A reset is told by what arrives, as long as anything can.
        if this.into.has_ended
            && !this.out.is_done
            && !this.out.is_unheard
            && let Poll::Ready(reset) = this.send.poll_reset(cx)
        {
            match reset {
                // The other side has said everything and hears nothing any more (RFC 9113, section 8.1): what it said is to arrive.
                Ok(Reason::NO_ERROR) => {
                    this.out.is_unheard = true;
                    if let Poll::Ready(Err(broke)) = this.out.poll(this.local, this.send, cx) {
                        return Poll::Ready(Err(broke));
                    }
                }
                Ok(_) | Err(_) => return Poll::Ready(Err(Broke::Mesh)),
            }
        }
        match (this.out.is_done, this.into.is_done) {
            (true, true) => Poll::Ready(Ok(())),
            (false, _) | (_, false) => Poll::Pending,
        }
    }
}

impl OutOf<'_> {
    fn poll<L: AsyncRead + Unpin>(
        &mut self,
        local: &mut L,
        send: &mut SendStream<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broke>> {
        while !self.is_done {
            while !self.piece.is_empty() {
                if send.capacity() == 0 {
                    send.reserve_capacity(self.piece.len());
                    // What capacity there is by now is asked again, not what this tells.
                    if send.capacity() == 0 {
                        match ready!(send.poll_capacity(cx)) {
                            Some(Ok(_)) => {}
                            Some(Err(_)) | None => return Poll::Ready(Err(Broke::Mesh)),
                        }
                        continue;
                    }
                }
                let room = send.capacity().min(self.piece.len());
                let sent = send.send_data(self.piece.split_to(room), false);
                sent.map_err(|_| Broke::Mesh)?;
                self.moved.fetch_add(room as u64, Ordering::Relaxed);
            }
            let size = size_after(self.moved.load(Ordering::Relaxed));
            if self.buffer.capacity() < size / 2 {
                // Takes the memory back where all pieces of before are gone.
                self.buffer.reserve(size);
            }
            let read = ready!(tokio_util::io::poll_read_buf(Pin::new(local), cx, &mut self.buffer));
            match (read.map_err(|_| Broke::Local)?, self.is_unheard) {
                (0, true) => self.is_done = true,
                (_, true) => return Poll::Ready(Err(Broke::Mesh)),
                (0, false) => {
                    self.is_done = true;
                    send.send_data(Bytes::new(), true).map_err(|_| Broke::Mesh)?;
                }
                (_, false) => self.piece = self.buffer.split().freeze(),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl IntoLocal<'_> {
    fn poll<L: AsyncWrite + Unpin>(
        &mut self,
        local: &mut L,
        recv: &mut RecvStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broke>> {
        while !self.is_done {
            while !self.piece.is_empty() {
                let written = ready!(Pin::new(&mut *local).poll_write(cx, &self.piece));
                let written = written.map_err(|_| Broke::Local)?;
                if written == 0 {
                    return Poll::Ready(Err(Broke::Local));
                }
                self.piece.advance(written);
                // It is of the window, so that it can be given back.
                let _ = recv.flow_control().release_capacity(written);
                self.moved.fetch_add(written as u64, Ordering::Relaxed);
            }
            if self.has_ended {
                ready!(Pin::new(&mut *local).poll_shutdown(cx)).map_err(|_| Broke::Local)?;
                self.is_done = true;
                break;
            }
            match ready!(recv.poll_data(cx)) {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(_)) => return Poll::Ready(Err(Broke::Mesh)),
                None => self.has_ended = true,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Two byte streams joined.
pub(crate) struct PlainCopy<'a, L, M> {
    local: &'a mut L,
    mesh: &'a mut M,
    out: Pump<'a>,
    into: Pump<'a>,
}

/// One direction between byte streams.
struct Pump<'a> {
    buffer: Vec<u8>,
    filled: usize,
    written: usize,
    must_flush: bool,
    has_ended: bool,
    is_done: bool,
    moved: &'a AtomicU64,
}

/// Which end of a direction broke.
enum Broken {
    Reader,
    Writer,
}

impl<'a, L, M> PlainCopy<'a, L, M>
where
    L: AsyncRead + AsyncWrite + Unpin,
    M: AsyncRead + AsyncWrite + Unpin,
{
    /// Joins them; what was moved out of and into the plain connection is counted.
    pub(crate) fn new(
        local: &'a mut L,
        mesh: &'a mut M,
        out: &'a AtomicU64,
        into: &'a AtomicU64,
    ) -> Self {
        Self { local, mesh, out: Pump::new(out), into: Pump::new(into) }
    }
}

impl<L, M> Future for PlainCopy<'_, L, M>
where
    L: AsyncRead + AsyncWrite + Unpin,
    M: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Result<(), Broke>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        let this = self.get_mut();
        let broke = |local, mesh| {
            move |broken| match broken {
                Broken::Reader => local,
                Broken::Writer => mesh,
            }
        };
        let out = this.out.poll(this.local, this.mesh, cx);
        let out = out.map_err(broke(Broke::Local, Broke::Mesh))?;
        let into = this.into.poll(this.mesh, this.local, cx);
        let into = into.map_err(broke(Broke::Mesh, Broke::Local))?;
        match (out, into) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
        }
    }
}

impl<'a> Pump<'a> {
    fn new(moved: &'a AtomicU64) -> Self {
        let buffer = Vec::new();
        Self {
            buffer,
            filled: 0,
            written: 0,
            must_flush: false,
            has_ended: false,
            is_done: false,
            moved,
        }
    }

    fn poll<R, W>(
        &mut self,
        reader: &mut R,
        writer: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while !self.is_done {
            while let Some(rest) =
                self.buffer.get(self.written..self.filled).filter(|it| !it.is_empty())
            {
                let count = ready!(Pin::new(&mut *writer).poll_write(cx, rest));
                let count = count.map_err(|_| Broken::Writer)?;
                if count == 0 {
                    return Poll::Ready(Err(Broken::Writer));
                }
                self.written += count;
                self.must_flush = true;
                self.moved.fetch_add(count as u64, Ordering::Relaxed);
            }
            if self.has_ended {
                ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(|_| Broken::Writer)?;
                self.is_done = true;
                break;
            }
            let size = size_after(self.moved.load(Ordering::Relaxed));
            if self.buffer.len() < size {
                self.buffer = vec![0; size];
            }
            (self.filled, self.written) = (0, 0);
            let mut space = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut *reader).poll_read(cx, &mut space) {
                Poll::Ready(read) => {
                    read.map_err(|_| Broken::Reader)?;
                    self.filled = space.filled().len();
                    self.has_ended = self.filled == 0;
                }
                Poll::Pending => {
                    if self.must_flush {
                        ready!(Pin::new(&mut *writer).poll_flush(cx))
                            .map_err(|_| Broken::Writer)?;
                        self.must_flush = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
