//! Proxies against each other and against clients that are not ours, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod attacks;
mod calls;
mod changes;
mod requests;
mod world;
