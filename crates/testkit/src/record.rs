//! What is written down about a cluster: the journal while it is made, the record once it works.
//!
//! The journal is appended to before or at once after each thing is made, so that a run killed at any moment can be
//! cleaned; the record is what `status`, tests and other commands read.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::owned;

/// The file that the journal is.
pub(crate) const JOURNAL: &str = "journal.jsonl";
/// The version of the record's form.
const API_VERSION: &str = "nullius.dev/v1alpha1";

/// A process of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// What it is: `kube-apiserver`, `node1/kubelet`.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// When it started, in the system's units; tells it from a later process with the same id.
    pub started: String,
    /// The file that holds its output.
    pub log: PathBuf,
}

/// A node of a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name in Kubernetes.
    pub name: String,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The ranges its pods get their addresses from.
    pub pod_ranges: Vec<String>,
    /// The network namespace that it is.
    pub network_namespace: String,
    /// The socket of its containerd.
    pub containerd: PathBuf,
}

/// A running cluster, as written to `cluster.json` in its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRecord {
    /// The version of this form.
    pub api_version: String,
    /// Always `DevCluster`.
    pub kind: String,
    /// The cluster's name, unique in its state directory.
    pub name: String,
    /// The profile by which tests find it; none where it is a test's own.
    pub profile: Option<String>,
    /// The Kubernetes version, such as `v1.36.3`.
    pub kubernetes: String,
    /// The API server's URL.
    pub server: String,
    /// A kubeconfig of an administrator (`system:masters`).
    pub kubeconfig: PathBuf,
    /// The certificate authority that signed the API server's certificate.
    pub certificate_authority: PathBuf,
    /// The API server's own audit log.
    pub audit_log: Option<PathBuf>,
    /// The address under which pods and nodes reach this machine.
    pub host_address: Option<IpAddr>,
    /// Its nodes.
    pub nodes: Vec<NodeRecord>,
    /// Why there are fewer nodes than asked for, if so.
    pub missing: Option<String>,
    /// The built kubectl of the cluster's own version.
    pub kubectl: Option<PathBuf>,
    /// containerd's `ctr`, to bring images to the nodes.
    pub ctr: Option<PathBuf>,
    /// Seconds from the start of `up` to each step.
    pub timings: Vec<(String, f64)>,
}

impl ClusterRecord {
    pub(crate) fn new(name: &str, profile: Option<&str>) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "DevCluster".to_owned(),
            name: name.to_owned(),
            profile: profile.map(str::to_owned),
            kubernetes: String::new(),
            server: String::new(),
            kubeconfig: PathBuf::new(),
            certificate_authority: PathBuf::new(),
            audit_log: None,
            host_address: None,
            nodes: Vec::new(),
            missing: None,
            kubectl: None,
            ctr: None,
            timings: Vec::new(),
        }
    }

    /// Reads the record of the cluster in `directory`, if it got as far as having one.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>> {
        let file = directory.join("cluster.json");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("`{}`", file.display())),
        };
        let record = serde_json::from_str(&text)
            .with_context(|| format!("cannot read the cluster record `{}`", file.display()))?;
        Ok(Some(record))
    }

    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        let file = directory.join("cluster.json");
        let draft = directory.join("cluster.json.new");
        fs::write(&draft, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&draft, &file)?;
        Ok(())
    }
}

/// One thing that was made, in the order of making.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Entry {
    /// The machine-wide slot, which names the network namespaces, links and cgroups.
    Slot(u8),
    /// A process that was started.
    Process(ProcessRecord),
}

/// The append-only list of what was made for a cluster.
pub(crate) struct Journal {
    file: Mutex<fs::File>,
}

impl Journal {
    pub(crate) fn create(directory: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(directory.join(JOURNAL))?;
        Ok(Self { file: Mutex::new(file) })
    }

    pub(crate) fn add(&self, entry: &Entry) -> Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(&line)?;
        Ok(())
    }

    /// Reads what an earlier run wrote; a line that was cut off by its end is left out.
    pub(crate) fn read(directory: &Path) -> Vec<Entry> {
        if !owned::is_directory(directory) {
            return Vec::new();
        }
        let text = fs::read_to_string(directory.join(JOURNAL)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The processes that an earlier run wrote down.
    pub(crate) fn processes(directory: &Path) -> Vec<ProcessRecord> {
        let process = |entry| match entry {
            Entry::Process(process) => Some(process),
            Entry::Slot(_) => None,
        };
        Self::read(directory).into_iter().filter_map(process).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_journal_cut_off_in_the_middle_of_a_line_is_read_up_to_there() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::create(directory.path()).unwrap();
        journal.add(&Entry::Slot(3)).unwrap();
        let process = ProcessRecord {
            name: "etcd".to_owned(),
            pid: 7,
            started: "boot/1".to_owned(),
            log: PathBuf::from("/tmp/etcd.log"),
        };
        journal.add(&Entry::Process(process.clone())).unwrap();
        let file = directory.path().join("journal.jsonl");
        let whole = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{whole}{{\"process\":{{\"name\":\"kube")).unwrap();
        assert_eq!(Journal::read(directory.path()).len(), 2);
        assert_eq!(Journal::processes(directory.path()), [process]);
    }
}
