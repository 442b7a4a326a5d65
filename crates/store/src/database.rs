//! Opening the store, one writer connection and several readers, and transactions that carry their audit events.
//!
//! SQLite runs in WAL mode with `synchronous=FULL`: a commit is on the disk before it is acknowledged, and audit
//! events share commits so that this stays cheap. All writes of the process go through one connection, in turn.

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use nullius_model::{AuditEvent, Clock};
use sqlx::{
    ConnectOptions as _, SqlitePool,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    Attempts, AttemptsMut, Audit, Clusters, ClustersMut, Credentials, CredentialsMut, Findings,
    FindingsMut, Keys, KeysMut, Logins, LoginsMut, Mesh, MeshMut, Objects, ObjectsMut, OpenError,
    Position, ReportsMut, Sessions, SessionsMut, StoreError, Tokens, TokensMut, Trust, TrustMut,
    Usage, UsageMut,
    audit::{Encoded, Shared, Trail},
    directory::{self, Held},
    error::{DatabaseError, During as _},
    row::{Connection, Db},
    schema,
};

const READERS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a store lives: `sqlite:DIR`, a state directory, or `memory:`, gone with the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A state directory with one SQLite file.
    Directory(PathBuf),
    /// Nowhere; for tests.
    Memory,
}

/// Text that is no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a store: write `sqlite:DIRECTORY`")]
pub struct StoreUrlError(String);

impl FromStr for StoreUrl {
    type Err = StoreUrlError;
    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        match text.split_once(':') {
            Some(("sqlite", directory)) if !directory.is_empty() => {
                Ok(Self::Directory(directory.into()))
            }
            Some(("memory", "")) => Ok(Self::Memory),
            // What stands after the scheme may be a password.
            Some((scheme, _)) => Err(StoreUrlError(
                scheme.chars().take(40).flat_map(char::escape_debug).chain([':', '…']).collect(),
            )),
            None => {
                Err(StoreUrlError(text.chars().take(80).flat_map(char::escape_debug).collect()))
            }
        }
    }
}

/// The open store. Clones share it; the state directory is let go with the last one.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shared: Arc<Shared>,
    writer: Option<Arc<Mutex<WriteSide>>>,
    readers: SqlitePool,
    _held: Option<Held>,
}

/// The one connection that writes, and the audit trail that it continues.
pub(crate) struct WriteSide {
    pub(crate) conn: Connection,
    pub(crate) trail: Option<Trail>,
    /// Set while a transaction is open; still set when the next one begins, it was abandoned.
    open: bool,
}

/// A transaction: everything that is done through it becomes durable together at [`Tx::commit`], or not at all.
pub struct Tx {
    side: OwnedMutexGuard<WriteSide>,
    shared: Arc<Shared>,
    events: Vec<Encoded>,
}

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Where its last audit event stands, if it had any.
    pub audit: Option<Position>,
}

/// A connection that only reads.
pub struct Reader {
    conn: PoolConnection<Db>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store for this process alone, makes it where there is none, and brings its schema up to date.
    pub async fn open(url: &StoreUrl, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let (options, held, location) = match url {
            StoreUrl::Directory(directory) => {
                let held = directory::hold(directory)?;
                let options = file_options(directory)
                    .synchronous(SqliteSynchronous::Full)
                    .pragma("fullfsync", "ON")
                    // What is removed is overwritten where that costs no further write: a key that is gone is gone.
                    .pragma("secure_delete", "FAST")
                    .pragma("journal_size_limit", "67108864");
                (options, held, directory.display().to_string())
            }
            StoreUrl::Memory => {
                // SQLite's own databases in memory lock out readers while somebody writes; a file does not.
                let (directory, held) = directory::hold_temporary()?;
                let options = file_options(&directory).synchronous(SqliteSynchronous::Off);
                (options, held, "memory:".to_owned())
            }
        };
        let options = quiet(options).journal_mode(SqliteJournalMode::Wal);
        let mut conn = options.connect().await.map_err(schema::at(&location, "be opened"))?;
        schema::migrate(&mut conn, &location).await?;
        let side = WriteSide { conn, trail: None, open: false };
        let shared = Arc::new(Shared::new(Arc::clone(&clock)));
        Ok(Self {
            inner: Arc::new(Inner {
                clock,
                shared,
                writer: Some(Arc::new(Mutex::new(side))),
                readers: readers(options.pragma("query_only", "ON")),
                _held: Some(held),
            }),
        })
    }

