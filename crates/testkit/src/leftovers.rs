//! Ending a cluster for certain, however it came to its end: by record, and by looking for what the record lacks.
//!
//! The order matters: what restarts things dies first (kubelets, containerds), then pods, then mounts, network, cgroups
//! and files. Everything is found again from the directory and the slot alone.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cgroup, network, owned, process,
    record::{Entry, Journal},
    slot::Slot,
};

/// Ends all processes of the cluster in `directory`, and removes all that it made on this machine.
///
/// `slot` names a slot besides those in the journal: for a directory that is gone already. Files are removed only from a
/// directory that is ours, and not while anything is mounted in it.
pub(crate) fn clear(directory: &Path, slot: Option<Slot>) {
    let slots = slots(directory, slot);
    let namespaces: Vec<_> =
        slots.iter().flat_map(|slot| network::node_namespaces(Slot(*slot))).collect();

    let mut pids: BTreeSet<u32> = Journal::processes(directory)
        .into_iter()
        .filter(|process| process.is_alive())
        .map(|process| process.pid)
        .collect();
    pids.extend(process::marked(directory));
    for namespace in &namespaces {
        pids.extend(process::in_network_namespace(&Path::new("/run/netns").join(namespace)));
    }
    pids.iter().copied().for_each(process::kill);
    for slot in &slots {
        cgroup::remove(&format!("{}n", Slot(*slot).prefix()));
    }
    // A process may have started another one between the look and its end.
    let late = process::marked(directory);
    late.iter().copied().for_each(process::kill);
    pids.extend(late);
    process::wait_gone(&pids.into_iter().collect::<Vec<_>>(), Duration::from_secs(60));

    unmount_below(directory);
    for slot in &slots {
        network::remove(Slot(*slot));
        remove_traces(Slot(*slot), directory);
        Slot(*slot).remove_sockets();
    }
    if mounts_below(directory).is_empty() {
        // What stays is told by `remaining`.
        let _ = owned::remove(directory);
    }
    for slot in &slots {
        Slot(*slot).release(directory);
    }
}

/// What of a cluster still exists on this machine, in words; empty when all is gone.
pub(crate) fn remaining(directory: &Path, slot: Option<Slot>) -> Vec<String> {
    let mut found: Vec<_> =
        process::marked(directory).into_iter().map(|pid| format!("process {pid}")).collect();
    found.extend(mounts_below(directory).iter().map(|path| format!("mount {}", path.display())));
    for slot in slots(directory, slot) {
        let slot = Slot(slot);
        found.extend(network::node_namespaces(slot).iter().map(|name| format!("netns {name}")));
        if Path::new("/sys/class/net").join(slot.prefix()).exists() {
            found.push(format!("link {}", slot.prefix()));
        }
        if cgroup::exists(&format!("{}n", slot.prefix())) {
            found.push(format!("cgroups {}n*", slot.prefix()));
        }
    }
    if directory.exists() {
        found.push(format!("directory {}", directory.display()));
    }
    found
}

fn slots(directory: &Path, slot: Option<Slot>) -> BTreeSet<u8> {
    let journal = Journal::read(directory).into_iter().filter_map(|entry| match entry {
        Entry::Slot(slot) => Some(slot),
        Entry::Process(_) => None,
    });
    journal.chain(slot.map(|slot| slot.0)).collect()
}

/// Unmounts all below `directory`, the last mounted first (also the pods' network namespaces, which live there).
fn unmount_below(directory: &Path) {
    for mount in mounts_below(directory).into_iter().rev() {
        // Lazily: a mount that is still looked at must not stop the rest.
        let _ = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(&mount)
            .stderr(std::process::Stdio::null())
            .status();
    }
}

fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .filter(|path| path.starts_with(directory))
        .collect()
}

/// Files that the programs keep at fixed places outside the cluster's directory.
fn remove_traces(slot: Slot, directory: &Path) {
    let network = format!("{}n", slot.prefix());
    for entry in fs::read_dir("/var/lib/cni/results").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&network) {
            let _ = fs::remove_file(entry.path());
        }
    }
    for entry in fs::read_dir("/var/log/containers").into_iter().flatten().flatten() {
        if fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(directory)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
