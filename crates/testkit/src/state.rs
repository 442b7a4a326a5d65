//! The directory that a developer's or a test run's clusters live in: one below it for each cluster.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::{
    cluster::Cluster,
    leftovers,
    packages::is_root,
    progress::Progress,
    record::{ClusterRecord, Journal, ProcessRecord},
    slot::private_directory,
};

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

    /// Opens a state directory and makes it if need be.
    pub fn open(path: &Path) -> Result<Self> {
        private_directory(path)?;
        let path = fs::canonicalize(path)?;
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
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.path().join("journal.jsonl").exists() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
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
        let _lock = self.lock(name, progress)?;
        let directory = self.directory(name);
        if !directory.exists() {
            return Ok(());
        }
        leftovers::clear(&directory, None);
        let remaining = leftovers::remaining(&directory, None);
        if !remaining.is_empty() {
            bail!("cluster `{name}` is not quite gone: {}", remaining.join(", "));
        }
        progress.done(&format!("{name}: down"), start);
        Ok(())
    }

    /// Ends all clusters here.
    pub fn down_all(&self, progress: Progress) -> Result<()> {
        self.names()?.iter().try_for_each(|name| self.down(name, progress))?;
        for entry in fs::read_dir(&self.path)?.flatten() {
            let extension = entry.path().extension().map(std::ffi::OsStr::to_owned);
            if extension.as_ref().is_some_and(|extension| extension == "lock") {
                let _ = fs::remove_file(entry.path());
            } else if extension.is_some_and(|extension| extension == "failed") {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        // Only if nothing else is in it.
        let _ = fs::remove_dir(&self.path);
        Ok(())
    }

    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where the logs of a start that failed are kept.
    pub(crate) fn failed(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.failed"))
    }

    /// Keeps two runs from starting or ending the same cluster at the same time.
    pub(crate) fn lock(&self, name: &str, progress: Progress) -> Result<File> {
        let path = self.path.join(format!("{name}.lock"));
        let file = File::create(&path)
            .with_context(|| format!("cannot make the lock `{}`", path.display()))?;
        if file.try_lock().is_err() {
            progress.say(&format!("waiting for another run that starts or ends cluster `{name}`"));
            file.lock()?;
        }
        Ok(file)
    }

    fn lock_is_held(&self, name: &str) -> bool {
        File::open(self.path.join(format!("{name}.lock")))
            .is_ok_and(|file| file.try_lock().is_err())
    }
}
