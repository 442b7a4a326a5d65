//! Networks of pods that nobody handed over: those that began before this process, or while the plugin was not in its place.
//!
//! A process of a pod may make networks of its own, without any right, in user namespaces of its own. It cannot enter the node's user
//! namespace, where the runtime has put it: so of processes that are there all must be in one network. Of a pod that has a user namespace
//! whole (`hostUsers: false`) all processes must be.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use nullius_redirect::Network;
use nullius_workload::{CgroupRoot, Place, PodUid, place};

/// A namespace, among those of a machine at one time.
type Namespace = (u64, u64);

/// The networks in which processes of one pod are, of those that count.
enum Found {
    /// All are in one; a process that is there, by its open directory.
    One { users: Users, network: Namespace, path: PathBuf, process: File },
    /// They are in several.
    Several(Users),
}

/// Whose user namespace a process is in. The node's counts before all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Users {
    Own,
    Others,
}

impl Found {
    fn users(&self) -> Users {
        match self {
            Self::One { users, .. } | Self::Several(users) => *users,
        }
    }

    /// With another process.
    fn and(self, other: Self) -> Self {
        match (self.users().cmp(&other.users()), self, other) {
            (std::cmp::Ordering::Less, one, _) | (std::cmp::Ordering::Greater, _, one) => one,
            (_, one @ Self::One { network, .. }, Self::One { network: same, .. })
                if network == same =>
            {
                one
            }
            (_, one, _) => Self::Several(one.users()),
        }
    }
}

/// The networks of pods, by their UID; none of a pod whose processes disagree.
pub(crate) fn networks(
    wanted: &BTreeSet<PodUid>,
    root: &CgroupRoot,
) -> BTreeMap<PodUid, Arc<Network>> {
    let Ok(own) = namespace(Path::new("/proc/self/ns/user")) else { return BTreeMap::new() };
    let mut all: BTreeMap<PodUid, Option<Found>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // By the open directory, so that all that is read is of the same process.
        let Ok(process) = File::open(entry.path()) else { continue };
        let path = PathBuf::from(format!("/proc/self/fd/{}", process.as_raw_fd()));
        let Ok(cgroups) = fs::read_to_string(path.join("cgroup")) else { continue };
        let Ok(Place::Pod { pod, .. }) = place(&cgroups, root) else { continue };
        if !wanted.contains(&pod) {
            continue;
        }
        // One that ends meanwhile is in none.
        let Ok(found) = look(path, process, own) else { continue };
        match all.entry(pod) {
            Entry::Occupied(mut before) => {
                let before = before.get_mut();
                *before = Some(match before.take() {
                    Some(before) => before.and(found),
                    None => found,
                });
            }
            Entry::Vacant(place) => drop(place.insert(Some(found))),
        }
    }
    let mut networks = BTreeMap::new();
    for (pod, found) in all {
        match found {
            Some(Found::One { path, process: _process, .. }) => {
                match Network::open(&path.join("ns/net")) {
                    Ok(network) if network.is_own().is_ok_and(|own| !own) => {
                        networks.insert(pod, Arc::new(network));
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            Some(Found::Several(_)) => {
                tracing::warn!(%pod, "cannot tell which network a pod has: its processes are in several. Delete the pod, so that the next one is handed over");
            }
            None => {}
        }
    }
    networks
}

fn look(path: PathBuf, process: File, own: Namespace) -> io::Result<Found> {
    let users = match namespace(&path.join("ns/user"))? == own {
        true => Users::Own,
        false => Users::Others,
    };
    let network = namespace(&path.join("ns/net"))?;
    Ok(Found::One { users, network, path, process })
}

fn namespace(path: &Path) -> io::Result<Namespace> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn one(users: Users, network: u64) -> Found {
        let process = File::open("/proc/self").unwrap();
        Found::One { users, network: (4, network), path: "/proc/self".into(), process }
    }

    fn told(all: Vec<Found>) -> Option<u64> {
        match all.into_iter().reduce(Found::and).unwrap() {
            Found::One { network, .. } => Some(network.1),
            Found::Several(_) => None,
        }
    }

    #[test]
    fn a_network_of_a_pods_own_making_is_not_the_pods() {
        use Users::{Others, Own};
        assert_eq!(told(vec![one(Own, 7), one(Own, 7)]), Some(7));
        // Process 1 has made one, and another process serves where all others look for it; in whichever order they are read.
        assert_eq!(told(vec![one(Others, 9), one(Own, 7), one(Others, 8)]), Some(7));
        assert_eq!(told(vec![one(Own, 7), one(Others, 9)]), Some(7));
        assert_eq!(told(vec![one(Others, 8), one(Others, 9), one(Own, 7)]), Some(7));
        // With a user namespace of its own a pod is whole in one network, or nobody knows.
        assert_eq!(told(vec![one(Others, 9), one(Others, 9)]), Some(9));
        assert_eq!(told(vec![one(Others, 9), one(Others, 8), one(Others, 9)]), None);
        assert_eq!(told(vec![one(Own, 7), one(Own, 8), one(Others, 9)]), None);
    }

    /// Ends with the test.
    struct Ends(Child);

    impl Drop for Ends {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn who_has_unshared_is_told_from_who_is_where_the_runtime_put_it() {
        let own = namespace(Path::new("/proc/self/ns/user")).unwrap();
        let unshared = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "sh", "-c", "echo; exec sleep 60"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(unshared) = unshared else {
            return nullius_skip::skip("the program `unshare` is not here");
        };
        let mut unshared = Ends(unshared);
        let mut said = [0];
        let out = unshared.0.stdout.as_mut().unwrap();
        if io::Read::read(out, &mut said).unwrap() == 0 {
            return nullius_skip::skip("user namespaces are not allowed here");
        }
        let look = |pid: u32| {
            let path = PathBuf::from(format!("/proc/{pid}"));
            let process = File::open(&path).unwrap();
            look(path, process, own).unwrap()
        };
        let (here, there) = (look(std::process::id()), look(unshared.0.id()));
        assert_eq!((here.users(), there.users()), (Users::Own, Users::Others));
        let Found::One { network, .. } = here.and(there) else { unreachable!("one is first") };
        assert_eq!(network, namespace(Path::new("/proc/self/ns/net")).unwrap());
    }
}
