//! Objects read strictly: each wrong type, each empty text and each field that nobody knows is told with its place, all at once.
//!
//! Whoever reads an object asks [`Fields`] for what it knows, and [`Fields::finish`] tells what was not asked for. One [`Fault`] refuses
//! the object; that is for the reader to do.

#![forbid(unsafe_code)]

mod fault;
mod fields;

pub use fault::{Fault, Faults, shown};
pub use fields::{Fields, Item, found, nearest};
