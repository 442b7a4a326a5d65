//! The host's own namespaces, entered from within a container.
//!
//! A thread that entered is used up: what it did must not change where others look.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    sync::Arc,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
    sys::socket::{getsockopt, sockopt::PeerPidfd},
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;

use crate::NodeError;

/// The root of the host's files: process 1 is the host's (`hostPID`).
pub(crate) const ROOT: &str = "/proc/1/root";
const CGROUPS: &str = "/proc/1/ns/cgroup";
/// The number of the first cgroup namespace, in which a system begins (`PROC_CGROUP_INIT_INO` of Linux).
const FIRST_CGROUPS: u64 = 0xEFFF_FFFB;

/// Enters the cgroup namespace of the host, where a container has one of its own: only there `/proc/PID/cgroup` names the cgroups
/// of others as they are. It counts for this thread and those that begin later: call it before any other begins.
pub fn enter_cgroups() -> Result<(), NodeError> {
    let enter = || {
        let own = fs::metadata("/proc/self/ns/cgroup")?;
        if own.ino() == FIRST_CGROUPS {
            return Ok(());
        }
        let host = fs::metadata(CGROUPS)?;
        match (own.dev(), own.ino()) == (host.dev(), host.ino()) {
            true => Ok(()),
            false => Ok(setns(File::open(CGROUPS)?, CloneFlags::CLONE_NEWCGROUP)?),
        }
    };
    enter().map_err(NodeError::Cgroups)
}

/// The process at the other end of a socket: whoever asks for a mount means the place that they see.
#[derive(Debug, Clone)]
pub(crate) struct Asker(Arc<OwnedFd>);

impl Asker {
    pub(crate) fn of(stream: &UnixStream) -> io::Result<Self> {
        match getsockopt(stream, PeerPidfd) {
            Ok(descriptor) => Ok(Self(descriptor.into())),
            // Before Linux 6.5. Only root reaches the sockets on which this is asked.
            Err(Errno::ENOPROTOOPT) => {
                let pid = stream.peer_cred()?.pid().and_then(Pid::from_raw);
                let pid = pid.ok_or_else(|| io::Error::other("the caller has no number here"))?;
                Ok(Self(pidfd_open(pid, PidfdFlags::empty())?.into()))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Does something in their mount namespace, on a thread of its own.
    pub(crate) async fn in_mounts<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let asker = Arc::clone(&self.0);
        let enter_and_work = move || {
            // Root and working directory are shared by all threads, until one has its own.
            unshare(CloneFlags::CLONE_FS)?;
            setns(asker.as_fd(), CloneFlags::CLONE_NEWNS)?;
            work()
        };
        std::thread::Builder::new().name("mounts".to_owned()).spawn(move || {
            let _ = tell.send(enter_and_work());
        })?;
        told.await.map_err(|_| io::Error::other("the thread that mounts has ended"))?
    }
}
