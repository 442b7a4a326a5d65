//! Proxies against each other and against clients that are not ours, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod apis;
mod attacks;
mod calls;
mod captured;
mod captured_attacks;
mod changes;
mod floods;
mod fuzz;
mod gateways;
mod limits;
mod pods;
mod requests;
mod tokens;
mod world;
