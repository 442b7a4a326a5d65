//! What a proxy beside a pod's containers and its node say to each other: a line of JSON each way, with descriptors beside it; and
//! news, in frames.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use nullius_mesh::{Caller, news::NEWS_MAX};
use serde::{Deserialize, Serialize};

use crate::descriptors::BESIDE_MAX;

/// The longest line.
pub(crate) const LINE_MAX: usize = 4 * 1024;
/// Sockets that get their rights at once.
pub(crate) const BATCH: usize = BESIDE_MAX;
/// The longest frame.
pub(crate) const FRAME_MAX: usize = NEWS_MAX;
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
    /// Rights for the sockets beside this, which the proxy has made for calls and not used yet.
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
    /// The sockets have their rights.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
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
}
