//! Why an agent cannot go on.

use std::net::SocketAddr;

use nullius_kube::{ApplyError, ConnectError, KubeError};

use crate::identity::EnrolError;

/// Why an agent ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The settings contradict each other.
    #[error("the agent's settings cannot be used: {0}")]
    Settings(String),
    /// TLS cannot be set up.
    #[error("the agent's tls cannot be set up")]
    Tls(#[from] nullius_tls::TlsError),
    /// A pinned key is none.
    #[error("the pinned key of the hub cannot be used")]
    Key(#[from] nullius_pki::KeyError),
    /// The cluster did not do what the agent needs.
    #[error("the cluster does not let the agent work")]
    Kube(#[from] KubeError),
    /// The API server cannot be addressed.
    #[error("the agent has no way to the cluster")]
    Connect(#[from] ConnectError),
    /// The join manifest was not applied.
    #[error("the agent's accounts could not be made")]
    Apply(#[from] ApplyError),
    /// The hub does not take this agent.
    #[error("the agent did not get in at the hub")]
    Enrol(#[from] EnrolError),
    /// An authority of the agent, or a certificate of it, cannot be made or used.
    #[error("the agent's own certificate cannot be made")]
    Authority(#[source] nullius_pki::RootError),
    /// An address cannot be listened on.
    #[error("cannot listen on `{address}`")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    /// A part of the agent ended that must not.
    #[error("the agent's task `{0}` ended by itself")]
    Ended(&'static str),
}

impl AgentError {
    /// The error with all its causes in one line.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error with all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Whoever was told to stop while it still waited for the hub has not failed.
pub(crate) fn unless_stopped(ended: Result<(), AgentError>) -> Result<(), AgentError> {
    match ended {
        Err(AgentError::Enrol(EnrolError::Stopped)) => Ok(()),
        ended => ended,
    }
}
