//! Processes of a cluster: started in the background with a log file, known by pid and start time, ended for certain.
//!
//! A pid alone is never trusted: it may have been given to somebody else since. Every process carries the directory of
//! its cluster in its environment, so that one whose record was lost is found as well.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::{interrupt::go_on, record::ProcessRecord};

/// The environment variable that names the cluster directory a process belongs to.
pub(crate) const MARKER: &str = "NULLIUS_DEV_CLUSTER";

/// A program to be run in the background.
pub(crate) struct Daemon<'a> {
    pub(crate) name: &'a str,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// The cluster's own directory.
    pub(crate) directory: &'a Path,
    pub(crate) log: PathBuf,
    /// The network namespace to enter, if not the host's.
    pub(crate) namespace: Option<String>,
    /// Directories put in front of PATH.
    pub(crate) path: Vec<PathBuf>,
}

impl Daemon<'_> {
    /// Starts it, detached from the terminal, and says who it is.
    pub(crate) fn spawn(self) -> Result<ProcessRecord> {
        go_on()?;
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = match &self.namespace {
            // Not `ip netns exec`: that remounts /sys and hides the cgroups. nsenter execs, so that the pid stays.
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = self.path.iter().cloned().chain(std::env::split_paths(&path));
        let mut child = command
            .args(&self.args)
            .env("PATH", std::env::join_paths(path)?)
            .env(MARKER, self.directory)
            .env_remove("KUBECONFIG")
            .env_remove("NOTIFY_SOCKET")
            .current_dir(self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.program.display()))?;
        let pid = child.id();
        let started = start_time(pid).unwrap_or_default();
        wait_for_environment(pid);
        // Somebody has to take the exit status, else an ended process stays behind as a zombie of this one.
        thread::spawn(move || child.wait());
        Ok(ProcessRecord { name: self.name.to_owned(), pid, started, log: self.log })
    }
}

impl ProcessRecord {
    /// Whether this very process still runs.
    pub fn is_alive(&self) -> bool {
        start_time(self.pid).is_some_and(|started| started == self.started)
    }
}

/// When a running process started, in the system's own units; `None` if there is none, or only its zombie.
pub(crate) fn start_time(pid: u32) -> Option<String> {
    if cfg!(target_os = "linux") {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold spaces and brackets; fields are counted from behind it, where state is the first.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let alive = !matches!(*fields.first()?, "Z" | "X" | "x");
        // The time counts from boot, so that the boot has to be named as well.
        return alive.then(|| Some(format!("{}/{}", boot(), fields.get(19)?)))?;
    }
    let pid = pid.to_string();
    let output = Command::new("ps").args(["-o", "state=,lstart=", "-p", &pid]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty() && !text.starts_with('Z'))
        .then(|| text.split_whitespace().skip(1).collect::<Vec<_>>().join(" "))
}

/// What tells this boot of the machine from every other.
fn boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_owned()
    })
}

/// Sends SIGKILL; a process that is gone already is fine.
pub(crate) fn kill(pid: u32) {
    send(pid, Signal::KILL);
}

/// Sends SIGTERM; a process that is gone already is fine.
pub(crate) fn terminate(pid: u32) {
    send(pid, Signal::TERM);
}

fn send(pid: u32, signal: Signal) {
    let own = std::process::id();
    if let Some(pid) = i32::try_from(pid).ok().filter(|_| pid != own).and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Waits until a process that was just started shows its environment, or is gone.
///
/// `spawn` returns when the old memory was given up, which is a moment before the kernel has laid out the new one: until
/// then `/proc/PID/environ` is empty, and who looks for a cluster's processes would miss this one.
fn wait_for_environment(pid: u32) {
    let shown = || {
        fs::read(format!("/proc/{pid}/environ")).map_or(true, |environment| !environment.is_empty())
    };
    while cfg!(target_os = "linux") && !shown() && start_time(pid).is_some() {
        thread::yield_now();
    }
}

/// All processes that carry `directory` in their environment.
pub(crate) fn marked(directory: &Path) -> Vec<u32> {
    let marker = format!("{MARKER}={}", directory.display());
    pids()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                environment.split(|byte| *byte == 0).any(|entry| entry == marker.as_bytes())
            })
        })
        .collect()
}

/// All processes whose network namespace is the one mounted at `file`.
pub(crate) fn in_network_namespace(file: &Path) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;
    let Ok(wanted) = fs::metadata(file) else {
        return Vec::new();
    };
    let same = |pid: &u32| {
        fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|found| found.ino() == wanted.ino() && found.dev() == wanted.dev())
    };
    pids().filter(same).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let own = std::process::id();
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(move |pid| *pid != own)
}

/// Waits until none of these runs any more, at most `limit`.
pub(crate) fn wait_gone(pids: &[u32], limit: Duration) {
    let start = Instant::now();
    while !pids.iter().all(|pid| is_gone(*pid)) && start.elapsed() < limit {
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process has given back all it held: its first thread may be dead while others still close sockets.
fn is_gone(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    start_time(pid).is_none() && threads <= 1
}

/// The last lines of a log, for an error message.
pub(crate) fn log_tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_process_that_got_the_same_id_later_is_another_one() {
        let pid = std::process::id();
        let started = start_time(pid).unwrap();
        let record = |started: &str| ProcessRecord {
            name: "self".to_owned(),
            pid,
            started: started.to_owned(),
            log: PathBuf::new(),
        };
        assert!(record(&started).is_alive());
        assert!(!record("another boot/1").is_alive());
        assert!(!record("").is_alive());
    }

    #[test]
    fn a_daemon_is_found_by_its_directory_and_ended() {
        let directory = tempfile::tempdir().unwrap();
        let daemon = Daemon {
            name: "sleeper",
            program: PathBuf::from("sleep"),
            args: vec!["1000".to_owned()],
            directory: directory.path(),
            log: directory.path().join("sleeper.log"),
            namespace: None,
            path: Vec::new(),
        };
        let process = daemon.spawn().unwrap();
        assert!(process.is_alive());
        if cfg!(target_os = "linux") {
            assert_eq!(marked(directory.path()), [process.pid]);
        }
        kill(process.pid);
        wait_gone(&[process.pid], Duration::from_secs(60));
        assert!(!process.is_alive());
    }
}
