//! Scans of files, and their reports.

#![allow(clippy::unwrap_used, reason = "test")]

mod api_server;
mod decoded;
mod manifests;
mod properties;
mod scan;
