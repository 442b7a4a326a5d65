//! The reserve: a file with places for a few events, filled beforehand so that it can be written when the disk is full.
//!
//! While the trail cannot be written, sign-ins of those who can mend that, and what they read, go here. Each place
//! holds one event with a digest over it and the one before, is on the disk before it counts, and moves into the trail
//! in order, in the commit that makes the trail well again. What is damaged, and how many events found no place
//! anywhere, is said there too.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use nullius_audit::canonical_json;
use nullius_model::AuditEvent;
use sha2::{Digest as _, Sha256};

/// Places, and how many of them reads leave to sign-ins.
pub(crate) const PLACES: usize = 64;
const KEPT_FOR_SIGN_INS: usize = 16;
/// Bytes of a place, of what stands before the event in it, and of the event at most.
const PLACE: usize = 4_096;
const HEAD: usize = 4 + 4 + 32;
const EVENT_MAX: usize = PLACE - HEAD;
const MAGIC: [u8; 4] = *b"NLR1";
/// The fact that tells that an event stood in the reserve.
const FACT: &str = "reserve";

/// What an event in the reserve is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// A sign-in: it may take the last place.
    SignIns,
    /// Something that is read: it leaves some places to sign-ins.
    Reads,
}

/// Why an event has no place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("the reserve on the disk has no place left")]
    Full,
    #[error("the event is too long for the reserve")]
    Long,
    #[error("the reserve on the disk cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// The open reserve.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    events: Vec<AuditEvent>,
    /// Places that were taken and cannot be read.
    damaged: usize,
    last: [u8; 32],
}

impl Spool {
    /// Opens the reserve, or makes it and fills it; reads what stands in it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let whole = u64::try_from(PLACES * PLACE).unwrap_or(u64::MAX);
        if file.metadata()?.len() != whole {
            file.set_len(0)?;
            for place in 0..PLACES {
                file.write_all_at(&[0; PLACE], offset(place))?;
            }
            file.sync_all()?;
            if let Some(directory) = path.parent() {
                File::open(directory)?.sync_all()?;
            }
        }
        let mut spool = Self { file, events: Vec::new(), damaged: 0, last: [0; 32] };
        spool.load()?;
        Ok(spool)
    }

    /// What stands in it, oldest first.
    pub(crate) fn events(&self) -> &[AuditEvent] {
        &self.events
    }

    /// Whether nothing stands in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken() == 0
    }

    /// Places that were taken and cannot be read.
    pub(crate) fn damaged(&self) -> usize {
        self.damaged
    }

    /// Puts an event on the disk.
    pub(crate) fn append(&mut self, event: &AuditEvent, share: Share) -> Result<(), SpoolError> {
        let room = match share {
            Share::SignIns => PLACES,
            Share::Reads => PLACES - KEPT_FOR_SIGN_INS,
        };
        let place = self.taken();
        if place >= room {
            return Err(SpoolError::Full);
        }
        let mut event = event.clone();
        let told = "it was kept on the disk beside the audit, which could not be written";
        event.facts.insert(FACT.to_owned(), told.to_owned());
        let body = canonical_json(&event).map_err(io::Error::other)?;
        let length = u32::try_from(body.len()).map_err(|_| SpoolError::Long)?;
        if body.len() > EVENT_MAX {
            return Err(SpoolError::Long);
        }
        let digest = digest(&self.last, place, body.as_bytes());
        let mut bytes = Vec::with_capacity(PLACE);
        bytes.extend(MAGIC);
        bytes.extend(length.to_be_bytes());
        bytes.extend(digest);
        bytes.extend(body.as_bytes());
        self.file.write_all_at(&bytes, offset(place))?;
        self.file.sync_data()?;
        self.last = digest;
        self.events.push(event);
        Ok(())
    }

    /// Empties it, once everything in it stands in the trail.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        // The last goes first: after a crash in between, what is left is still a whole beginning.
        for place in (0..self.taken()).rev() {
            self.file.write_all_at(&[0; HEAD], offset(place))?;
        }
        self.file.sync_data()?;
        self.events.clear();
        self.damaged = 0;
        self.last = [0; 32];
        Ok(())
    }

    fn taken(&self) -> usize {
        self.events.len() + self.damaged
    }

    fn load(&mut self) -> io::Result<()> {
        for place in 0..PLACES {
            let mut bytes = [0; PLACE];
            self.file.read_exact_at(&mut bytes, offset(place))?;
            if bytes.starts_with(&[0; 4]) {
                break;
            }
            match read(&bytes, &self.last, place) {
                // What comes after a damaged place does not follow from it, and is not believed either.
                Some((event, digest)) if self.damaged == 0 => {
                    self.last = digest;
                    self.events.push(event);
                }
                _ => self.damaged += 1,
            }
        }
        Ok(())
    }
}

