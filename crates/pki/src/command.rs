//! The check of a hub's command at `agent control`: for this cluster, fresh, and newer than all before.
//!
//! The highest revision is kept for each signing key of the key set, and what counts is the highest among the keys
//! that are trusted now. A hub that was set up anew thus begins anew with a new key set, and in no other way.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use nullius_model::{ClusterName, Command, Timestamp};

use crate::{CLOCK_SKEW, Verifier, VerifyError, jws::TokenKind};

/// The greatest age of a command, in seconds.
pub const COMMAND_MAX: i64 = 60;

/// Why a command is refused. All but `Token` mean that a hub's signature was right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The token itself is refused.
    #[error("the command is refused")]
    Token(#[from] VerifyError),
    /// For another cluster.
    #[error("the command is for cluster `{0}`")]
    Cluster(ClusterName),
    /// Given too long ago.
    #[error("the command was given {0} s ago; check the clocks of hub and cluster")]
    Expired(i64),
    /// Given in the future.
    #[error("the command was given {0} s in the future; check the clocks of hub and cluster")]
    Early(i64),
    /// Not newer than one that was accepted.
    #[error("the command has revision {found}; {known} was accepted before")]
    Replayed { known: u64, found: u64 },
}

/// Checks commands for one cluster.
pub struct CommandVerifier {
    verifier: Arc<Verifier>,
    cluster: ClusterName,
    highest: Mutex<BTreeMap<String, u64>>,
}

impl CommandVerifier {
    /// A verifier for the agent of a cluster.
    pub fn new(verifier: Arc<Verifier>, cluster: ClusterName) -> Self {
        Self { verifier, cluster, highest: Mutex::default() }
    }

    /// Accepts a command, once and in order.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Command, CommandError> {
        let (command, kid) = self.verifier.open::<Command>(token, TokenKind::Command, now)?;
        if command.cluster != self.cluster {
            return Err(CommandError::Cluster(command.cluster));
        }
        let age = now.as_second() - command.issued_at.as_second();
        if age < -CLOCK_SKEW.as_secs() {
            return Err(CommandError::Early(-age));
        }
        if age > COMMAND_MAX + CLOCK_SKEW.as_secs() {
            return Err(CommandError::Expired(age));
        }
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        highest.retain(|kid, _| self.verifier.knows(kid));
        let known = highest.values().copied().max();
        if let Some(known) = known.filter(|known| command.revision <= *known) {
            return Err(CommandError::Replayed { known, found: command.revision });
        }
        highest.insert(kid, command.revision);
        Ok(command)
    }
}

#[cfg(test)]
mod tests;
