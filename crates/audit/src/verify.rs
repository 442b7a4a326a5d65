//! Proof that a trail is whole: records and checkpoints pass by once, in constant memory.
//!
//! The first thing that is wrong is named with its place and kind. What was cut off after the last checkpoint cannot
//! be seen from inside; a checkpoint kept elsewhere (an anchor) shows it.

use std::{collections::BTreeMap, fmt};

use nullius_model::Timestamp;

use crate::{Chain, ChainId, Checkpoint, Digest, Epoch, Head, Record, SignedCheckpoint, Writer};

/// Says whether a signature over bytes is good: `(bytes, signature)`.
pub type SignatureCheck<'a> = dyn Fn(&[u8], &[u8]) -> bool + Send + Sync + 'a;

/// Where something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// At a record of a chain.
    Record { chain: ChainId, seq: u64 },
    /// At a checkpoint.
    Checkpoint { seq: u64 },
    /// At a row of the store whose chain and number cannot be read.
    Row { position: i64 },
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The record's content does not have the record's hash.
    Edited,
    /// The record does not link to the one before it: one of the two was replaced.
    Unlinked,
    /// Records `first..=last` of the chain are missing before this one.
    Removed { first: u64, last: u64 },
    /// Records of the writer's earlier epochs are missing before this one.
    EpochRemoved,
    /// The record is not where its number says.
    Reordered,
    /// A column beside the event says something else than the event.
    IndexEdited { column: &'static str },
    /// The record or checkpoint cannot be read.
    Unreadable,
    /// A checkpoint is missing before this one, or was replaced.
    CheckpointUnlinked,
    /// The checkpoint's signature is not good.
    BadSignature,
    /// The record is not the one that checkpoint `checkpoint` was made over.
    Replaced { checkpoint: u64 },
    /// Checkpoint `checkpoint` covers this record, but the trail ends before it.
    Truncated { checkpoint: u64 },
    /// The checkpoint is in an anchor, but no key of this trail signed it.
    AnchorForeign,
    /// The checkpoint is in an anchor, and the trail has another of this number.
    AnchorReplaced,
    /// The checkpoint is in an anchor, but the trail's checkpoints end with `newest`.
    AnchorMissing { newest: u64 },
}

/// The first thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub at: Location,
    /// What.
    pub why: Why,
}

/// What a verification saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// How many records passed by.
    pub records: u64,
    /// How many checkpoints of the trail passed by.
    pub checkpoints: u64,
    /// How many records are newer than the newest checkpoint, and so guarded by the chain alone.
    pub uncovered: u64,
    /// When the newest checkpoint was made.
    pub newest_checkpoint: Option<Timestamp>,
    /// The newest record of each writer.
    pub heads: BTreeMap<ChainId, Head>,
    /// The first thing that is wrong.
    pub fault: Option<Fault>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_intact(&self) -> bool {
        self.fault.is_none()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record { chain, seq } => write!(f, "entry {seq} of chain {chain}"),
            Self::Checkpoint { seq } => write!(f, "checkpoint {seq}"),
            Self::Row { position } => write!(f, "the entry at position {position}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = &self.at;
        match &self.why {
            Why::Edited => write!(f, "{at} was edited: its content does not have its hash"),
            Why::Unlinked => {
                write!(f, "{at} does not link to the entry before it: one of the two was replaced")
            }
            Why::Removed { first, last } if first == last => {
                write!(f, "entry {first} is missing before {at}: it was removed")
            }
            Why::Removed { first, last } => {
                write!(f, "entries {first} to {last} are missing before {at}: they were removed")
            }
            Why::EpochRemoved => {
                write!(
                    f,
                    "{at} links to an earlier entry of its writer that is missing: it was removed"
                )
            }
            Why::Reordered => {
                write!(f, "{at} is out of its place: entries were reordered or repeated")
            }
            Why::IndexEdited { column } => {
                write!(f, "column `{column}` of {at} was edited: it differs from what was hashed")
            }
            Why::Unreadable => write!(f, "{at} cannot be read: it was edited or damaged"),
            Why::CheckpointUnlinked => {
                write!(
                    f,
                    "{at} does not follow the checkpoint before it: one was removed or replaced"
                )
            }
            Why::BadSignature => write!(f, "the signature of {at} is not good"),
            Why::Replaced { checkpoint } => {
                write!(
                    f,
                    "{at} is not the one that checkpoint {checkpoint} was signed over: the trail was rewritten"
                )
            }
            Why::Truncated { checkpoint } => {
                write!(
                    f,
                    "{at} is covered by checkpoint {checkpoint} but missing: the trail was truncated"
                )
            }
            Why::AnchorForeign => {
                write!(
                    f,
                    "{at} of the anchor is not signed by this trail's key: the store is another hub's or was replaced"
                )
            }
            Why::AnchorReplaced => {
                write!(
                    f,
                    "{at} of the anchor is not the trail's {at}: the trail was rewritten since"
                )
            }
            Why::AnchorMissing { newest } => {
                write!(
                    f,
                    "{at} of the anchor is missing, the trail's checkpoints end with {newest}: the trail was cut or rolled back"
                )
            }
        }
    }
}

