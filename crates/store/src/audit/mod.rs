//! The audit trail in the store: one writer with group commit, readers, followers, a file beside it, and its proof.
//!
//! What is acknowledged is on the disk. When the disk refuses, the trail says [`AuditState::Failing`], keeps what it
//! was given, tries again and takes no new reservation: whoever must be audited is refused until a commit succeeds.

mod anchor;
mod follow;
mod proof;
mod query;
mod reserve;
mod shared;
mod sink;
mod spool;
mod trail;
mod writer;

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use nullius_audit::{Record, Writer};
use nullius_model::{AuditEvent, Timestamp};
use serde::{Deserialize, Serialize};

pub use follow::Tail;
pub use proof::VerifyError;
pub use query::{Audit, Page};
pub(crate) use shared::Shared;
pub use spool::Share;
pub(crate) use trail::{Encoded, Trail};
pub use writer::{AuditWriter, Slot, StartError};

/// Where an entry stands in the store: 1 for the first, without gaps.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Position(pub i64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Position {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// An entry with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Where it stands in the store.
    pub position: Position,
    /// The entry as it is stored and hashed.
    pub record: Record,
}

impl StoredEntry {
    /// What happened; an error when somebody changed the store so that it cannot be read.
    pub fn event(&self) -> Result<AuditEvent, serde_json::Error> {
        serde_json::from_str(&self.record.body)
    }
}

/// A checkpoint that could not be signed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SignError(pub String);

impl From<serde_json::Error> for SignError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// Signs checkpoints; holds the key so that the store does not.
pub type Signer = Arc<dyn Fn(&[u8]) -> Result<Vec<u8>, SignError> + Send + Sync>;

/// How the trail is written.
#[derive(Clone)]
pub struct AuditOptions {
    /// The name of this hub in the chain; stays the same over restarts.
    pub writer: Writer,
    /// Signs checkpoints.
    pub signer: Signer,
    /// How many events may wait or be reserved at a time.
    pub queue: usize,
    /// How many events share a commit at most.
    pub batch: usize,
    /// A checkpoint is made at the latest after so many entries.
    pub checkpoint_entries: u64,
    /// A checkpoint is made at the latest after so long, when there is anything new.
    pub checkpoint_interval: Duration,
    /// How long a reservation waits for room.
    pub patience: Duration,
    /// How long a shutdown waits for slots that are still held.
    pub grace: Duration,
    /// A file that receives every entry as a JSON line.
    pub file: Option<FileSink>,
    /// The reserve: a file with places for a few events while the store does not take any.
    pub reserve: Option<PathBuf>,
    /// A file, or a directory for one, that receives every checkpoint and lies where nobody can take it back.
    pub anchor: Option<PathBuf>,
}

impl AuditOptions {
    /// The usual sizes: 65,536 waiting, 1,024 to a commit, a checkpoint each 5,000 entries or 30 seconds, no file.
    pub fn new(writer: Writer, signer: Signer) -> Self {
        Self {
            writer,
            signer,
            queue: 65_536,
            batch: 1_024,
            checkpoint_entries: 5_000,
            checkpoint_interval: Duration::from_secs(30),
            patience: Duration::from_secs(2),
            grace: Duration::from_secs(10),
            file: None,
            reserve: None,
            anchor: None,
        }
    }
}

/// The form of the lines in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileForm {
    /// Every entry as it is hashed, in `audit.jsonl`.
    #[default]
    Nullius,
    /// Requests to clusters as audit.k8s.io/v1 events, in `kubernetes.jsonl`; other entries stand in the store alone.
    Kubernetes,
}

/// A directory that receives `audit.jsonl`, rotated by size, and `checkpoints.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSink {
    /// The directory; made where there is none.
    pub directory: PathBuf,
    /// A file of at least this many bytes is set aside as `audit-<last position>.jsonl`.
    pub max_bytes: u64,
    /// How many files set aside are kept; `None` keeps all.
    pub keep: Option<usize>,
    /// The form of its lines.
    pub form: FileForm,
}

impl FileSink {
    /// Files of 100 MiB in a directory, all kept.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            max_bytes: 100 << 20,
            keep: None,
            form: FileForm::Nullius,
        }
    }
}

/// Whether the trail takes events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AuditState {
    /// It was not started, or is shut down.
    #[default]
    Stopped,
    /// It takes events and makes them durable.
    Writing,
    /// The last commit failed; it tries again, and takes no new reservation until one succeeds.
    Failing {
        /// What the store said.
        reason: String,
        /// Since when.
        since: Timestamp,
    },
}

/// How the trail is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditStatus {
    /// Whether it takes events.
    pub state: AuditState,
    /// The newest entry that is durable.
    pub head: Position,
    /// The newest entry in the file, where there is one.
    pub file: Option<Position>,
    /// Why the file does not receive entries now; the store has them.
    pub file_error: Option<String>,
    /// Why checkpoints do not reach the anchor now; the store has them.
    pub anchor_error: Option<String>,
    /// Why no checkpoint can be signed now; entries are written nevertheless.
    pub checkpoint_error: Option<String>,
    /// Events that wait or have a slot reserved.
    pub pending: usize,
}

/// Why an event is not durable. Whoever must be audited is refused with this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditUnavailable {
    /// It was not started, or is shut down.
    #[error("the audit is not running")]
    Stopped,
    /// The store refuses.
    #[error(
        "the audit cannot be written ({reason}); what must be audited is refused until it can: check the hub's disk"
    )]
    Failing {
        /// What the store said.
        reason: String,
    },
    /// Too many events wait.
    #[error("too many audit events wait to be written; try again in a moment")]
    Overloaded,
}
