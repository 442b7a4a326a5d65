//! Who leads among the replicas of `agent control`: what nobody ordered (clearing what is half made, overdue or unused)
//! is done by the leader alone, and the hub gives its orders to the replica with the highest term.
//!
//! A leader that cannot renew stops before another may begin: it counts from when it asked.

use std::{sync::Arc, time::Duration};

use nullius_kube::{LEADER_LEASE, Leadership};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Core;
use crate::{AgentError, backoff::random};

const ROUND: Duration = Duration::from_secs(2);
const ROUND_TIMEOUT: Duration = Duration::from_secs(3);
/// A leader counts itself one for so long after it asked: less than the Lease, for what is under way.
const LEADS: Duration = LEADER_LEASE.saturating_sub(Duration::from_secs(3));

/// Contends until it is told to stop, then gives way at once.
pub(crate) async fn run(
    core: Arc<Core>,
    mut leadership: Leadership,
    stop: CancellationToken,
) -> Result<(), AgentError> {
    let mut until = Instant::now();
    while !stop.is_cancelled() {
        let asked = Instant::now();
        match tokio::time::timeout(ROUND_TIMEOUT, leadership.contend()).await {
            Ok(Ok(Some(term))) => {
                until = asked + LEADS;
                lead(&core, term).await;
            }
            Ok(Ok(None)) => core.follow("another replica leads"),
            Ok(Err(error)) => tracing::debug!(%error, "cannot ask who leads, try again"),
            Err(_) => tracing::debug!("nobody says in time who leads, try again"),
        }
        if Instant::now() >= until {
            core.follow("the lease could not be renewed");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(ROUND + Duration::from_millis(random() % 500)) => {}
        }
    }
    core.follow("the agent stops");
    // Another replica finds out by itself, a little later.
    let _ = tokio::time::timeout(ROUND_TIMEOUT, leadership.release()).await;
    Ok(())
}

/// Sees what stands before it says that it leads.
async fn lead(core: &Arc<Core>, term: u64) {
    if core.state.borrow().term == Some(term) {
        return;
    }
    if let Err(error) = core.take_lead().await {
        tracing::warn!(%error, "cannot see what stands, so do not lead yet");
        return;
    }
    core.state.send_modify(|state| state.term = Some(term));
    tracing::info!(term, "lead the replicas of this cluster");
}

impl Core {
    /// Whether this replica does what nobody ordered.
    pub(crate) fn leads(&self) -> bool {
        self.state.borrow().term.is_some()
    }

    fn follow(&self, why: &'static str) {
        let changed = self.state.send_if_modified(|state| state.term.take().is_some());
        if changed {
            tracing::info!(why, "do not lead any more");
        }
    }
}
