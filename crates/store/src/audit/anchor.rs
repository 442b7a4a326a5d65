//! Checkpoints outside: a file that every checkpoint is appended to, and that is never cut, renamed or read back into
//! the store, so that it can lie on write-once storage. Each line is on the disk before the next is thought of.
//!
//! A store that does not continue what the file says was cut, rolled back or replaced: nothing is written then, and the
//! state says so. The store never waits for the file.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nullius_audit::SignedCheckpoint;

use super::{AuditState, Shared};
use crate::{Store, StoreError};

const PAGE: u32 = 512;
const RETRY: Duration = Duration::from_secs(1);
/// The file in a directory that is named as the anchor.
const FILE: &str = "checkpoints.jsonl";

/// The open file.
pub(crate) struct Anchor {
    path: PathBuf,
    file: File,
    /// The newest checkpoint in it.
    newest: Option<SignedCheckpoint>,
    /// Whether the last line was cut while it was written.
    torn: bool,
    /// Whether the store was found to hold what the file says.
    met: bool,
}

impl Anchor {
    /// Opens the file, or makes it in a directory that exists: a place that is not mounted is not filled by mistake.
    pub(crate) fn open(place: &Path) -> io::Result<Self> {
        let path = if place.is_dir() { place.join(FILE) } else { place.to_owned() };
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
        let mut file = options.open(&path)?;
        let (newest, torn) = newest(&mut file)?;
        Ok(Self { path, file, newest, torn, met: false })
    }

    fn seq(&self) -> io::Result<u64> {
        let Some(newest) = &self.newest else { return Ok(0) };
        Ok(newest.checkpoint().map_err(io::Error::other)?.seq)
    }

    fn append(&mut self, batch: &[SignedCheckpoint]) -> io::Result<()> {
        let result = self.try_append(batch);
        if result.is_err() {
            // What arrived is read back at the next attempt.
            *self = Self::open(&self.path)?;
        }
        result
    }

    fn try_append(&mut self, batch: &[SignedCheckpoint]) -> io::Result<()> {
        let mut lines = if self.torn { "\n".to_owned() } else { String::new() };
        for signed in batch {
            lines.push_str(&serde_json::to_string(signed).map_err(io::Error::other)?);
            lines.push('\n');
        }
        self.torn = true;
        self.file.write_all(lines.as_bytes())?;
        self.file.sync_data()?;
        self.torn = false;
        self.newest = batch.last().cloned().or(self.newest.take());
        Ok(())
    }
}

/// The last line that is a checkpoint, and whether something that is no line stands behind it.
fn newest(file: &mut File) -> io::Result<(Option<SignedCheckpoint>, bool)> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut window: u64 = 1 << 16;
    loop {
        let start = end.saturating_sub(window);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        io::Read::by_ref(file).take(end - start).read_to_end(&mut bytes)?;
        let torn = bytes.last().is_some_and(|byte| *byte != b'\n');
        // A window that begins in the middle of a line gives half a line first, which is no checkpoint.
        let mut lines = bytes.split(|byte| *byte == b'\n').rev();
        let found = lines.find_map(|line| {
            let signed: SignedCheckpoint = serde_json::from_slice(line).ok()?;
            signed.checkpoint().is_ok().then_some(signed)
        });
        if found.is_some() || start == 0 {
            return Ok((found, torn));
        }
        window = window.saturating_mul(2);
    }
}

/// Brings the file up to date with the store for as long as the trail runs.
pub(crate) struct AnchorFollower {
    store: Store,
    anchor: Option<Anchor>,
}

impl AnchorFollower {
    pub(crate) fn new(store: Store, anchor: Anchor) -> Self {
        Self { store, anchor: Some(anchor) }
    }

    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.store.inner().shared);
        let mut checkpoint = shared.checkpoint();
        let mut state = shared.watch_state();
        let mut told: Option<String> = None;
        loop {
            let stopped = *state.borrow_and_update() == AuditState::Stopped;
            checkpoint.mark_unchanged();
            let fault = self.catch_up(&shared).await.err();
            if let Some(error) = fault.as_ref().filter(|fault| told.as_ref() != Some(*fault)) {
                tracing::error!(error, "cannot write the audit's anchor");
            }
            told.clone_from(&fault);
            shared.note(|notes| notes.anchor_error.clone_from(&fault));
            if stopped {
                return;
            }
            if fault.is_some() {
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    _ = state.changed() => {}
                }
                continue;
            }
            tokio::select! {
                _ = checkpoint.changed() => {}
                _ = state.changed() => {}
            }
        }
    }

    async fn catch_up(&mut self, shared: &Shared) -> Result<(), String> {
        let newest = *shared.checkpoint().borrow();
        let said = |error: StoreError| error.chain();
        loop {
            let anchor = self.anchor.as_ref().ok_or("the anchor was lost")?;
            let seq = anchor.seq().map_err(|error| error.to_string())?;
            let path = anchor.path.display();
            if seq > newest {
                return Err(format!(
                    "`{path}` is at checkpoint {seq} but the store ends at {newest}: the store was replaced, cut or \
                     rolled back; see `nullius audit verify --anchor {path}`"
                ));
            }
            if !anchor.met && seq > 0 {
                let mut reader = self.store.read().await.map_err(said)?;
                let ours = reader.audit().checkpoints_after(seq - 1, 1).await.map_err(said)?;
                if ours.first() != anchor.newest.as_ref() {
                    return Err(format!(
                        "checkpoint {seq} in `{path}` is not the store's: the store was replaced or written anew; see \
                         `nullius audit verify --anchor {path}`"
                    ));
                }
            }
            if seq == newest {
                return Ok(());
            }
            let mut reader = self.store.read().await.map_err(said)?;
            let batch = reader.audit().checkpoints_after(seq, PAGE).await.map_err(said)?;
            drop(reader);
            self.append(batch).await?;
        }
    }

    /// Writes where a slow disk holds up nobody else.
    async fn append(&mut self, batch: Vec<SignedCheckpoint>) -> Result<(), String> {
        let mut anchor = self.anchor.take().ok_or("the anchor was lost")?;
        let done = tokio::task::spawn_blocking(move || {
            let result = anchor.append(&batch);
            anchor.met = result.is_ok();
            (anchor, result)
        })
        .await;
        let (anchor, result) = done.map_err(|error| error.to_string())?;
        let path = anchor.path.display().to_string();
        self.anchor = Some(anchor);
        result.map_err(|error| format!("`{path}`: {error}"))
    }
}
