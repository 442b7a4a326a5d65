//! Bounds of what an agent tells in one batch; the hub refuses more, the agent sends less.

/// Bytes of an encoded report.
pub const REPORT_BYTES: usize = 2 << 20;
/// Decisions of a batch.
pub const DECISIONS: usize = 500;
/// Merged uses of a batch.
pub const USES: usize = 2_000;
/// Words of the API server in a batch.
pub const SERVER_WORDS: usize = 500;
/// Marks of requests of the API server in a batch.
pub const SERVER_MARKS: usize = 40_000;
/// Words of a background scan in a batch.
pub const SCAN_WORDS: usize = 500;
/// Findings of one object.
pub const FINDINGS_OF_OBJECT: usize = 200;
/// UIDs of one [`crate::agent_v1::ScanStanding`].
pub const STANDING: usize = 2_000;
/// Denials of the mesh in a batch.
pub const MESH_DENIALS: usize = 500;
/// Flows of the mesh in a batch.
pub const MESH_FLOWS: usize = 2_000;
/// Nodes of which a batch says that they are not believed.
pub const DISBELIEVED_NODES: usize = 100;
