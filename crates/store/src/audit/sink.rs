//! A file beside the store that receives every entry as a JSON line, rotated by size.
//!
//! The file itself says how far it is: after a crash a torn last line is cut and the entries after the last whole one
//! are written again from the store. The store never waits for the file.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nullius_audit::{Record, SignedCheckpoint, k8s_line, position_of_k8s_line};

use super::{AuditState, FileForm, FileSink, Position, Shared, StoredEntry};
use crate::{Store, StoreError, directory::open_private};

const PAGE: u32 = 512;
const RETRY: Duration = Duration::from_secs(1);
const CHECKPOINTS: &str = "checkpoints.jsonl";

impl FileForm {
    /// Each form has files of its own, so that none is taken for the other and cut.
    fn stem(self) -> &'static str {
        match self {
            Self::Nullius => "audit",
            Self::Kubernetes => "kubernetes",
        }
    }

    fn file(self) -> String {
        format!("{}.jsonl", self.stem())
    }

    /// An entry as a line; none where it has no such form.
    fn line(self, entry: &StoredEntry) -> io::Result<Option<String>> {
        match self {
            Self::Nullius => {
                entry.record.to_json_line(entry.position.0).map(Some).map_err(io::Error::other)
            }
            Self::Kubernetes => {
                let event = entry.event().map_err(io::Error::other)?;
                Ok(k8s_line(&event, entry.position.0, &entry.record.hash))
            }
        }
    }

    fn position(self, line: &str) -> Option<i64> {
        match self {
            Self::Nullius => Record::from_json_line(line).ok().map(|(position, _)| position),
            Self::Kubernetes => position_of_k8s_line(line),
        }
    }
}

/// The open files.
pub(crate) struct Files {
    options: FileSink,
    entries: Option<File>,
    size: u64,
    position: Position,
    checkpoints: File,
    checkpoint: u64,
}

/// Brings the files up to date with the store for as long as the trail runs.
pub(crate) struct Follower {
    store: Store,
    files: Option<Files>,
}

impl Files {
    pub(crate) fn open(options: &FileSink) -> io::Result<Self> {
        make(&options.directory)?;
        let mut checkpoints = open_private(&options.directory.join(CHECKPOINTS))?;
        let seq = |line: &str| {
            let signed: SignedCheckpoint = serde_json::from_str(line).ok()?;
            Some(signed.checkpoint().ok()?.seq)
        };
        let checkpoint = last_line(&mut checkpoints, seq)?.unwrap_or(0);
        let mut files = Self {
            options: options.clone(),
            entries: None,
            size: 0,
            position: Position(0),
            checkpoints,
            checkpoint,
        };
        files.open_entries()?;
        Ok(files)
    }

    fn open_entries(&mut self) -> io::Result<()> {
        let form = self.options.form;
        let mut entries = open_private(&self.options.directory.join(form.file()))?;
        let known = match last_line(&mut entries, |line| form.position(line))? {
            Some(position) => position,
            None => set_aside(&self.options)?.last().map_or(0, |(position, _)| *position),
        };
        self.position = self.position.max(Position(known));
        self.size = entries.seek(SeekFrom::End(0))?;
        self.entries = Some(entries);
        Ok(())
    }

    fn append(&mut self, batch: &[Arc<StoredEntry>]) -> io::Result<()> {
        let result = self.try_append(batch);
        if result.is_err() {
            // What of the batch arrived is read back from the file at the next attempt.
            self.entries = None;
        }
        result
    }

    fn try_append(&mut self, batch: &[Arc<StoredEntry>]) -> io::Result<()> {
        if self.entries.is_none() {
            self.open_entries()?;
        }
        let mut lines = String::new();
        let known = self.position;
        let mut last = known;
        for entry in batch.iter().filter(|entry| entry.position > known) {
            last = entry.position;
            let Some(line) = self.options.form.line(entry)? else { continue };
            lines.push_str(&line);
            lines.push('\n');
            if self.size + lines.len() as u64 >= self.options.max_bytes {
                self.write(&lines, last)?;
                self.rotate()?;
                lines.clear();
            }
        }
        self.write(&lines, last)
    }

