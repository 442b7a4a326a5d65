//! The parsers of what strangers sign, from outside.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

mod fuzz;
