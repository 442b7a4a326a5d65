//! The session of a context on disk: tokens in 0600 files, changed only under a lock that all processes share.
//!
//! `sessions/<context>.json` holds the tokens, `<context>.kube.json` kubectl's credential, `<context>.lock` is locked
//! by whoever changes them, `<context>.attempt` tells waiting processes that a sign-in was tried and failed.
//! Times are of this machine's clock: what the hub says is moved by the difference of the clocks when it is stored.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nullius_model::{ObjectName, SessionId, Timestamp, UserName};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use url::Url;

use super::private_file::{private_directory, read_private, remove, write_private};
use crate::{
    client::patience::within,
    failure::{Failure, file_failure},
};

/// Tokens of a session as they are kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StoredSession {
    /// The hub that gave them; tokens are never sent to another.
    pub(crate) hub: Url,
    pub(crate) user: UserName,
    pub(crate) session: SessionId,
    pub(crate) access_token: String,
    /// By this machine's clock.
    pub(crate) access_expires_at: Timestamp,
    pub(crate) refresh_token: String,
    /// What this client proves at each refresh; an older version kept none.
    #[serde(default)]
    pub(crate) client_secret: String,
    /// By this machine's clock.
    pub(crate) session_expires_at: Timestamp,
}

/// kubectl's credential as it is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StoredCredential {
    pub(crate) session: SessionId,
    pub(crate) token: String,
    /// By this machine's clock.
    pub(crate) issued_at: Timestamp,
    /// By this machine's clock.
    pub(crate) expires_at: Timestamp,
}

/// What a sign-in that failed leaves for those who waited for it.
#[derive(Clone, Serialize, Deserialize)]
struct Attempt {
    ended_at: Timestamp,
}

/// Where the session of one context is kept.
#[derive(Debug, Clone)]
pub(crate) struct SessionFiles {
    directory: PathBuf,
    context: ObjectName,
}

/// The right to change the session; released when dropped, also by a crash.
pub(crate) struct Locked {
    _file: File,
}

impl SessionFiles {
    /// The files of a context.
    pub(crate) fn of(home: &Path, context: &ObjectName) -> Self {
        Self { directory: home.join("sessions"), context: context.clone() }
    }

    /// The session; nothing when nobody is signed in.
    pub(crate) fn session(&self) -> Result<Option<StoredSession>, Failure> {
        self.read("json")
    }

    /// kubectl's credential; nothing when there is none yet.
    pub(crate) fn credential(&self) -> Result<Option<StoredCredential>, Failure> {
        self.read("kube.json")
    }

    /// Keeps a session.
    pub(crate) fn store_session(&self, session: &StoredSession, _: &Locked) -> Result<(), Failure> {
        self.write("json", session)
    }

    /// Keeps kubectl's credential.
    pub(crate) fn store_credential(
        &self,
        credential: &StoredCredential,
        _: &Locked,
    ) -> Result<(), Failure> {
        self.write("kube.json", credential)
    }

    /// Forgets session and credential.
    pub(crate) fn forget(&self, _: &Locked) -> Result<(), Failure> {
        remove(&self.path("kube.json"))?;
        remove(&self.path("json"))
    }

    /// Forgets kubectl's credential alone.
    pub(crate) fn forget_credential(&self, _: &Locked) -> Result<(), Failure> {
        remove(&self.path("kube.json"))
    }

    /// Tells those who wait that a sign-in was tried and failed.
    pub(crate) fn store_attempt(&self, ended_at: Timestamp, _: &Locked) -> Result<(), Failure> {
        self.write("attempt", &Attempt { ended_at })
    }

    /// When the last failed sign-in ended.
    pub(crate) fn last_attempt(&self) -> Result<Option<Timestamp>, Failure> {
        Ok(self.read::<Attempt>("attempt")?.map(|attempt| attempt.ended_at))
    }

