//! Objects of `nullius.dev`: read from files with line and field, compared, applied, shown.

pub(crate) mod apply;
pub(crate) mod columns;
pub(crate) mod describe;
pub(crate) mod diff;
pub(crate) mod document;
pub(crate) mod edit;
mod later;
mod located;
pub(crate) mod node;
pub(crate) mod remote;
