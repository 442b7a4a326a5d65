//! One module for each noun of the command line.

pub(crate) mod access;
pub(crate) mod audit;
pub(crate) mod cel;
pub(crate) mod cluster;
pub(crate) mod compare;
pub(crate) mod exception;
pub(crate) mod findings;
pub(crate) mod identity;
pub(crate) mod import;
pub(crate) mod inject;
pub(crate) mod intention;
pub(crate) mod mesh;
pub(crate) mod node;
pub(crate) mod objects;
pub(crate) mod people;
pub(crate) mod policy;
pub(crate) mod record;
pub(crate) mod scan;
pub(crate) mod sign;
pub(crate) mod svid;
pub(crate) mod test;
pub(crate) mod trust;
