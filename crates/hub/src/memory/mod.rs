//! What the hub remembers in this process alone. The store holds of it what must outlive the process; nothing here
//! knows of the hub, so that every act may use it.

pub(crate) mod credentials;
pub(crate) mod devices;
pub(crate) mod enrolments;
pub(crate) mod lockouts;
pub(crate) mod repairs;
pub(crate) mod sessions;
pub(crate) mod usage;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use nullius_model::SessionId;

use self::{
    credentials::{BrowserSessions, VerifiedTokens},
    devices::DeviceLogins,
    enrolments::Enrolments,
    lockouts::Lockouts,
    repairs::Repairs,
    sessions::SessionEndCause,
};

/// What acts remember of people; empty at each start. Live sessions and uses, which everything asks for, stand in the
/// hub beside it.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) verified: VerifiedTokens,
    pub(crate) browser_sessions: BrowserSessions,
    pub(crate) devices: DeviceLogins,
    pub(crate) enrolments: Enrolments,
    pub(crate) lockouts: Lockouts,
    pub(crate) repairs: Repairs,
    /// Ends of sessions that could not be stored yet.
    pub(crate) unrecorded_ends: Mutex<BTreeMap<SessionId, SessionEndCause>>,
    /// Sessions whose credentials go, though it could not be noted yet that they must.
    pub(crate) unnoted_flushes: Mutex<BTreeSet<SessionId>>,
}
