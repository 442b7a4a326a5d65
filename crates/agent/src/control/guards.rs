//! Whether the cluster still narrows what the agent may do: the admission policies of the join manifest are tried
//! again and again, and the ceiling is read. While a policy does not answer no session is made; what stands goes on.

use std::{sync::Arc, time::Duration};

use nullius_kube::{CeilingReader, Guards, KubeError};

use super::Core;
use crate::{alarm::AlarmKind, backoff::random};

/// Between two proofs; the last third is chance, so that a thousand agents do not ask at once.
const EVERY: Duration = Duration::from_secs(15);
/// The same while a policy is missing: whoever puts it back does not wait.
const SOON: Duration = Duration::from_secs(2);

/// How the cluster bounds the agent, as the hub is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct State {
    /// What is missing and what to do; none while every policy answers.
    pub(crate) unguarded: Option<String>,
    /// The ClusterRole that is the ceiling in the cluster, where it can be read.
    pub(crate) ceiling: Option<String>,
    /// The term in which this replica leads; none where it does not.
    pub(crate) term: Option<u64>,
}

/// Looks for as long as the process lives.
pub(crate) async fn watch(core: Arc<Core>, guards: Guards, ceiling: CeilingReader) {
    loop {
        let every = if core.state.borrow().unguarded.is_some() { SOON } else { EVERY };
        tokio::time::sleep(jittered(every, random())).await;
        core.note_guards(guards.prove().await);
        core.note_ceiling(ceiling.read().await);
    }
}

impl Core {
    /// Takes the outcome of a proof; one that could not be made leaves what was known.
    pub(crate) fn note_guards(&self, proven: Result<(), KubeError>) {
        let unguarded = match proven {
            Ok(()) => None,
            Err(error @ KubeError::Unguarded(_)) => Some(error.to_string()),
            Err(error) => {
                tracing::debug!(%error, "cannot prove the admission policies, try again");
                return;
            }
        };
        let changed = self.state.send_if_modified(|state| {
            let changed = state.unguarded != unguarded;
            state.unguarded.clone_from(&unguarded);
            changed
        });
        match unguarded {
            Some(why) if changed => self.alarms.raise(AlarmKind::Unguarded, &why),
            None if changed => tracing::info!("all admission policies are in force again"),
            Some(_) | None => {}
        }
    }

    /// Takes what the ceiling is.
    pub(crate) fn note_ceiling(&self, read: Result<Option<String>, KubeError>) {
        let Ok(ceiling) = read else { return };
        self.state.send_if_modified(|state| {
            let changed = state.ceiling != ceiling;
            state.ceiling = ceiling;
            changed
        });
    }

    /// Why no session may be made now.
    pub(crate) fn unguarded(&self) -> Option<String> {
        self.state.borrow().unguarded.clone()
    }
}

/// Two thirds of it at least.
fn jittered(every: Duration, random: u64) -> Duration {
    let chance = u64::try_from((every / 3).as_millis()).unwrap_or(u64::MAX).max(1);
    every * 2 / 3 + Duration::from_millis(random % chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_are_spread_and_never_rarer_than_said() {
        for chance in [0, 1, 4_999, u64::MAX] {
            let wait = jittered(EVERY, chance);
            assert!(wait >= Duration::from_secs(10) && wait <= EVERY, "{wait:?}");
        }
    }
}
