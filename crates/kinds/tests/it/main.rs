//! Objects before and after an API server's reading, and what holds for any object.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

mod corpus;
mod properties;
