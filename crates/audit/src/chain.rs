//! The hash chain: each record carries the hash of the one before it, one chain per writer and epoch.
//!
//! An epoch begins with each start of a writer; its first record links to the head of the writer's epoch before, so
//! that the whole life of a writer is one line in which nothing can be edited, removed or moved without a trace.

use std::{fmt, str::FromStr};

use nullius_model::AuditEvent;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::canonical_json;

const ENTRY_DOMAIN: &[u8] = b"nullius.dev/audit/entry/v1\0";

/// A SHA-256 hash; 64 hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// Text that is not a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a hash has 64 lower-case hexadecimal digits")]
pub struct ParseDigestError;

impl Digest {
    /// What the first record of a writer links to.
    pub const ZERO: Self = Self([0; 32]);

    /// SHA-256 over a domain and length-prefixed parts, so that no two inputs give the same bytes.
    pub(crate) fn over(domain: &[u8], parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(domain);
        for part in parts {
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;
    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        if text.bytes().any(|c| c.is_ascii_uppercase()) {
            return Err(ParseDigestError);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseDigestError)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = ParseDigestError;
    fn try_from(text: String) -> Result<Self, ParseDigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Who appends to a chain: a hub, by a name that stays over restarts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Writer(Box<str>);

/// Text that cannot name a writer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an audit writer is named by 1 to 63 lower-case letters, digits and `-`")]
pub struct ParseWriterError;

impl Writer {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Writer {
    type Err = ParseWriterError;
    fn from_str(text: &str) -> Result<Self, ParseWriterError> {
        let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if (1..=63).contains(&text.len()) && text.bytes().all(legal) {
            Ok(Self(text.into()))
        } else {
            Err(ParseWriterError)
        }
    }
}

impl TryFrom<String> for Writer {
    type Error = ParseWriterError;
    fn try_from(text: String) -> Result<Self, ParseWriterError> {
        text.parse()
    }
}

impl From<Writer> for String {
    fn from(writer: Writer) -> Self {
        writer.0.into()
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One life of a writer; milliseconds of its start, always more than the epoch before.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A chain: a writer in one epoch; `hub/1767225600000` in text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId {
    /// Who appends.
    pub writer: Writer,
    /// In which life.
    pub epoch: Epoch,
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.writer, self.epoch)
    }
}

/// The newest record of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Head {
    /// Its number, from 1.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

/// One link of a chain exactly as it is stored: the hash covers `body` byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The chain.
    pub chain: ChainId,
    /// The number in the chain, from 1.
    pub seq: u64,
    /// The hash of the record before it.
    pub prev_hash: Digest,
    /// The hash over all other fields.
    pub hash: Digest,
    /// The event as canonical JSON.
    pub body: String,
}

/// One link of a chain with its event read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Who appended it.
    pub writer: Writer,
    /// In which life.
    pub epoch: Epoch,
    /// The number in the chain, from 1.
    pub seq: u64,
    /// The hash of the entry before it.
    pub prev_hash: Digest,
    /// The hash over all other fields.
    pub hash: Digest,
    /// What happened.
    pub event: AuditEvent,
}

/// A line of a JSON-lines file that is not an audit entry.
#[derive(Debug, thiserror::Error)]
#[error("the line is not an audit entry")]
pub struct LineError(#[from] serde_json::Error);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LineOut<'a> {
    position: i64,
    writer: &'a Writer,
    epoch: Epoch,
    seq: u64,
    prev_hash: Digest,
    hash: Digest,
    event: &'a serde_json::value::RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LineIn {
    position: i64,
    writer: Writer,
    epoch: Epoch,
    seq: u64,
    prev_hash: Digest,
    hash: Digest,
    event: Box<serde_json::value::RawValue>,
}

impl Record {
    /// The hash that the other fields call for.
    pub fn expected_hash(&self) -> Digest {
        digest_of(&self.chain, self.seq, self.prev_hash, &self.body)
    }

    /// The entry with its event read.
    pub fn entry(&self) -> Result<Entry, serde_json::Error> {
        Ok(Entry {
            writer: self.chain.writer.clone(),
            epoch: self.chain.epoch,
            seq: self.seq,
            prev_hash: self.prev_hash,
            hash: self.hash,
            event: serde_json::from_str(&self.body)?,
        })
    }

    /// One line of a JSON-lines file without its newline; the event stands in it byte for byte.
    pub fn to_json_line(&self, position: i64) -> Result<String, LineError> {
        let event = serde_json::from_str(&self.body)?;
        Ok(serde_json::to_string(&LineOut {
            position,
            writer: &self.chain.writer,
            epoch: self.chain.epoch,
            seq: self.seq,
            prev_hash: self.prev_hash,
            hash: self.hash,
            event,
        })?)
    }

    /// Reads a line of a JSON-lines file: the position in its store and the record.
    pub fn from_json_line(line: &str) -> Result<(i64, Self), LineError> {
        let line: LineIn = serde_json::from_str(line)?;
        let record = Self {
            chain: ChainId { writer: line.writer, epoch: line.epoch },
            seq: line.seq,
            prev_hash: line.prev_hash,
            hash: line.hash,
            body: line.event.get().to_owned(),
        };
        Ok((line.position, record))
    }
}

/// A chain that grows.
#[derive(Debug, Clone)]
pub struct Chain {
    id: ChainId,
    head: Head,
}

impl Chain {
    /// The first chain of a writer.
    pub fn genesis(id: ChainId) -> Self {
        Self { id, head: Head { seq: 0, hash: Digest::ZERO } }
    }

    /// A new epoch, linked to the head of the writer's epoch before.
    pub fn following(id: ChainId, previous: Head) -> Self {
        Self { id, head: Head { seq: 0, hash: previous.hash } }
    }

    /// A chain whose newest record is known.
    pub fn resume(id: ChainId, head: Head) -> Self {
        Self { id, head }
    }

    /// Appends an event and moves the head.
    pub fn append(&mut self, event: &AuditEvent) -> Result<Record, serde_json::Error> {
        Ok(self.append_body(canonical_json(event)?))
    }

    /// Appends an event that is already canonical JSON.
    pub fn append_body(&mut self, body: String) -> Record {
        let seq = self.head.seq.saturating_add(1);
        let prev_hash = self.head.hash;
        let hash = digest_of(&self.id, seq, prev_hash, &body);
        self.head = Head { seq, hash };
        Record { chain: self.id.clone(), seq, prev_hash, hash, body }
    }

    /// The chain's name.
    pub fn id(&self) -> &ChainId {
        &self.id
    }

    /// The newest record; `seq` 0 when there is none yet in this epoch.
    pub fn head(&self) -> Head {
        self.head
    }
}

fn digest_of(chain: &ChainId, seq: u64, prev_hash: Digest, body: &str) -> Digest {
    Digest::over(
        ENTRY_DOMAIN,
        &[
            chain.writer.as_str().as_bytes(),
            &chain.epoch.0.to_be_bytes(),
            &seq.to_be_bytes(),
            prev_hash.as_bytes(),
            body.as_bytes(),
        ],
    )
}
