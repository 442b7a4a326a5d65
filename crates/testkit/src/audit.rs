//! The API server's own audit log, to compare ours with.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::wait::wait_until;

/// The audit log of one API server.
#[derive(Clone, Debug)]
pub struct AuditLog {
    file: PathBuf,
}

/// An `audit.k8s.io/v1` Event of the API server.
#[derive(Clone, Debug)]
pub struct AuditEntry(pub Value);

impl AuditLog {
    pub(crate) fn new(file: &Path) -> Self {
        Self { file: file.to_owned() }
    }

    /// All entries so far.
    pub fn entries(&self) -> Result<Vec<AuditEntry>> {
        self.entries_where(|_| true)
    }

    /// The entries whose line, as it is written, is as wanted: reading all of a long log takes its time.
    pub fn entries_where(&self, mut wanted: impl FnMut(&str) -> bool) -> Result<Vec<AuditEntry>> {
        let text = fs::read_to_string(&self.file)
            .with_context(|| format!("cannot read the audit log `{}`", self.file.display()))?;
        // The last line may be half written yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .filter(|line| wanted(line))
            .map(|line| Ok(AuditEntry(serde_json::from_str(line).context("an audit log line")?)))
            .collect()
    }

    /// The entries of one request, by its Audit-ID.
    pub fn by_id(&self, audit_id: &str) -> Result<Vec<AuditEntry>> {
        let mut entries = self.entries_where(|line| line.contains(audit_id))?;
        entries.retain(|entry| entry.text("/auditID") == audit_id);
        Ok(entries)
    }

    /// Waits for an entry that is as wanted.
    pub fn wait_for(
        &self,
        what: &str,
        mut wanted: impl FnMut(&AuditEntry) -> bool,
    ) -> Result<AuditEntry> {
        wait_until(Duration::from_secs(90), &format!("an audit entry: {what}"), || {
            self.entries().ok()?.into_iter().find(|entry| wanted(entry))
        })
    }
}

impl AuditEntry {
    /// The text at a JSON pointer, such as `/user/username`; empty when there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}