    /// Writes lines that end with the entry at `last`.
    fn write(&mut self, lines: &str, last: Position) -> io::Result<()> {
        let file = self.entries.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        file.write_all(lines.as_bytes())?;
        self.size += lines.len() as u64;
        self.position = last;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let directory = &self.options.directory;
        if let Some(file) = self.entries.take() {
            file.sync_all()?;
        }
        let form = self.options.form;
        let aside = directory.join(format!("{}-{:020}.jsonl", form.stem(), self.position.0));
        let file = directory.join(form.file());
        std::fs::rename(&file, aside)?;
        self.entries = Some(open_private(&file)?);
        self.size = 0;
        if let Some(keep) = self.options.keep {
            let files = set_aside(&self.options)?;
            for (_, path) in files.iter().take(files.len().saturating_sub(keep)) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn append_checkpoints(&mut self, batch: &[SignedCheckpoint]) -> io::Result<()> {
        for signed in batch {
            let seq = signed.checkpoint().map_err(io::Error::other)?.seq;
            let line = serde_json::to_string(signed).map_err(io::Error::other)?;
            let end = self.checkpoints.seek(SeekFrom::End(0))?;
            if let Err(error) = self.checkpoints.write_all(format!("{line}\n").as_bytes()) {
                self.checkpoints.set_len(end)?;
                return Err(error);
            }
            self.checkpoint = seq;
        }
        Ok(())
    }
}

/// Files set aside, oldest first, with the last position that each holds.
fn set_aside(options: &FileSink) -> io::Result<Vec<(i64, PathBuf)>> {
    let mut files = Vec::new();
    let prefix = format!("{}-", options.form.stem());
    for entry in std::fs::read_dir(&options.directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let position = name.to_str().and_then(|name| {
            name.strip_prefix(prefix.as_str())?.strip_suffix(".jsonl")?.parse().ok()
        });
        if let Some(position) = position {
            files.push((position, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// Reads the last whole line that makes sense and cuts what stands behind it; leaves the file at its end.
fn last_line<T>(file: &mut File, read: impl Fn(&str) -> Option<T>) -> io::Result<Option<T>> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut window = 1 << 16;
    while end > 0 {
        let start = end.saturating_sub(window);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        io::Read::by_ref(file).take(end - start).read_to_end(&mut bytes)?;
        let Some(newline) = bytes.iter().rposition(|byte| *byte == b'\n') else {
            if start > 0 {
                window *= 2;
                continue;
            }
            file.set_len(0)?;
            break;
        };
        let line_start = bytes[..newline].iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        if line_start.is_none() && start > 0 {
            window *= 2;
            continue;
        }
        let line_start = line_start.unwrap_or(0);
        let value = std::str::from_utf8(&bytes[line_start..newline]).ok().and_then(&read);
        if value.is_some() {
            file.set_len(start + newline as u64 + 1)?;
            file.seek(SeekFrom::End(0))?;
            return Ok(value);
        }
        end = start + line_start as u64;
        file.set_len(end)?;
    }
    file.seek(SeekFrom::End(0))?;
    Ok(None)
}

#[cfg(unix)]
fn make(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(not(unix))]
fn make(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)
}

impl Follower {
    pub(crate) fn new(store: Store, files: Files) -> Self {
        Self { store, files: Some(files) }
    }

    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.store.inner().shared);
        let (mut head, mut checkpoint) = (shared.head(), shared.checkpoint());
        let mut state = shared.watch_state();
        loop {
            // Read before the work, so that what comes during it is seen afterwards.
            let stopped = *state.borrow_and_update() == AuditState::Stopped;
            head.mark_unchanged();
            checkpoint.mark_unchanged();
            let outcome = self.catch_up(&shared).await;
            let failed = outcome.is_err();
            if let Err(error) = &outcome {
                tracing::error!(error, "cannot write the audit file; the store has the entries");
            }
            shared.note(|notes| {
                notes.file_error = outcome.err();
                notes.file = self.files.as_ref().map(|files| files.position).or(notes.file);
            });
            if stopped {
                return;
            }
            if failed {
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    _ = state.changed() => {}
                }
                continue;
            }
            tokio::select! {
                _ = head.changed() => {}
                _ = checkpoint.changed() => {}
                _ = state.changed() => {}
            }
        }
    }

    async fn catch_up(&mut self, shared: &Shared) -> Result<(), String> {
        let (head, newest) = (*shared.head().borrow(), *shared.checkpoint().borrow());
        loop {
            let files = self.files.as_ref().ok_or("the audit file was lost")?;
            let (position, seq) = (files.position, files.checkpoint);
            if position > head {
                return Err(format!(
                    "the audit file is at entry {position} but the store ends at {head}: the store was replaced \
                     or cut; verify it, then move the file away"
                ));
            }
            let said = |error: StoreError| error.chain();
            if position < head {
                let batch = self.store.audit_after(position, PAGE).await.map_err(said)?;
                self.blocking(move |files| files.append(&batch)).await?;
            } else if seq < newest {
                let mut reader = self.store.read().await.map_err(said)?;
                let batch = reader.audit().checkpoints_after(seq, PAGE).await.map_err(said)?;
                drop(reader);
                self.blocking(move |files| files.append_checkpoints(&batch)).await?;
            } else {
                return Ok(());
            }
        }
    }

    /// Writes where a slow disk holds up nobody else.
    async fn blocking(
        &mut self,
        work: impl FnOnce(&mut Files) -> io::Result<()> + Send + 'static,
    ) -> Result<(), String> {
        let mut files = self.files.take().ok_or("the audit file was lost")?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut files);
            (files, result)
        })
        .await;
        let (files, result) = done.map_err(|error| error.to_string())?;
        self.files = Some(files);
        result.map_err(|error| error.to_string())
    }
}
