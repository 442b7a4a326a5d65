//! What processes hand over beside their bytes, wanted or not: it is received whole, and closed on a thread of its own.
//!
//! To close a descriptor of another's may take hours: a TCP socket lingers while its peer does not read, a file of FUSE or NFS is flushed by
//! whoever serves it. What has no room in a receiver, or stands unread in a stream that is closed, is closed by the thread that does so. So
//! there is always room here, streams are emptied before they are closed, and who keeps a thread waiting keeps the place that they were given.

use std::{
    any::Any,
    io::{self, IoSlice, IoSliceMut},
    mem::{ManuallyDrop, MaybeUninit},
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, Shutdown, recv, recvmsg,
    shutdown, sockopt,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{UnixListener, UnixStream},
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;

/// So many descriptors are beside one message at most, says Linux (`SCM_MAX_FD`).
const ROOM: usize = 253;
/// Bytes that are received at once.
const PIECE: usize = 16 * 1024;
/// A thread that closes needs little.
const STACK: usize = 128 * 1024;

/// What somebody takes up, given back when it is dropped.
pub type Kept = Arc<dyn Any + Send + Sync>;

/// Receives some bytes, and what is beside them.
pub fn receive(
    stream: impl AsFd,
    bytes: &mut [u8],
    handed: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ROOM))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(bytes)];
    let received = recvmsg(stream, into, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            handed.extend(some);
        }
    }
    match received.flags.contains(ReturnFlags::CTRUNC) {
        true => Err(io::Error::other("this process has too many files open")),
        false => Ok(received.bytes),
    }
}

/// A stream of somebody who may hand over anything.
///
/// As a reader it takes no descriptors: who sends one has said all. However it is dropped, nobody waits for what was sent over it.
pub struct Guarded {
    stream: Arc<UnixStream>,
    place: Kept,
    handed: Vec<OwnedFd>,
    refused: CancellationToken,
}

impl Guarded {
    /// Guards a stream from its beginning on; the place is kept until all is closed.
    pub fn new(stream: UnixStream, place: Kept) -> io::Result<Self> {
        let stream = Arc::new(stream);
        // Otherwise a byte out of band is passed over, and what is beside it closed by who reads the next one.
        sockopt::set_socket_oobinline(&*stream, true)?;
        Ok(Self { stream, place, handed: Vec::new(), refused: CancellationToken::new() })
    }

    /// Keeps another place from now on, in place of the first.
    pub fn keep(&mut self, place: Kept) {
        self.place = place;
    }

    /// To write to, and to ask who is there. Nobody reads from it elsewhere.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Is cancelled when a descriptor came to a reader.
    pub(crate) fn refused(&self) -> CancellationToken {
        self.refused.clone()
    }

