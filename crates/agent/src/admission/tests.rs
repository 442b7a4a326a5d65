#![allow(clippy::unwrap_used, reason = "test")]
//! What tests of several parts need.

pub(in crate::admission) mod plane;
