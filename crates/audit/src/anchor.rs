//! Checkpoints kept where the hub cannot take them back: one JSON line each, only ever appended.
//!
//! Lines must follow from each other. What follows without a gap is vouched for by its last line, since each checkpoint
//! carries the hash of the one before, so that a long file needs few of its lines to be compared with a trail.

use crate::{Checkpoint, SignedCheckpoint};

/// More lines than this are thinned out.
const KEPT_MAX: usize = 1_000;

/// A file that cannot be what an anchor is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// A line that is no checkpoint.
    #[error("line {line} of the anchor is no checkpoint: it was changed or damaged")]
    Unreadable {
        /// The line, from 1.
        line: u64,
    },
    /// A line that does not follow from the one before.
    #[error(
        "line {line} of the anchor (checkpoint {seq}) does not follow from the line before: two trails were written to it, or it was changed"
    )]
    Unlinked {
        /// The line, from 1.
        line: u64,
        /// Its checkpoint.
        seq: u64,
    },
    /// No line at all.
    #[error("the anchor holds no checkpoint")]
    Empty,
}

/// Reads an anchor line by line.
#[derive(Debug, Default)]
pub struct AnchorReader {
    kept: Vec<Kept>,
    newest: Option<(SignedCheckpoint, Checkpoint)>,
    /// A line that was cut while it was written: the next one has it whole.
    torn: Option<(u64, String)>,
    lines: u64,
    count: u64,
}

#[derive(Debug)]
struct Kept {
    signed: SignedCheckpoint,
    /// Whether the next line does not carry its hash.
    before_gap: bool,
}

/// What an anchor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchors {
    /// The checkpoints that stand for all of them, oldest first.
    pub checkpoints: Vec<SignedCheckpoint>,
    /// How many there are in the file.
    pub count: u64,
    /// The number of the newest.
    pub newest: u64,
}

impl AnchorReader {
    /// Takes the next line, without its line break.
    pub fn line(&mut self, text: &str) -> Result<(), AnchorError> {
        self.lines += 1;
        if text.trim().is_empty() {
            return Ok(());
        }
        let read = serde_json::from_str::<SignedCheckpoint>(text)
            .and_then(|signed| signed.checkpoint().map(|checkpoint| (signed, checkpoint)));
        if let Some((line, torn)) = self.torn.take()
            && !(text.starts_with(&torn) && read.is_ok())
        {
            return Err(AnchorError::Unreadable { line });
        }
        let Ok((signed, checkpoint)) = read else {
            self.torn = Some((self.lines, text.to_owned()));
            return Ok(());
        };
        if let Some((known, newest)) = &self.newest {
            if *known == signed {
                return Ok(());
            }
            let unlinked = AnchorError::Unlinked { line: self.lines, seq: checkpoint.seq };
            if checkpoint.seq <= newest.seq {
                return Err(unlinked);
            }
            let follows = checkpoint.seq == newest.seq + 1;
            if follows && checkpoint.previous != known.hash() {
                return Err(unlinked);
            }
            if let Some(kept) = self.kept.last_mut().filter(|_| !follows) {
                kept.before_gap = true;
            }
        }
        self.count += 1;
        self.kept.push(Kept { signed: signed.clone(), before_gap: false });
        self.newest = Some((signed, checkpoint));
        self.thin();
        Ok(())
    }

    /// Ends the reading. A last line that was cut while it was written counts for nothing.
    pub fn finish(self) -> Result<Anchors, AnchorError> {
        let Some((_, newest)) = self.newest else {
            let line = self.torn.map(|(line, _)| line);
            return Err(line.map_or(AnchorError::Empty, |line| AnchorError::Unreadable { line }));
        };
        Ok(Anchors {
            checkpoints: self.kept.into_iter().map(|kept| kept.signed).collect(),
            count: self.count,
            newest: newest.seq,
        })
    }

    fn thin(&mut self) {
        if self.kept.len() < KEPT_MAX {
            return;
        }
        let last = self.kept.len() - 1;
        let mut index = 0;
        self.kept.retain(|kept| {
            let stays = index % 2 == 0 || index == last || kept.before_gap;
            index += 1;
            stays
        });
    }
}
