//! `agent admission`, as far as the hub is concerned: what it tells of decisions, uses and findings.
#![allow(dead_code, reason = "the webhook and the background scan speak through it")]

pub(crate) mod report;
