//! Scans of files, and their reports.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

mod api_server;
mod decoded;
mod exceptions;
mod fuzz;
mod manifests;
mod piped;
mod policies;
mod practice;
mod properties;
mod proposed;
mod scan;
mod scan_policies;
mod standards;
mod state;
mod type_check;
