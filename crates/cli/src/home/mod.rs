//! What is kept on this machine: contexts, sessions, kubectl's credential.

pub(crate) mod contexts;
pub(crate) mod private_file;
pub(crate) mod session;
