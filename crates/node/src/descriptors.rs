//! Lines over a socket of this machine, with descriptors beside them.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::{io::Interest, net::UnixStream};

/// So many descriptors are beside one line at most.
pub(crate) const BESIDE_MAX: usize = 16;
/// Bytes that are received at once.
const PIECE: usize = 16 * 1024;

/// Sends some of these bytes, with descriptors beside the first.
pub(crate) fn send(
    stream: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BESIDE_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if descriptors.len() > BESIDE_MAX
        || !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors))
    {
        return Err(io::Error::other("there is no room for the descriptors"));
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL)?)
}

/// Receives some bytes, and descriptors beside them; those for which there is no room are closed by the kernel.
pub(crate) fn receive(stream: impl AsFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; PIECE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BESIDE_MAX))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(stream, into, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    bytes.truncate(received.bytes);
    Ok((bytes, descriptors))
}

/// A line that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Line {
    bytes: Vec<u8>,
    beside: Vec<OwnedFd>,
}

/// What a line came to.
#[derive(Debug)]
pub(crate) enum Gathered {
    /// The line without its end, and what came beside it.
    Whole(Vec<u8>, Vec<OwnedFd>),
    /// There is more to come.
    Part(Line),
}

impl Line {
    /// Takes a piece. Nobody says anything behind the end of a line before it is answered.
    pub(crate) fn take(
        mut self,
        bytes: &[u8],
        beside: Vec<OwnedFd>,
        most: usize,
    ) -> io::Result<Gathered> {
        self.bytes.extend(bytes);
        self.beside.extend(beside);
        if self.bytes.len() > most || self.beside.len() > BESIDE_MAX {
            return Err(io::Error::other("the line is too long"));
        }
        match self.bytes.strip_suffix(b"\n") {
            Some(line) => Ok(Gathered::Whole(line.to_vec(), self.beside)),
            None => Ok(Gathered::Part(self)),
        }
    }

    /// Receives until the line is whole.
    pub(crate) async fn rest(
        mut self,
        stream: &UnixStream,
        most: usize,
    ) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        loop {
            let (bytes, beside) = some(stream).await?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match self.take(&bytes, beside, most)? {
                Gathered::Whole(line, beside) => return Ok((line, beside)),
                Gathered::Part(part) => self = part,
            }
        }
    }
}

/// Receives what there is, as soon as there is something.
pub(crate) async fn some(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    stream.async_io(Interest::READABLE, || receive(stream)).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
    use std::os::{fd::AsFd as _, unix::net::UnixStream};

    use super::*;

    #[test]
    fn as_many_descriptors_as_may_come_with_their_line() {
        let (one, other) = UnixStream::pair().unwrap();
        let line = b"\"sockets\"\n";
        assert_eq!(send(&one, line, &[one.as_fd(); BESIDE_MAX]).unwrap(), line.len());
        let (bytes, descriptors) = receive(&other).unwrap();
        assert_eq!((bytes.as_slice(), descriptors.len()), (line.as_slice(), BESIDE_MAX));
        send(&one, line, &[one.as_fd(); BESIDE_MAX + 1]).unwrap_err();
    }

    #[test]
    fn a_line_ends_and_neither_it_nor_what_is_beside_it_goes_on_for_ever() {
        let descriptor = || vec![io::stdin().as_fd().try_clone_to_owned().unwrap()];
        let Gathered::Part(part) = Line::default().take(b"{", descriptor(), 3).unwrap() else {
            panic!("it has not ended");
        };
        let Gathered::Whole(line, beside) = part.take(b"}\n", descriptor(), 3).unwrap() else {
            panic!("it has ended");
        };
        assert_eq!((line.as_slice(), beside.len()), (b"{}".as_slice(), 2));
        Line::default().take(b"long", Vec::new(), 3).unwrap_err();
        let mut part = Line::default();
        for _ in 0..BESIDE_MAX {
            match part.take(b"", descriptor(), 3).unwrap() {
                Gathered::Part(more) => part = more,
                Gathered::Whole(..) => panic!("it has not ended"),
            }
        }
        part.take(b"", descriptor(), 3).unwrap_err();
    }
}