/// A verification in progress. Feed records in the order of the store, and a checkpoint whenever
/// [`Verifier::wants_checkpoint`] says so and one is left.
pub struct Verifier<'a> {
    check: &'a SignatureCheck<'a>,
    writers: BTreeMap<Writer, (Epoch, Head)>,
    last_checkpoint: Option<(u64, Digest)>,
    /// Heads that signed checkpoints name and that have not passed by yet.
    expected: BTreeMap<(ChainId, u64), (Digest, u64)>,
    /// Checkpoints of anchors by number that have not passed by yet.
    anchored: BTreeMap<u64, Digest>,
    /// The trail's own checkpoint whose heads have not all passed by yet.
    awaited: Option<Checkpoint>,
    suspect: Option<(ChainId, u64)>,
    report: Report,
}

impl<'a> Verifier<'a> {
    /// Begins a verification. `anchors` are checkpoints kept outside the store: each must be met by the trail.
    pub fn new(check: &'a SignatureCheck<'a>, anchors: &[SignedCheckpoint]) -> Self {
        let mut verifier = Self {
            check,
            writers: BTreeMap::new(),
            last_checkpoint: None,
            expected: BTreeMap::new(),
            anchored: BTreeMap::new(),
            awaited: None,
            suspect: None,
            report: Report::default(),
        };
        for anchor in anchors {
            verifier.expect_anchor(anchor);
        }
        verifier
    }

    /// Whether the next checkpoint of the trail should be fed before the next record.
    pub fn wants_checkpoint(&self) -> bool {
        self.awaited.is_none()
    }

    /// Whether a fault was found; records are still worth feeding, they tell removed from reordered.
    pub fn has_fault(&self) -> bool {
        self.report.fault.is_some()
    }

    /// Takes the next checkpoint of the trail.
    pub fn checkpoint(&mut self, signed: &SignedCheckpoint) {
        let Some(checkpoint) = self.open(signed) else { return };
        self.report.checkpoints += 1;
        let (expected_seq, expected_previous) = match self.last_checkpoint {
            None => (1, Digest::ZERO),
            Some((seq, hash)) => (seq + 1, hash),
        };
        if checkpoint.seq != expected_seq || checkpoint.previous != expected_previous {
            self.fault(Location::Checkpoint { seq: checkpoint.seq }, Why::CheckpointUnlinked);
        }
        if self.anchored.remove(&checkpoint.seq).is_some_and(|hash| hash != signed.hash()) {
            self.fault(Location::Checkpoint { seq: checkpoint.seq }, Why::AnchorReplaced);
        }
        self.last_checkpoint = Some((checkpoint.seq, signed.hash()));
        self.report.newest_checkpoint = Some(checkpoint.at);
        self.expect_heads(&checkpoint);
        self.awaited = Some(checkpoint);
        self.settle();
    }

    /// Takes the next record of the trail.
    pub fn record(&mut self, record: &Record) {
        self.report.records += 1;
        self.report.uncovered += 1;
        if let Some((chain, seq)) = &self.suspect
            && *chain == record.chain
            && *seq == record.seq
        {
            if let Some(fault) = &mut self.report.fault {
                fault.why = Why::Reordered;
            }
            self.suspect = None;
        }
        if self.has_fault() {
            return;
        }
        if let Err(why) = self.link(record) {
            if let Why::Removed { first, .. } = why {
                self.suspect = Some((record.chain.clone(), first));
            }
            self.fault_at(record, why);
            return;
        }
        let head = Head { seq: record.seq, hash: record.hash };
        self.writers.insert(record.chain.writer.clone(), (record.chain.epoch, head));
        let key = (record.chain.clone(), record.seq);
        if let Some((hash, checkpoint)) = self.expected.remove(&key) {
            if hash != record.hash {
                self.fault_at(record, Why::Replaced { checkpoint });
            }
            self.settle();
        }
    }

    /// Reports what the store itself found wrong with a record's row.
    pub fn fault_at(&mut self, record: &Record, why: Why) {
        self.fault(Location::Record { chain: record.chain.clone(), seq: record.seq }, why);
    }

    /// Reports what the store itself found wrong at a place.
    pub fn fault(&mut self, at: Location, why: Why) {
        self.report.fault.get_or_insert(Fault { at, why });
    }

    /// Ends the verification.
    pub fn finish(mut self) -> Report {
        if !self.has_fault()
            && let Some(((chain, seq), (_, checkpoint))) = self.expected.pop_first()
        {
            self.fault(Location::Record { chain, seq }, Why::Truncated { checkpoint });
        }
        if !self.has_fault()
            && let Some((seq, _)) = self.anchored.pop_first()
        {
            let newest = self.last_checkpoint.map_or(0, |(seq, _)| seq);
            self.fault(Location::Checkpoint { seq }, Why::AnchorMissing { newest });
        }
        self.report.heads = self
            .writers
            .into_iter()
            .map(|(writer, (epoch, head))| (ChainId { writer, epoch }, head))
            .collect();
        self.report
    }

