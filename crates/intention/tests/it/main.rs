//! Intentions from the outside: what is read, in which order rules decide, which attacks fail, and what always holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod api;
mod attacks;
mod consul;
mod costs;
mod fuzz;
mod istio;
mod order;
mod properties;
mod reading;
mod requests;
mod world;
