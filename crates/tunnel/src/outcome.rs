//! What the audit wants to know of a forwarded request: who answered, how it ended, how much was sent.

use std::fmt;

use crate::live::WhyCut;

/// Who made an answer; in the extensions of each response of the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredBy {
    /// The hub refused, or could not reach an agent.
    Hub,
    /// The agent refused, or could not reach the API server.
    Agent,
    /// The cluster's API server.
    ApiServer,
}

/// How a forwarded request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// All was sent, or both sides of a pipe closed it.
    Finished,
    /// The hub answered it itself, with a refusal.
    Refused,
    /// Its session, cluster or permission ended.
    Cut,
    /// Its session left more unread than it may.
    Unread,
    /// The client went away first.
    ClientGone,
    /// The API server's connection broke after it had agreed to an upgrade; the client has all that came before.
    ServerGone,
    /// Agent or API server broke it off.
    Broken(String),
}

impl From<WhyCut> for Ended {
    fn from(why: WhyCut) -> Self {
        match why {
            WhyCut::Ended => Self::Cut,
            WhyCut::Unread => Self::Unread,
        }
    }
}

/// The end of a request, told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub ended: Ended,
    /// Bytes of body, or of the pipe, that went to the client.
    pub to_client: u64,
}

/// Called once when a forwarded request has ended.
pub type OnEnd = Box<dyn FnOnce(Report) + Send>;

/// Counts what goes out and tells the end, also when it is dropped.
pub(crate) struct Watcher {
    on_end: Option<OnEnd>,
    to_client: u64,
}

impl Watcher {
    pub(crate) fn new(on_end: OnEnd) -> Self {
        Self { on_end: Some(on_end), to_client: 0 }
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        self.to_client += bytes;
    }

    pub(crate) fn ended(mut self, ended: Ended) {
        self.tell(ended);
    }

    fn tell(&mut self, ended: Ended) {
        if let Some(on_end) = self.on_end.take() {
            on_end(Report { ended, to_client: self.to_client });
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.tell(Ended::ClientGone);
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("to_client", &self.to_client).finish_non_exhaustive()
    }
}
