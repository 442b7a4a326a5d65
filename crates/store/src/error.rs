//! What can go wrong, said to the person who can mend it. The database's own words are the source, never the message.

use std::{fmt, path::PathBuf};

use nullius_model::Kind;

use crate::AuditUnavailable;

/// An error of the database driver; shown, not matched on.
#[derive(Debug)]
pub struct DatabaseError(pub(crate) sqlx::Error);

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            sqlx::Error::Database(error) => {
                write!(f, "{} (code {})", error.message(), code(&**error))
            }
            sqlx::Error::PoolTimedOut => f.write_str("no connection became free in time"),
            other => other.fmt(f),
        }
    }
}

impl std::error::Error for DatabaseError {}

fn code(error: &dyn sqlx::error::DatabaseError) -> String {
    error.code().map(|code| code.into_owned()).unwrap_or_else(|| "unknown".to_owned())
}

/// A read or write that did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database refused; disk full, damaged, busy.
    #[error("the store could not {operation}")]
    Database {
        /// What was tried, as in "could not …".
        operation: &'static str,
        #[source]
        source: DatabaseError,
    },
    /// A row does not have the form that this version writes.
    #[error("the store holds an unreadable {what}; was it changed from outside?")]
    Corrupt {
        /// What it should be.
        what: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another write did not finish in time.
    #[error("the store is busy: a write has been waiting for 10 seconds; try again")]
    Busy,
    /// The store was opened for reading.
    #[error("the store is open for reading only")]
    ReadOnly,
    /// Create, of what is there.
    #[error(
        "{kind} `{name}` exists already; choose another name, or change it with `nullius apply`"
    )]
    Exists { kind: Kind, name: String },
    /// Read, change or removal of what is not there.
    #[error("{kind} `{name}` does not exist; `nullius get {}` lists what does", .kind.plural())]
    NotFound { kind: Kind, name: String },
    /// Somebody else was faster.
    #[error(
        "{kind} `{name}` was changed by somebody else: its {field} is `{found}`, not `{wanted}`; read it again and repeat the change"
    )]
    Conflict { kind: Kind, name: String, field: &'static str, wanted: String, found: String },
    /// Audit events cannot be written, so what they tell of did not happen either.
    #[error(transparent)]
    Audit(#[from] AuditUnavailable),
}

impl StoreError {
    pub(crate) fn corrupt(
        what: &'static str,
    ) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Self {
        move |source| Self::Corrupt { what, source }
    }

    /// The whole chain of causes as one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

/// Names the operation of a driver error.
pub(crate) trait During<T> {
    fn during(self, operation: &'static str) -> Result<T, StoreError>;
}

impl<T> During<T> for Result<T, sqlx::Error> {
    fn during(self, operation: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::Database { operation, source: DatabaseError(error) })
    }
}

/// A store that could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory or a file in it cannot be used.
    #[error("state directory `{}` cannot be used; check that it exists or can be made, and who owns it", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Another process has it.
    #[error(
        "state directory `{}` is in use by process {process}; stop it first, or choose another directory", path.display()
    )]
    InUse { path: PathBuf, process: String },
    /// A newer version wrote it.
    #[error(
        "store was written by a newer nullius (schema {found}, this binary knows {known}): use that version, or restore a backup made before the upgrade"
    )]
    Newer { found: i64, known: i64 },
    /// Opened for reading, but this version writes another schema.
    #[error(
        "store was written by an older nullius (schema {found}, this binary reads {known}): start the hub once, it brings the store up to date"
    )]
    Older { found: i64, known: i64 },
    /// The file is no store, or damaged.
    #[error(
        "the store in `{location}` could not {operation}; check that it is a store of nullius and not damaged"
    )]
    Database {
        location: String,
        operation: &'static str,
        #[source]
        source: DatabaseError,
    },
}
