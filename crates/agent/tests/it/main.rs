//! The agent on real API servers.