    /// Opens a state directory for reading, also while a hub runs on it.
    pub async fn open_read_only(
        directory: &std::path::Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let location = directory.display().to_string();
        std::fs::metadata(directory::database_file(directory))
            .map_err(|source| OpenError::Directory { path: directory.to_owned(), source })?;
        let options = quiet(file_options(directory)).pragma("query_only", "ON");
        let mut conn = options.connect().await.map_err(schema::at(&location, "be opened"))?;
        let (found, known) = (schema::found(&mut conn, &location).await?, schema::known());
        if found > known {
            return Err(OpenError::Newer { found, known });
        }
        if found < known {
            return Err(OpenError::Older { found, known });
        }
        let shared = Arc::new(Shared::new(Arc::clone(&clock)));
        Ok(Self {
            inner: Arc::new(Inner {
                clock,
                shared,
                writer: None,
                readers: readers(options),
                _held: None,
            }),
        })
    }

    /// A store in memory, gone with its last clone; the double for tests.
    pub async fn open_in_memory(clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Self::open(&StoreUrl::Memory, clock).await
    }

    /// Begins a transaction; waits its turn, at most 10 seconds.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let writer = self.inner.writer.as_ref().ok_or(StoreError::ReadOnly)?;
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(writer).lock_owned()).await;
        let mut side = turn.map_err(|_| StoreError::Busy)?;
        if side.open {
            side.recover().await?;
            if let Some(trail) = &side.trail {
                self.inner.shared.catch_up(trail.last_position(), trail.last_checkpoint());
            }
        }
        side.open = true;
        sqlx::raw_sql("BEGIN IMMEDIATE")
            .execute(&mut side.conn)
            .await
            .during("begin a transaction")?;
        Ok(Tx { side, shared: Arc::clone(&self.inner.shared), events: Vec::new() })
    }

    /// Takes a connection that reads; it sees what was committed before.
    pub async fn read(&self) -> Result<Reader, StoreError> {
        Ok(Reader { conn: self.inner.readers.acquire().await.during("open a connection to read")? })
    }

    /// Closes all connections in good order; what was not committed is gone.
    pub async fn close(&self) {
        self.inner.readers.close().await;
        if let Some(writer) = &self.inner.writer {
            let mut side = writer.lock().await;
            if let Err(error) = side.recover().await {
                tracing::warn!(error = %error.chain(), "cannot settle the store while closing it");
            }
            if let Err(error) = side.fold_journal().await {
                tracing::warn!(error = %error.chain(), "cannot fold the journal into the store while closing it");
            }
        }
    }

    /// Folds the journal into the store and empties it: what was removed before is in neither.
    pub async fn fold_journal(&self) -> Result<(), StoreError> {
        let writer = self.inner.writer.as_ref().ok_or(StoreError::ReadOnly)?;
        let mut side = writer.lock().await;
        side.recover().await?;
        side.fold_journal().await
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

fn file_options(directory: &std::path::Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(directory::database_file(directory))
}

fn quiet(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options.foreign_keys(true).busy_timeout(PATIENCE).disable_statement_logging()
}

fn readers(options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(PATIENCE)
        .idle_timeout(Duration::from_secs(60))
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

impl WriteSide {
    /// Ends a transaction that was abandoned, and learns anew where the audit trail stands.
    pub(crate) async fn recover(&mut self) -> Result<(), StoreError> {
        if !self.open {
            return Ok(());
        }
        // SQLite may have ended the transaction itself, which makes this an error of no meaning.
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut self.conn).await;
        if let Some(trail) = &mut self.trail {
            trail.reload(&mut self.conn).await?;
        }
        self.open = false;
        Ok(())
    }

    async fn fold_journal(&mut self) -> Result<(), StoreError> {
        sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut self.conn)
            .await
            .during("fold its journal")?;
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        sqlx::raw_sql("COMMIT").execute(&mut self.conn).await.during("commit a transaction")?;
        self.open = false;
        Ok(())
    }
}

impl Tx {
    /// Adds an event that becomes durable with this transaction.
    pub fn audit(&mut self, event: &AuditEvent) -> Result<(), StoreError> {
        self.events.push(Encoded::new(event)?);
        Ok(())
    }

    /// Makes everything durable. On an error nothing happened.
    pub async fn commit(mut self) -> Result<Committed, StoreError> {
        let events = std::mem::take(&mut self.events);
        if events.is_empty() {
            self.side.commit().await?;
            return Ok(Committed { audit: None });
        }
        match self.commit_audited(events.iter()).await {
            Ok(position) => Ok(Committed { audit: Some(position) }),
            Err(error) => {
                if matches!(error, StoreError::Database { .. }) {
                    self.shared.fail(error.chain());
                    self.shared.probe.notify_one();
                }
                Err(error)
            }
        }
    }

    /// Undoes everything.
    pub async fn rollback(mut self) -> Result<(), StoreError> {
        self.side.recover().await
    }

