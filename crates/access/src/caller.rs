//! Who asks: a person with a session, or the hub itself, each a type of its own.

use std::net::IpAddr;

use nullius_model::{Identity, Principal};

/// A person who asks, and where from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller<'a> {
    /// Proven identity and session.
    pub identity: &'a Identity,
    /// Address of the client.
    pub source: Option<IpAddr>,
}

impl<'a> Caller<'a> {
    /// A caller whose address is not known.
    pub fn new(identity: &'a Identity) -> Self {
        Self { identity, source: None }
    }

    /// The caller as a principal of the audit.
    pub fn principal(&self) -> Principal {
        Principal::Person { user: self.identity.user.clone() }
    }
}

/// The hub acting for itself, without any person; it can never be made from what came over a wire.
#[derive(Debug, PartialEq, Eq)]
pub struct HubProcess {
    task: HubTask,
}

/// What the hub does for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HubTask {
    /// Makes the first objects of an empty store.
    FirstStart,
    /// Records what it learned (statuses) and removes what has expired.
    Upkeep,
}

impl HubProcess {
    /// The hub, doing this task.
    pub const fn doing(task: HubTask) -> Self {
        Self { task }
    }

    /// The task.
    pub const fn task(&self) -> HubTask {
        self.task
    }
}
