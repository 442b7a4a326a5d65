//! Why a node cannot go on.

use std::{io, net::SocketAddr, path::PathBuf};

/// Why a node ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An address that cannot be listened on.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A socket that cannot be made.
    #[error("cannot make the socket `{path}`")]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder of what is remembered cannot be used.
    #[error("cannot use the folder `{path}`")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What a machine was given to join with cannot be used.
    #[error("the join file `{path}` cannot be used: {why}")]
    JoinFile {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The agent lets the machine not join.
    #[error("this machine cannot join: {0}")]
    Join(String),
    /// The host's cgroups cannot be seen.
    #[error(
        "cannot enter the cgroup namespace of the host; the node runs with `hostPID` and the capabilities SYS_ADMIN and SYS_PTRACE"
    )]
    Cgroups(#[source] io::Error),
    /// A task that should go on has ended.
    #[error("the task `{0}` has ended by itself")]
    Ended(&'static str),
}
