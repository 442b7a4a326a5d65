//! Real handshakes between the parts of Nullius, and with those who pretend to be one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod agents;
mod cluster;
mod issuer;
mod public;
mod webhook;
mod world;
