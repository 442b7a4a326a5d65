//! Scans of files, and their reports.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

mod api_server;
mod decoded;
mod manifests;
mod policies;
mod properties;
mod scan;
mod state;
