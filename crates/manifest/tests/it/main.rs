//! Files as people and attackers leave them, and any text at all.

#![allow(clippy::unwrap_used, reason = "test")]

mod intake;
mod properties;
