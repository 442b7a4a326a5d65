//! What waits to be told to the hub: bounded, kept while the hub is away, and loss is said.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use nullius_proto::agent_v1::{AgentMessage, agent_message::Kind};
use tokio::sync::mpsc;

const ROOM: usize = 1_024;

/// Where messages for the hub are put.
#[derive(Clone)]
pub(crate) struct Outbox {
    out: mpsc::Sender<AgentMessage>,
    lost: Arc<AtomicU64>,
}

impl Outbox {
    pub(crate) fn new() -> (Self, mpsc::Receiver<AgentMessage>) {
        let (out, outgoing) = mpsc::channel(ROOM);
        (Self { out, lost: Arc::default() }, outgoing)
    }

    /// Puts a message behind the others; when there is no room it is lost, counted and logged.
    pub(crate) fn send(&self, kind: Kind) {
        if self.out.try_send(AgentMessage { kind: Some(kind) }).is_err() {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(lost, "lose message to the hub, too many wait");
        }
    }
}
