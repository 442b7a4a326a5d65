//! Traffic of a pod in the real kernel: two network namespaces with a cable between them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod installed;
mod led;
mod wires;
