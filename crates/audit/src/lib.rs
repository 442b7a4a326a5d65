//! The audit trail as data: canonical bytes, hash chain, checkpoints, verification, filters, Kubernetes form.
//!
//! Nothing here reads a clock, a file or a socket. The store appends [`Record`]s that a [`Chain`] makes, signs
//! [`Checkpoint`]s with a key that it is handed, and feeds both to a [`Verifier`] when somebody asks for proof.

mod anchor;
pub mod api_server;
mod canonical;
mod chain;
mod checkpoint;
mod filter;
mod kubernetes;
mod verify;

pub use anchor::{AnchorError, AnchorReader, Anchors};
pub use canonical::{canonical_json, display_safe};
pub use chain::{
    Chain, ChainId, Digest, Entry, Epoch, Head, LineError, ParseDigestError, ParseWriterError,
    Record, Writer,
};
pub use checkpoint::{Checkpoint, SignedCheckpoint};
pub use filter::{Facets, Filter, time_key};
pub use kubernetes::{fact, k8s_line, position_of_k8s_line, to_k8s_event};
pub use verify::{Fault, Location, Report, SignatureCheck, Verifier, Why, verify};
