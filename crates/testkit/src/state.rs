//! The directory that a developer's or a test run's clusters live in: one below it for each cluster.
//!
//! It is ours from the moment it is new or empty; anything else is refused, so that nobody's files go with the clusters.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use serde::Serialize;

use crate::{
    cluster::Cluster,
    config::check_name,
    environment, leftovers,
    owned::{self, private_directory},
    packages::is_root,
    progress::Progress,
    record::{ClusterRecord, JOURNAL, Journal, ProcessRecord},
};

/// How the name of a cluster's lock ends.
const LOCK: &str = ".lock";
/// How the name of the directory ends in which the logs of a failed start are kept.
const FAILED: &str = ".failed";
/// The kubelet's sockets stand some 45 bytes deeper, and a Unix socket's path has 107 bytes at most.
const LONGEST_PATH: usize = 55;

/// A state directory.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

/// How a cluster is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its name.
    pub name: String,
    /// `ready`, `starting`, `broken` (a process has ended or nothing answers).
    pub state: &'static str,
    /// What is known of it, once it worked.
    pub cluster: Option<ClusterRecord>,
    /// Its processes that run.
    pub running: Vec<ProcessRecord>,
    /// Its processes that have ended.
    pub ended: Vec<ProcessRecord>,
}

impl StateDir {
    /// The place used when nobody names one.
    pub fn default_path() -> PathBuf {
        PathBuf::from(format!("/tmp/nullius-dev-{}", rustix::process::getuid().as_raw()))
    }

    /// Opens a state directory and makes it if need be; one that holds anything but clusters is refused.
    pub fn open(path: &Path) -> Result<Self> {
        private_directory(path)?;
        let path = fs::canonicalize(path)?;
        take(&path)?;
        if is_root() && path.as_os_str().len() > LONGEST_PATH {
            bail!(
                "`{}` is too long a path for the sockets below it ({LONGEST_PATH} bytes at most): name another \
                 state directory",
                path.display()
            );
        }
        Ok(Self { path })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The clusters that were started here, by name, running or not.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = owned::names(&self.path)?;
        names.retain(|name| {
            let directory = self.directory(name);
            owned::is_marked(&directory) && directory.join(JOURNAL).exists()
        });
        Ok(names)
    }

    /// The clusters here that got ready, by name.
    pub fn clusters(&self) -> Result<Vec<Cluster>> {
        self.names()?.iter().filter_map(|name| self.cluster(name).transpose()).collect()
    }

    /// The cluster of this name, if it got ready.
    pub fn cluster(&self, name: &str) -> Result<Option<Cluster>> {
        Cluster::open(&self.directory(name))
    }

    /// How the clusters here are.
    pub fn status(&self) -> Result<Vec<Status>> {
        self.names()?.into_iter().map(|name| self.status_of(name)).collect()
    }

    fn status_of(&self, name: String) -> Result<Status> {
        let directory = self.directory(&name);
        let (running, ended): (Vec<_>, Vec<_>) =
            Journal::processes(&directory).into_iter().partition(ProcessRecord::is_alive);
        let cluster = Cluster::open(&directory)?;
        let state = match &cluster {
            None if self.lock_is_held(&name) => "starting",
            Some(cluster) if ended.is_empty() && cluster.is_ready() => "ready",
            None | Some(_) => "broken",
        };
        let cluster = cluster.map(|cluster| cluster.record().clone());
        Ok(Status { name, state, cluster, running, ended })
    }

    /// Ends the cluster of this name and removes all that it made; one that does not exist is fine.
    pub fn down(&self, name: &str, progress: Progress) -> Result<()> {
        let start = std::time::Instant::now();
        check_name(name)?;
        let _lock = self.lock(name, progress)?;
        let directory = self.directory(name);
        if !owned::is_marked(&directory) {
            return owned::remove(&directory);
        }
        leftovers::clear(&directory, None);
        let remaining = leftovers::remaining(&directory, None);
        if !remaining.is_empty() {
            bail!("cluster `{name}` is not quite gone: {}", remaining.join(", "));
        }
        progress.done(&format!("{name}: down"), start);
        Ok(())
    }

