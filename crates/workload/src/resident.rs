//! A process of a pod that has connected to another socket than that of the Workload API: in which pod it runs, as the kernel says.

use std::io;

use tokio::net::UnixStream;

use crate::{
    attest::{AttestError, Attestor},
    cgroup::{Place, PodUid},
    peer::Peer,
};

/// Who connected, as long as they are there.
pub struct Resident {
    peer: Peer,
    pod: PodUid,
}

impl Resident {
    /// Looks at who is at the other end; nobody where that is no process in a container of a pod.
    pub fn of(stream: &UnixStream, attestor: &Attestor) -> io::Result<Option<Self>> {
        let look = || {
            let peer = Peer::of(stream)?;
            let place = attestor.place(&peer)?;
            peer.still_there()?;
            Ok(match place {
                Place::Pod { pod, .. } => Some(Self { peer, pod }),
                Place::Host | Place::OtherContainer => None,
            })
        };
        look().map_err(|error: AttestError| io::Error::other(error))
    }

    /// The pod in which they run.
    pub fn pod(&self) -> &PodUid {
        &self.pod
    }

    /// Resolves when they have ended, where the system can tell.
    pub async fn ended(&self) {
        self.peer.ended().await;
    }
}