    /// Takes the lock, waiting for others at most so long.
    pub(crate) async fn lock(&self, patience: Duration) -> Result<Locked, Failure> {
        let path = self.path("lock");
        let failed = |error| file_failure("lock", &path, error);
        let file = self.open_lock()?;
        match file.try_lock() {
            Ok(()) => return Ok(Locked { _file: file }),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // A thread of its own waits: it holds nothing back when the process ends before the lock is free.
        let (send, locked) = oneshot::channel();
        std::thread::spawn(move || send.send(file.lock().map(|()| file)));
        match within(patience, locked).await {
            Ok(Ok(Ok(file))) => Ok(Locked { _file: file }),
            Ok(Ok(Err(error))) => Err(failed(error)),
            Ok(Err(_)) | Err(_) => Err(Failure::new("cannot take the session's lock")
                .why(format!(
                    "another nullius process holds it for more than {} s",
                    patience.as_secs()
                ))
                .next("end the other sign-in, or try again")),
        }
    }

    /// Takes the lock when it is free.
    pub(crate) fn try_lock(&self) -> Result<Option<Locked>, Failure> {
        let file = self.open_lock()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Locked { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(file_failure("lock", &self.path("lock"), error)),
        }
    }

    fn open_lock(&self) -> Result<File, Failure> {
        private_directory(&self.directory)?;
        let path = self.path("lock");
        let opened =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        opened.map_err(|error| file_failure("lock", &path, error))
    }

    fn read<T: serde::de::DeserializeOwned>(&self, end: &str) -> Result<Option<T>, Failure> {
        let path = self.path(end);
        let Some(text) = read_private(&path)? else { return Ok(None) };
        let read = serde_json::from_str(&text).map_err(|_| {
            // The parser's own message could quote a token.
            Failure::new(format!("cannot read `{}`", path.display()))
                .why("it is not what this version of nullius writes")
                .next(format!(
                    "delete it and sign in again: `rm {} && nullius login`",
                    path.display()
                ))
        })?;
        Ok(Some(read))
    }

    fn write(&self, end: &str, value: &impl Serialize) -> Result<(), Failure> {
        private_directory(&self.directory)?;
        write_private(&self.path(end), &crate::output::json_text(value)?)
    }

    fn path(&self, end: &str) -> PathBuf {
        self.directory.join(format!("{}.{end}", self.context))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[tokio::test]
    async fn only_one_holds_the_lock_and_the_others_are_told() {
        let home = tempfile::tempdir().unwrap();
        let files = SessionFiles::of(home.path(), &"one".parse().unwrap());
        let held = files.lock(Duration::from_secs(1)).await.unwrap();
        assert!(files.try_lock().unwrap().is_none());
        let failure = files.lock(Duration::from_millis(1)).await.err().unwrap();
        assert_eq!(failure.to_string(), "cannot take the session's lock");
        drop(held);
        assert!(files.lock(Duration::from_secs(5)).await.is_ok());
    }

    #[tokio::test]
    async fn a_session_survives_its_file_and_is_forgotten_whole() {
        let home = tempfile::tempdir().unwrap();
        let files = SessionFiles::of(home.path(), &"one".parse().unwrap());
        let lock = files.lock(Duration::from_secs(1)).await.unwrap();
        let session = StoredSession {
            hub: "https://hub.example".parse().unwrap(),
            user: "ada".parse().unwrap(),
            session: SessionId::from_bits(1),
            access_token: "a".to_owned(),
            access_expires_at: Timestamp::UNIX_EPOCH,
            refresh_token: "r".to_owned(),
            client_secret: "s".to_owned(),
            session_expires_at: Timestamp::UNIX_EPOCH,
        };
        files.store_session(&session, &lock).unwrap();
        assert!(files.session().unwrap() == Some(session));
        files.forget(&lock).unwrap();
        assert!(files.session().unwrap().is_none());
        std::fs::write(home.path().join("sessions/one.json"), "secret").unwrap();
        assert!(files.session().is_err());
    }
}
