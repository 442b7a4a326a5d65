//! The tasks as a newcomer meets them, on a machine that lacks something.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod generated;
mod newcomer;
