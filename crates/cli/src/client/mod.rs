//! The client of the hub's HTTP API.

pub(crate) mod call;
pub(crate) mod dial;
pub(crate) mod hub;
pub(crate) mod patience;

pub(crate) use call::{Call, fill};
pub(crate) use hub::{Hub, exchange};
