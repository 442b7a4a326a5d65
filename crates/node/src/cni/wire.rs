//! What the plugin asks the node: one line of JSON, with the network's descriptor beside it, and one line back.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::request::Pod;

/// The longest line.
pub(super) const MOST: usize = 256 * 1024;

/// A question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Question {
    /// A pod has got its network, whose descriptor comes with this: may it begin?
    Add {
        /// Which pod.
        pod: Pod,
        /// The container that holds its network.
        container: String,
        /// The addresses that it has got.
        addresses: Vec<IpAddr>,
    },
    /// Is it still as it was left?
    Check { container: String },
    /// It is gone.
    Delete { container: String },
    /// All that are there; others are gone.
    Keep { containers: Vec<String> },
    /// Would an answer to `Add` come?
    Status,
}

/// The node's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Answer {
    /// It is so.
    Done,
    /// Not yet: ask again.
    Later(String),
    /// It is not so.
    Refused(String),
}
