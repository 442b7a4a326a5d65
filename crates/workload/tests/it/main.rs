//! A node with a real authority, asked and attacked by real processes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test"
)]

mod api;
mod attacks;
mod envoy;
mod fuzz;

mod keep;
mod others;
mod pods;
mod sds;
mod world;
