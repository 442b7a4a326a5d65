//! What a proxy beside a pod's containers and its node say to each other: a line of JSON each way, with descriptors beside the answer; and
//! news, in frames.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nullius_mesh::Caller;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// The longest line.
pub(crate) const LINE_MAX: usize = 4 * 1024;
/// Sockets that are handed over at once.
pub(crate) const BATCH: usize = 16;
/// The longest frame: all that stands in a cluster.
pub(crate) const FRAME_MAX: usize = 512 * 1024 * 1024;
/// A frame about the pod and its node, in JSON.
pub(crate) const OF_POD: u8 = 0;
/// A frame with news (`MeshNews`).
pub(crate) const OF_MESH: u8 = 1;

/// A question of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Ask {
    /// Whose proxy it is and what stands in the mesh, from now on; nothing else is asked on the connection then.
    News,
    /// The sockets to which the pod's traffic is led.
    Listeners,
    /// Some for calls, not connected.
    Sockets { side: Side, family: Family },
    /// Who of the node has called from one address to another?
    Caller { client: SocketAddr, at: SocketAddr },
}

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    /// To the outside, past the rules.
    Out,
    /// To the application, in the name of a client.
    In,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// The node's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Answer {
    /// News follow.
    News,
    /// Listeners are beside this: so many for what comes to the pod, the rest for what it sends.
    Listeners { inbound: usize },
    /// Sockets are beside this.
    Sockets,
    /// Who has called.
    Caller(Called),
    /// Not yet: ask again.
    Later(String),
    /// Never, as things stand.
    Refused(String),
}

/// Who of a node has called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Called {
    Root,
    Left,
    Unknown,
}

impl From<Caller> for Called {
    fn from(caller: Caller) -> Self {
        match caller {
            Caller::Root => Self::Root,
            Caller::Left => Self::Left,
            Caller::Unknown => Self::Unknown,
        }
    }
}

impl From<Called> for Caller {
    fn from(called: Called) -> Self {
        match called {
            Called::Root => Self::Root,
            Called::Left => Self::Left,
            Called::Unknown => Self::Unknown,
        }
    }
}

/// What a proxy must know beside the news.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OwnPod {
    /// The pod's UID.
    pub(crate) uid: String,
    /// `NAMESPACE/NAME`, as the access log calls it.
    pub(crate) name: String,
    /// The node's name.
    pub(crate) node: String,
    /// The addresses that the pod was given when it began, where the node knows them.
    pub(crate) addresses: Vec<IpAddr>,
    /// The node's own.
    pub(crate) node_addresses: Vec<IpAddr>,
}

pub(crate) fn line(of: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(of)?;
    line.push(b'\n');
    Ok(line)
}

/// Sends some of these bytes, with descriptors beside the first.
pub(crate) fn send(
    stream: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("there is no room for the descriptors"));
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL)?)
}

/// Receives some bytes, and descriptors beside them.
pub(crate) fn receive(stream: impl AsFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; LINE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::{os::fd::AsFd as _, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn questions_are_lines_and_what_is_no_question_is_none() {
        let of = |text: &str| serde_json::from_str::<Ask>(text);
        assert_eq!(of(r#""news""#).unwrap(), Ask::News);
        let sockets = Ask::Sockets { side: Side::In, family: Family::V6 };
        assert_eq!(of(r#"{"sockets":{"side":"in","family":"v6"}}"#).unwrap(), sockets);
        assert!(line(&sockets).unwrap().ends_with(b"}}\n"));
        for wrong in [
            "",
            "{}",
            r#""marks""#,
            r#"{"sockets":{"side":"in","family":"v6","mark":7}}"#,
            r#"{"sockets":{"side":"raw","family":"v6"}}"#,
            r#"{"caller":{"client":"10.0.0.1","at":"10.0.0.2:1"}}"#,
        ] {
            of(wrong).unwrap_err();
        }
    }

    #[test]
    fn a_whole_batch_of_descriptors_comes_with_its_answer() {
        let (one, other) = UnixStream::pair().unwrap();
        let line = line(&Answer::Sockets).unwrap();
        assert_eq!(send(&one, &line, &[one.as_fd(); BATCH]).unwrap(), line.len());
        let (bytes, descriptors) = receive(&other).unwrap();
        assert_eq!((bytes, descriptors.len()), (line, BATCH));
    }
}