    /// Appends events to the trail and commits; tells readers of the trail afterwards.
    pub(crate) async fn commit_audited<'e>(
        &mut self,
        events: impl ExactSizeIterator<Item = &'e Encoded> + Clone,
    ) -> Result<Position, StoreError> {
        let side = &mut *self.side;
        let mut next = side.trail.clone().ok_or(crate::AuditUnavailable::Stopped)?;
        let written = next.append(&mut side.conn, events).await?;
        let last = next.last_position();
        self.commit_trail(next).await?;
        self.shared.publish(written, last);
        Ok(last)
    }

    /// Commits, and continues with a trail that the transaction moved.
    pub(crate) async fn commit_trail(&mut self, next: Trail) -> Result<(), StoreError> {
        let side = &mut *self.side;
        if let Err(error) = side.commit().await {
            // The disk may have taken the commit and failed to say so; the trail itself knows.
            side.recover().await?;
            if side.trail.as_ref().map(Trail::heads) != Some(next.heads()) {
                return Err(error);
            }
        }
        side.trail = Some(next);
        Ok(())
    }

    pub(crate) fn side(&mut self) -> &mut WriteSide {
        &mut self.side
    }

    /// Objects of the fleet.
    pub fn objects(&mut self) -> ObjectsMut<'_> {
        ObjectsMut::new(&mut self.side.conn)
    }

    /// Attempts to sign in.
    pub fn attempts(&mut self) -> AttemptsMut<'_> {
        AttemptsMut::new(&mut self.side.conn)
    }

    /// Passwords and second factors of people.
    pub fn credentials(&mut self) -> CredentialsMut<'_> {
        CredentialsMut::new(&mut self.side.conn)
    }

    /// Sessions and their refresh tokens.
    pub fn sessions(&mut self) -> SessionsMut<'_> {
        SessionsMut::new(&mut self.side.conn)
    }

    /// Codes of sign-ins under way.
    pub fn logins(&mut self) -> LoginsMut<'_> {
        LoginsMut::new(&mut self.side.conn)
    }

    /// Enrolment links and join tokens.
    pub fn tokens(&mut self) -> TokensMut<'_> {
        TokensMut::new(&mut self.side.conn)
    }

    /// Trust in clusters and what sessions have there.
    pub fn clusters(&mut self) -> ClustersMut<'_> {
        ClustersMut::new(&mut self.side.conn)
    }

    /// How authorities of workloads stand.
    pub fn trust(&mut self) -> TrustMut<'_> {
        TrustMut::new(&mut self.side.conn)
    }

    /// Sealed keys and counters.
    pub fn keys(&mut self) -> KeysMut<'_> {
        KeysMut::new(&mut self.side.conn)
    }

    /// Which batches agents told.
    pub fn reports(&mut self) -> ReportsMut<'_> {
        ReportsMut::new(&mut self.side.conn)
    }

    /// Findings.
    pub fn findings(&mut self) -> FindingsMut<'_> {
        FindingsMut::new(&mut self.side.conn)
    }

    /// Calls between workloads.
    pub fn mesh(&mut self) -> MeshMut<'_> {
        MeshMut::new(&mut self.side.conn)
    }

    /// Merged uses.
    pub fn usage(&mut self) -> UsageMut<'_> {
        UsageMut::new(&mut self.side.conn)
    }
}

impl Reader {
    /// Objects of the fleet.
    pub fn objects(&mut self) -> Objects<'_> {
        Objects { conn: &mut self.conn }
    }

    /// Attempts to sign in.
    pub fn attempts(&mut self) -> Attempts<'_> {
        Attempts { conn: &mut self.conn }
    }

    /// Passwords and second factors of people.
    pub fn credentials(&mut self) -> Credentials<'_> {
        Credentials { conn: &mut self.conn }
    }

    /// Sessions and their refresh tokens.
    pub fn sessions(&mut self) -> Sessions<'_> {
        Sessions { conn: &mut self.conn }
    }

    /// Codes of sign-ins under way.
    pub fn logins(&mut self) -> Logins<'_> {
        Logins { conn: &mut self.conn }
    }

    /// Enrolment links and join tokens.
    pub fn tokens(&mut self) -> Tokens<'_> {
        Tokens { conn: &mut self.conn }
    }

    /// Trust in clusters and what sessions have there.
    pub fn clusters(&mut self) -> Clusters<'_> {
        Clusters { conn: &mut self.conn }
    }

    /// How authorities of workloads stand.
    pub fn trust(&mut self) -> Trust<'_> {
        Trust { conn: &mut self.conn }
    }

    /// Sealed keys and counters.
    pub fn keys(&mut self) -> Keys<'_> {
        Keys { conn: &mut self.conn }
    }

    /// Findings.
    pub fn findings(&mut self) -> Findings<'_> {
        Findings { conn: &mut self.conn }
    }

    /// Calls between workloads.
    pub fn mesh(&mut self) -> Mesh<'_> {
        Mesh { conn: &mut self.conn }
    }

    /// Merged uses.
    pub fn usage(&mut self) -> Usage<'_> {
        Usage { conn: &mut self.conn }
    }

    /// The audit trail.
    pub fn audit(&mut self) -> Audit<'_> {
        Audit { conn: &mut self.conn }
    }
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        Self(error)
    }
}