    /// Receives what there is, as soon as there is something, and keeps what is beside it; fails when that is more than so many by now.
    pub async fn receive(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; PIECE];
        let (stream, handed) = (&self.stream, &mut self.handed);
        let receiving =
            stream.async_io(Interest::READABLE, || receive(stream, &mut bytes, handed)).await;
        bytes.truncate(receiving?);
        match self.handed.len() > most {
            true => Err(io::Error::other("too many descriptors were handed over")),
            false => Ok(bytes),
        }
    }

    /// Resolves when something more is said, which is not read, or when it is the end.
    pub async fn said_more(&self) {
        // A look takes nothing: what is beside it stays beside it.
        let look = || Ok(recv(&*self.stream, &mut [0; 1], RecvFlags::PEEK)?);
        let _ = self.stream.async_io(Interest::READABLE, look).await;
    }

    /// What was handed over by now.
    pub fn handed(&mut self) -> Handed {
        Handed { all: std::mem::take(&mut self.handed), place: Arc::clone(&self.place) }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            ready!(this.stream.poll_read_ready(context))?;
            let (stream, handed) = (&this.stream, &mut this.handed);
            let into = buffer.initialize_unfilled();
            let read = stream.try_io(Interest::READABLE, || receive(stream, into, handed));
            if !this.handed.is_empty() {
                this.refused.cancel();
                return Poll::Ready(Err(io::Error::other("descriptors were handed over")));
            }
            match read {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Guarded {
    fn poll_try(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match write(&self.stream) {
                Err(error) if is_passing(&error) => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(context, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(&*self.stream, Shutdown::Write)?))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // From now on nothing is added to what stands in it.
        let _ = shutdown(&*self.stream, Shutdown::Both);
        let mut handed = std::mem::take(&mut self.handed);
        if !handed.is_empty() || !empty(&self.stream, |some| handed.extend(some)) {
            aside(Some(Arc::clone(&self.stream)), handed, Arc::clone(&self.place), None);
        }
    }
}

/// What somebody has handed over.
pub struct Handed {
    all: Vec<OwnedFd>,
    place: Kept,
}

impl Handed {
    /// All of it.
    pub fn all(&self) -> &[OwnedFd] {
        &self.all
    }

    /// The one that was handed over; nothing where it is none or not the only one.
    pub fn only(mut self) -> Option<OwnedFd> {
        if self.all.len() == 1 { self.all.pop() } else { None }
    }

    /// Closes it, and waits for that: whoever goes on before has more threads wait than places.
    pub async fn close(mut self) {
        if let Some(closed) = self.begin() {
            // It is dropped when all is closed.
            let _ = closed.await;
        }
    }

    fn begin(&mut self) -> Option<oneshot::Receiver<()>> {
        let all = std::mem::take(&mut self.all);
        if all.is_empty() {
            return None;
        }
        let (closing, closed) = oneshot::channel();
        aside(None, all, Arc::clone(&self.place), Some(closing));
        Some(closed)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        let _ = self.begin();
    }
}

/// Closes a listener with those whom nobody has accepted, and waits for none of them.
pub fn close_listener(listener: UnixListener) {
    on_a_thread(listener, drop);
}

/// Closes all of it on a thread of its own, and gives the place back then.
fn aside(
    stream: Option<Arc<UnixStream>>,
    handed: Vec<OwnedFd>,
    place: Kept,
    closing: Option<oneshot::Sender<()>>,
) {
    on_a_thread((stream, handed, place), |(stream, handed, place)| {
        close(handed);
        if let Some(stream) = stream {
            while !empty(&stream, close) {}
        }
        drop((place, closing));
    });
}

fn on_a_thread<T: Send + 'static>(all: T, close: impl FnOnce(T) + Send + 'static) {
    // Without a thread it stays open, and the place taken: that is better than to wait here.
    let held = ManuallyDrop::new(all);
    let begun = thread::Builder::new()
        .name("close".to_owned())
        .stack_size(STACK)
        .spawn(move || close(ManuallyDrop::into_inner(held)));
    if let Err(error) = begun {
        tracing::warn!(%error, "leave open what a process handed over: no thread begins");
    }
}

fn close(handed: Vec<OwnedFd>) {
    for one in handed {
        // It fails for what is no socket, and does not linger.
        let _ = sockopt::set_socket_linger(&one, None);
        drop(one);
    }
}

/// Takes what stands in a stream over which nothing comes any more, up to the next descriptors; says whether it is empty.
fn empty(stream: &UnixStream, take: impl FnOnce(Vec<OwnedFd>)) -> bool {
    let (mut bytes, mut handed) = (vec![0; PIECE], Vec::new());
    loop {
        let received = receive(stream, &mut bytes, &mut handed);
        if !handed.is_empty() {
            take(handed);
            return false;
        }
        match received {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if goes_on(&error) => {}
            Err(_) => return true,
        }
    }
}

/// An error that is told once, with more behind it: of what the peer left unread, or of descriptors for which this process has no room.
fn goes_on(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::Interrupted];
    error.raw_os_error().is_none() || kinds.contains(&error.kind())
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