    /// Ends all clusters here, and removes the directory unless somebody has put files of their own into it.
    pub fn down_all(&self, progress: Progress) -> Result<()> {
        self.names()?.iter().try_for_each(|name| self.down(name, progress))?;
        for name in owned::names(&self.path)? {
            let path = self.path.join(&name);
            if name.ends_with(LOCK) && owned::is_lock(&path) {
                let _ = fs::remove_file(path);
            } else if name.ends_with(FAILED) && owned::is_marked(&path) {
                let _ = owned::remove(&path);
            }
        }
        owned::remove_if_bare(&self.path)
    }

    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where the logs of a start that failed are kept.
    pub(crate) fn failed(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}{FAILED}"))
    }

    /// Keeps two runs from starting or ending the same cluster at the same time.
    pub(crate) fn lock(&self, name: &str, progress: Progress) -> Result<File> {
        let mut file = owned::open_lock(&self.path.join(format!("{name}{LOCK}")))?;
        if file.try_lock().is_err() {
            progress.say(&format!("waiting for another run that starts or ends cluster `{name}`"));
            file.lock()?;
        }
        owned::sign_lock(&mut file)?;
        Ok(file)
    }

    fn lock_is_held(&self, name: &str) -> bool {
        File::open(self.path.join(format!("{name}{LOCK}")))
            .is_ok_and(|file| file.try_lock().is_err())
    }
}

/// What an entry of a state directory without our mark looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unmarked {
    /// A cluster or environment that an older version made: nobody else writes such a record.
    Ours,
    /// What may be from an older version, in company of the above: a lock, logs of a failed start.
    MaybeOurs,
    /// Anything else.
    Foreign,
}

/// Takes a directory that is empty, ours, or from an older version, which left no marks.
fn take(path: &Path) -> Result<()> {
    let found: Vec<_> = owned::names(path)?
        .into_iter()
        .map(|name| (unmarked(path, &name), name))
        .filter(|(_, name)| name != owned::MARK)
        .collect();
    let is = |kind: Unmarked| found.iter().filter(move |(found, _)| *found == Some(kind));
    let marked = owned::is_marked(path);
    if !marked && !found.is_empty() {
        let foreign: Vec<_> = is(Unmarked::Foreign).map(|(_, name)| name.clone()).collect();
        let known = is_default_place(path)
            || found.iter().any(|(kind, _)| matches!(kind, None | Some(Unmarked::Ours)));
        if !foreign.is_empty() || !known {
            let all = || found.iter().map(|(_, name)| name.clone()).collect();
            bail!("{}", owned::refusal(path, &if known { foreign } else { all() }));
        }
        for (_, name) in is(Unmarked::MaybeOurs) {
            let entry = path.join(name);
            if owned::is_directory(&entry) {
                owned::mark(&entry)?;
            } else {
                let mut lock = owned::open_lock(&entry)?;
                if lock.try_lock().is_ok() {
                    owned::sign_lock(&mut lock)?;
                }
            }
        }
    }
    for (_, name) in is(Unmarked::Ours) {
        owned::mark(&path.join(name))?;
    }
    if marked { Ok(()) } else { owned::mark(path) }
}

/// How an entry looks that carries no mark; nothing for one that does.
fn unmarked(state: &Path, name: &str) -> Option<Unmarked> {
    let path = state.join(name);
    if owned::is_marked(&path) || owned::is_lock(&path) {
        return None;
    }
    let of_cluster =
        |ending: &str| name.strip_suffix(ending).is_some_and(|cluster| check_name(cluster).is_ok());
    let ours = if name == environment::DIRECTORY {
        environment::is_of_older_version(&path)
    } else {
        of_cluster("") && !Journal::read(&path).is_empty()
    };
    let maybe = || {
        (of_cluster(LOCK) && is_empty_file(&path))
            || (of_cluster(FAILED) && holds_logs_alone(&path))
            || (name == environment::DIRECTORY && environment::may_be_of_older_version(&path))
    };
    Some(match ours {
        true => Unmarked::Ours,
        false if maybe() => Unmarked::MaybeOurs,
        false => Unmarked::Foreign,
    })
}

fn is_empty_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0)
}

fn holds_logs_alone(path: &Path) -> bool {
    let log = |name: &String| Path::new(name).extension().is_some_and(|ending| ending == "log");
    owned::is_directory(path) && owned::names(path).is_ok_and(|names| names.iter().all(log))
}

/// Whether only our own commands name such a place: `/tmp/nullius-dev-0`, `/tmp/nullius-test-0`.
fn is_default_place(path: &Path) -> bool {
    path.parent() == StateDir::default_path().parent()
        && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nullius-"))
}

#[cfg(test)]
mod tests;
