//! The process at the other end of a socket, held so that no other can take its place.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::UnixStream,
};

use crate::procfs;

/// Bytes of a file of `/proc` that are read.
const FILE_MAX: u64 = 128 * 1024;

/// Why it is not known who calls.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// The process is gone, or its number is another's now.
    #[error("the process that connected is gone")]
    Gone,
    /// It cannot be looked at.
    #[error("cannot read `{what}` of the caller")]
    Unreadable {
        /// Which file of `/proc/PID`.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of another form.
    #[error("`{0}` of the caller is malformed")]
    Malformed(&'static str),
    /// The socket does not say who connected.
    #[error("the socket does not say who connected")]
    Nameless(#[source] io::Error),
}

/// The process that connected, as it was then.
pub(crate) struct Peer {
    /// Effective user and group at the time of the connection.
    pub(crate) owner: (u32, u32),
    /// `/proc/PID`: looked up in this, no other process of the same number is found.
    directory: OwnedFd,
    started: u64,
    /// Readable once the process has ended.
    descriptor: Option<AsyncFd<OwnedFd>>,
}

impl Peer {
    /// Holds whoever connected a socket; who got hold of the socket since then is not meant.
    pub(crate) fn of(stream: &UnixStream) -> Result<Self, PeerError> {
        let credentials = stream.peer_cred().map_err(PeerError::Nameless)?;
        let owner = (credentials.uid(), credentials.gid());
        match getsockopt(stream, PeerPidfd) {
            Ok(descriptor) => Self::of_descriptor(descriptor, owner),
            // Before Linux 6.5.
            Err(nix::errno::Errno::ENOPROTOOPT) => {
                let pid = credentials.pid().and_then(Pid::from_raw).ok_or(PeerError::Gone)?;
                Self::of_number(pid, owner)
            }
            Err(_) => Err(PeerError::Gone),
        }
    }

    /// From a descriptor, which is of one process for good.
    fn of_descriptor(descriptor: OwnedFd, owner: (u32, u32)) -> Result<Self, PeerError> {
        let told = format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd());
        let number = || {
            let text = std::fs::read_to_string(&told)
                .map_err(|source| PeerError::Unreadable { what: "fdinfo", source })?;
            procfs::process_of_descriptor(&text).and_then(Pid::from_raw).ok_or(PeerError::Gone)
        };
        let pid = number()?;
        let directory = directory(pid)?;
        // Still the same process: then the directory is its own.
        if number()? != pid {
            return Err(PeerError::Gone);
        }
        Self::new(directory, owner, Some(descriptor))
    }

    /// From a number, which may be another's when this process looks: what is found must have the owner that the socket names.
    pub(crate) fn of_number(pid: Pid, owner: (u32, u32)) -> Result<Self, PeerError> {
        let directory = directory(pid)?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok();
        let peer = Self::new(directory, owner, descriptor)?;
        let status = peer.read("status")?;
        match procfs::owner(&status) {
            Some(found) if found == owner => peer.still_there().map(|()| peer),
            _ => Err(PeerError::Gone),
        }
    }

    fn new(
        directory: OwnedFd,
        owner: (u32, u32),
        descriptor: Option<OwnedFd>,
    ) -> Result<Self, PeerError> {
        #[expect(
            deprecated,
            reason = "its successor is `unsafe` for descriptors that others could close; this one is owned"
        )]
        let watch = |descriptor| AsyncFd::with_interest(descriptor, Interest::READABLE);
        let descriptor = descriptor.map(watch).transpose().map_err(PeerError::Nameless)?;
        let mut peer = Self { owner, directory, started: 0, descriptor };
        peer.started = peer.stat()?.started;
        Ok(peer)
    }

    /// Fails once the process has ended.
    pub(crate) fn still_there(&self) -> Result<(), PeerError> {
        let stat = self.stat()?;
        match stat.is_alive && stat.started == self.started {
            true => Ok(()),
            false => Err(PeerError::Gone),
        }
    }

    /// Waits for the end of the process; where the kernel cannot tell, without end.
    pub(crate) async fn ended(&self) {
        match &self.descriptor {
            Some(descriptor) => drop(descriptor.readable().await),
            None => std::future::pending().await,
        }
    }

    /// `/proc/PID`.
    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// A file of `/proc/PID`.
    pub(crate) fn read(&self, what: &'static str) -> Result<String, PeerError> {
        let mut bytes = Vec::new();
        let read = self.open(what)?.take(FILE_MAX).read_to_end(&mut bytes);
        read.map_err(|source| unreadable(what, source))?;
        // Names of programs and cgroups may be any bytes.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file of `/proc/PID`, opened.
    pub(crate) fn open(&self, what: &'static str) -> Result<File, PeerError> {
        self.open_as(what, OFlags::RDONLY)
    }

    /// A file of `/proc/PID`, not opened: what it is can be asked, and nothing else.
    pub(crate) fn point_at(&self, what: &'static str) -> Result<File, PeerError> {
        self.open_as(what, OFlags::PATH)
    }

    fn open_as(&self, what: &'static str, flags: OFlags) -> Result<File, PeerError> {
        openat(&self.directory, what, flags | OFlags::CLOEXEC, Mode::empty())
            .map(File::from)
            .map_err(|errno| unreadable(what, errno.into()))
    }

    fn stat(&self) -> Result<procfs::Stat, PeerError> {
        procfs::stat(&self.read("stat")?).ok_or(PeerError::Malformed("stat"))
    }
}

fn directory(pid: Pid) -> Result<OwnedFd, PeerError> {
    let path = format!("/proc/{}", pid.as_raw_nonzero());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(|_| PeerError::Gone)
}

pub(crate) fn unreadable(what: &'static str, source: io::Error) -> PeerError {
    // A directory whose process has ended has no files any more.
    let is_gone = source.kind() == io::ErrorKind::NotFound
        || source.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error());
    match is_gone {
        true => PeerError::Gone,
        false => PeerError::Unreadable { what, source },
    }
}

#[cfg(test)]
mod tests;
