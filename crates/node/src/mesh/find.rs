//! Networks of pods that nobody handed over: those that began before this process, or while the plugin was not in its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::fd::AsRawFd as _,
    path::PathBuf,
    sync::Arc,
};

use nullius_redirect::Network;
use nullius_workload::{CgroupRoot, Place, PodUid, place};

/// The networks of pods, by their UID: of each pod that of its oldest process, which is its sandbox and none of its own images.
pub(crate) fn networks(
    wanted: &BTreeSet<PodUid>,
    root: &CgroupRoot,
) -> BTreeMap<PodUid, Arc<Network>> {
    let mut oldest: BTreeMap<PodUid, (u64, PathBuf, File)> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // By the open directory, so that all that is read is of the same process.
        let Ok(directory) = File::open(entry.path()) else { continue };
        let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let Ok(cgroups) = fs::read_to_string(path.join("cgroup")) else { continue };
        let Ok(Place::Pod { pod, .. }) = place(&cgroups, root) else { continue };
        if !wanted.contains(&pod) {
            continue;
        }
        let Some(began) = fs::read_to_string(path.join("stat")).ok().and_then(|it| began(&it))
        else {
            continue;
        };
        if oldest.get(&pod).is_none_or(|(before, ..)| began < *before) {
            oldest.insert(pod, (began, path, directory));
        }
    }
    let mut found = BTreeMap::new();
    for (pod, (_, path, _directory)) in oldest {
        match Network::open(&path.join("ns/net")) {
            Ok(network) if network.is_own().is_ok_and(|own| !own) => {
                found.insert(pod, Arc::new(network));
            }
            Ok(_) | Err(_) => {}
        }
    }
    found
}

/// When a process began, by its `stat`: the 22nd field, and the name in the second may hold anything.
fn began(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_found_behind_any_name() {
        let fields = (3..=30).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(began(&format!("7 (a) b) S 1 2) {fields}")), Some(22));
        assert_eq!(began(&format!("7 (sh) {fields}")), Some(22));
        assert_eq!(began("7 (sh) S 1"), None);
    }
}