fn read(bytes: &[u8; PLACE], last: &[u8; 32], place: usize) -> Option<(AuditEvent, [u8; 32])> {
    let (magic, rest) = bytes.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (found, rest) = rest.split_first_chunk::<32>()?;
    let body = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let whole = *magic == MAGIC && digest(last, place, body) == *found;
    let event = serde_json::from_slice(body).ok().filter(|_| whole)?;
    Some((event, *found))
}

fn digest(last: &[u8; 32], place: usize, body: &[u8]) -> [u8; 32] {
    let place = u64::try_from(place).unwrap_or(u64::MAX);
    let hash = Sha256::new().chain_update(last).chain_update(place.to_be_bytes());
    hash.chain_update(body).finalize().into()
}

fn offset(place: usize) -> u64 {
    u64::try_from(place * PLACE).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use nullius_model::{AuditKind, AuditOutcome, Principal, Timestamp};

    use super::*;

    fn event(number: usize) -> AuditEvent {
        let id = format!("event-{number}").parse().unwrap();
        let (kind, outcome) = (AuditKind::SignIn, AuditOutcome::Done);
        AuditEvent::new(id, Timestamp::UNIX_EPOCH, kind, outcome, Principal::Hub)
    }

    #[test]
    fn what_was_put_in_is_read_again_in_order_until_it_is_cleared() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reserve");
        let mut spool = Spool::open(&path).unwrap();
        assert!(spool.is_empty());
        for number in 0..3 {
            spool.append(&event(number), Share::Reads).unwrap();
        }
        let mut again = Spool::open(&path).unwrap();
        assert_eq!(again.events(), spool.events());
        let ids: Vec<_> = again.events().iter().map(|event| event.audit_id.as_str()).collect();
        assert_eq!(ids, ["event-0", "event-1", "event-2"]);
        again.clear().unwrap();
        assert!(Spool::open(&path).unwrap().is_empty());
    }

    #[test]
    fn its_places_are_few_and_some_are_for_sign_ins_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reserve");
        let mut spool = Spool::open(&path).unwrap();
        let mut fill =
            |share| (0..).take_while(|n| spool.append(&event(*n), share).is_ok()).count();
        assert_eq!(fill(Share::Reads), PLACES - KEPT_FOR_SIGN_INS);
        assert_eq!(fill(Share::SignIns), KEPT_FOR_SIGN_INS);
        let mut long = event(0);
        long.facts.insert("x".into(), "x".repeat(PLACE));
        spool.clear().unwrap();
        assert!(matches!(spool.append(&long, Share::SignIns), Err(SpoolError::Long)));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), (PLACES * PLACE) as u64);
    }

    #[test]
    fn what_is_damaged_is_counted_and_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reserve");
        let mut spool = Spool::open(&path).unwrap();
        for number in 0..3 {
            spool.append(&event(number), Share::Reads).unwrap();
        }
        spool.file.write_all_at(b"x", offset(1) + 60).unwrap();
        let again = Spool::open(&path).unwrap();
        assert_eq!((again.events().len(), again.damaged()), (1, 2));
        assert!(!again.is_empty());
    }
}
