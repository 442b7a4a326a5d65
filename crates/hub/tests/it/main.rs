//! The hub over real TLS on a free port, with a store on disk and a clock that tests set.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test"
)]

mod bundles;
mod findings;
mod floods;
mod foreign;
mod harness;
mod keys;
mod mesh;
mod objects;
mod pages;
mod process;
mod repair;
mod restarts;
mod sign_in;
mod tokens;
mod trust;
