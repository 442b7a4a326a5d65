//! The tunnel from client to API server, over real sockets and TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod api;
mod attacks;
mod client;
mod cuts;
mod fetch;
mod forged;
mod limits;
mod links;
mod plain;
mod upgrades;
mod world;