    fn link(&self, record: &Record) -> Result<(), Why> {
        if record.expected_hash() != record.hash {
            return Err(Why::Edited);
        }
        let begins = |prev: Digest| match record.seq {
            1 if record.prev_hash == prev => Ok(()),
            1 => Err(Why::EpochRemoved),
            0 => Err(Why::Reordered),
            seq => Err(Why::Removed { first: 1, last: seq - 1 }),
        };
        let Some((epoch, head)) = self.writers.get(&record.chain.writer) else {
            return begins(Digest::ZERO);
        };
        if record.chain.epoch < *epoch {
            return Err(Why::Reordered);
        }
        if record.chain.epoch > *epoch {
            return begins(head.hash);
        }
        match record.seq {
            seq if seq <= head.seq => Err(Why::Reordered),
            seq if seq > head.seq + 1 => Err(Why::Removed { first: head.seq + 1, last: seq - 1 }),
            _ if record.prev_hash != head.hash => Err(Why::Unlinked),
            _ => Ok(()),
        }
    }

    /// Notes a checkpoint that was kept elsewhere: the trail must have it, and what it covers.
    fn expect_anchor(&mut self, signed: &SignedCheckpoint) {
        let Ok(checkpoint) = signed.checkpoint() else {
            self.fault(Location::Checkpoint { seq: 0 }, Why::Unreadable);
            return;
        };
        let at = Location::Checkpoint { seq: checkpoint.seq };
        if !(self.check)(&signed.signed_bytes(), &signed.signature) {
            self.fault(at, Why::AnchorForeign);
            return;
        }
        let known = self.anchored.insert(checkpoint.seq, signed.hash());
        if known.is_some_and(|hash| hash != signed.hash()) {
            self.fault(at, Why::AnchorReplaced);
        }
        self.expect_heads(&checkpoint);
    }

    /// Reads a checkpoint and checks its signature.
    fn open(&mut self, signed: &SignedCheckpoint) -> Option<Checkpoint> {
        let Ok(checkpoint) = signed.checkpoint() else {
            let seq = self.last_checkpoint.map_or(1, |(seq, _)| seq + 1);
            self.fault(Location::Checkpoint { seq }, Why::Unreadable);
            return None;
        };
        if !(self.check)(&signed.signed_bytes(), &signed.signature) {
            self.fault(Location::Checkpoint { seq: checkpoint.seq }, Why::BadSignature);
            return None;
        }
        Some(checkpoint)
    }

    /// Notes the heads of a checkpoint; one that has passed by already is compared at once.
    fn expect_heads(&mut self, checkpoint: &Checkpoint) {
        for (chain, head) in &checkpoint.heads {
            match self.writers.get(&chain.writer) {
                Some((epoch, found)) if *epoch == chain.epoch && found.seq == head.seq => {
                    if found.hash != head.hash {
                        let at = Location::Record { chain: chain.clone(), seq: head.seq };
                        self.fault(at, Why::Replaced { checkpoint: checkpoint.seq });
                    }
                }
                Some((epoch, found))
                    if *epoch > chain.epoch || (*epoch == chain.epoch && found.seq > head.seq) =>
                {
                    let at = Location::Checkpoint { seq: checkpoint.seq };
                    self.fault(at, Why::CheckpointUnlinked);
                }
                Some(_) | None => {
                    let key = (chain.clone(), head.seq);
                    let known = self.expected.insert(key, (head.hash, checkpoint.seq));
                    if known.is_some_and(|(hash, _)| hash != head.hash) {
                        let at = Location::Record { chain: chain.clone(), seq: head.seq };
                        self.fault(at, Why::Replaced { checkpoint: checkpoint.seq });
                    }
                }
            }
        }
    }

    /// Lets go of the current checkpoint once all its heads have passed by.
    fn settle(&mut self) {
        let Some(checkpoint) = &self.awaited else { return };
        let open = |(chain, head): (&ChainId, &Head)| {
            self.expected.contains_key(&(chain.clone(), head.seq))
        };
        if !checkpoint.heads.iter().any(open) {
            self.awaited = None;
            self.report.uncovered = 0;
        }
    }
}

/// Verifies a trail that is at hand as iterators, both in the order of the store.
pub fn verify(
    records: impl IntoIterator<Item = Record>,
    checkpoints: impl IntoIterator<Item = SignedCheckpoint>,
    check: &SignatureCheck<'_>,
) -> Report {
    let mut verifier = Verifier::new(check, &[]);
    let mut checkpoints = checkpoints.into_iter();
    let mut feed = |verifier: &mut Verifier<'_>| {
        while verifier.wants_checkpoint() {
            let Some(checkpoint) = checkpoints.next() else { return };
            verifier.checkpoint(&checkpoint);
            if verifier.has_fault() {
                return;
            }
        }
    };
    for record in records {
        if !verifier.has_fault() {
            feed(&mut verifier);
        }
        verifier.record(&record);
    }
    if !verifier.has_fault() {
        feed(&mut verifier);
    }
    verifier.finish()
}

/// Proof at compile time that a chain can be shared between tasks.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Chain>();
    shared::<Report>();
};
