//! The nodes' own cgroups, on cgroup v2 and on v1 (or hybrid) hosts.
//!
//! Two kubelets below one root would remove each other's pods, so that each node gets a cgroup of its own in every
//! hierarchy; what is left in it when the node is gone is killed and removed.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::process;

const ROOT: &str = "/sys/fs/cgroup";
/// How long what was killed in a cgroup may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// Whether the host has one unified hierarchy.
pub(crate) fn is_unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Makes the cgroup of a node in every hierarchy.
pub(crate) fn create(name: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        let cgroup = hierarchy.join(name);
        fs::create_dir_all(&cgroup)
            .with_context(|| format!("cannot make the cgroup `{}`", cgroup.display()))?;
        if is_unified() {
            delegate_controllers(&hierarchy);
            delegate_controllers(&cgroup);
        }
        // A v1 cpuset takes no process before it has processors and memory nodes.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read(hierarchy.join(file)) {
                let _ = fs::write(cgroup.join(file), value);
            }
        }
    }
    Ok(())
}

/// Kills whatever runs in cgroups whose name starts with `prefix`, and removes them.
pub(crate) fn remove(prefix: &str) {
    let found: Vec<PathBuf> = hierarchies()
        .iter()
        .flat_map(|hierarchy| children(hierarchy))
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)))
        .collect();
    let began = Instant::now();
    while began.elapsed() < GONE_WITHIN {
        for cgroup in &found {
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
            walk(cgroup, &mut |cgroup| {
                let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
                processes.lines().filter_map(|pid| pid.parse().ok()).for_each(process::kill);
                let _ = fs::remove_dir(cgroup);
            });
        }
        if found.iter().all(|cgroup| !cgroup.exists()) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether any cgroup with this prefix exists.
pub(crate) fn exists(prefix: &str) -> bool {
    hierarchies()
        .iter()
        .flat_map(|hierarchy| children(hierarchy))
        .any(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)))
}

fn delegate_controllers(cgroup: &Path) {
    let controllers = fs::read_to_string(cgroup.join("cgroup.controllers")).unwrap_or_default();
    // One by one: a controller that cannot be had must not keep the others away.
    for controller in controllers.split_whitespace() {
        let _ = fs::write(cgroup.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn hierarchies() -> Vec<PathBuf> {
    if is_unified() { vec![PathBuf::from(ROOT)] } else { children(Path::new(ROOT)) }
}

fn children(path: &Path) -> Vec<PathBuf> {
    fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        // v1 has links such as `cpu` to `cpu,cpuacct`: the directory itself is enough.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn walk(cgroup: &Path, visit: &mut dyn FnMut(&Path)) {
    for child in children(cgroup) {
        walk(&child, visit);
    }
    visit(cgroup);
}
