//! Objects of `nullius.dev`: read from files with line and field, compared, applied, shown.

pub(crate) mod apply;
pub(crate) mod columns;
pub(crate) mod describe;
pub(crate) mod diff;
pub(crate) mod document;
pub(crate) mod edit;
mod later;
pub(crate) mod remote;
