//! Tables in the real kernel, read back by the real `nft`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod kernel;
mod namespace;
