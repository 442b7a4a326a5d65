//! What the hub does for people and tools, apart from HTTP: each act takes plain values (who asks, on which occasion,
//! what they want) and gives a result or an error that says why not. Pages, API and the clock call them; none of them
//! knows who calls.
//!
//! * [`people`]: proving who somebody is, and what keeps that from being guessed.
//! * [`sessions`]: opened, renewed, stepped up, ended.
//! * [`logins`]: sign-ins that one program begins and a browser completes.
//! * [`enrol`]: setting the factors by a single-use link.
//! * [`federation`]: whom clusters believe beside each other.
//! * [`objects`]: fleet objects, read and changed.
//! * [`joins`]: ways for a cluster to come in.
//! * [`access`]: what somebody may do where, and why.
//! * [`trail`]: reading and proving the audit, and the uses.
//! * [`findings`]: what is not as it should be, for those who may see it.
//! * [`mesh`]: who called whom, likewise.
//! * [`identities`]: who has which workload identity, likewise.
//! * [`rotation`]: changes of the hub's own keys.
//!
//! Arrows among them point up this list only.

pub(crate) mod access;
pub(crate) mod enrol;
pub(crate) mod federation;
mod findings;
mod identities;
pub(crate) mod joins;
pub(crate) mod logins;
pub(crate) mod mesh;
pub(crate) mod objects;
pub(crate) mod people;
mod rotation;
pub(crate) mod sessions;
pub(crate) mod trail;
pub(crate) mod trust;
