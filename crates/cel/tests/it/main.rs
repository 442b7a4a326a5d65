//! CEL against what others say of it: the language's conformance tests, the API server's tests of its libraries, and
//! expressions and input that nobody wrote by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod bounds;
mod conformance;
mod cost;
mod generated;
mod grammar;
mod k8s;
mod library;
mod peer;
mod spec;
