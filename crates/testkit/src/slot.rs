//! Slots: what clusters on one machine must not share, handed out machine-wide.
//!
//! A slot decides names of network namespaces, links and cgroups, address ranges and ports. Several state directories
//! (a developer's `up`, a test run) may be used at the same time, so that a claim is a file that names its owner.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::{leftovers, owned::private_directory, packages::is_root};

/// Where root keeps claims and sockets.
const ROOT_DIRECTORY: &str = "/run/nullius-dev";
/// How many clusters one machine can run at the same time (the pod ranges are one /16 in sixteen parts).
const SLOTS: u8 = 16;
/// Where the ports of the first slot begin.
const FIRST_PORT: u16 = 26_400;

/// A machine-wide number that belongs to one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u8);

/// The ports that one control plane listens on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) api_server: u16,
    pub(crate) etcd: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) controller_manager: u16,
    pub(crate) scheduler: u16,
}

impl Slot {
    /// Claims a free slot for the cluster in `directory`; cleans a slot whose owner has vanished.
    pub(crate) fn claim(directory: &Path) -> Result<Self> {
        let slots = directory_of_slots()?;
        let lock = File::create(slots.join("lock"))?;
        lock.lock()?;
        for slot in 1..=SLOTS {
            let claim = slots.join(slot.to_string());
            let owner = fs::read_to_string(&claim).ok().map(PathBuf::from);
            if let Some(owner) = owner.filter(|owner| owner != directory) {
                if owner.join("journal.jsonl").exists() {
                    continue;
                }
                leftovers::clear(&owner, Some(Self(slot)));
            }
            fs::write(&claim, directory.as_os_str().as_encoded_bytes())?;
            return Ok(Self(slot));
        }
        bail!(
            "all {SLOTS} places for clusters on this machine are taken; the files in `{}` name the directories \
             that hold them: end one with `cargo xtask cluster down --state DIR`",
            slots.display()
        )
    }

    /// Gives the slot back.
    pub(crate) fn release(self, directory: &Path) {
        let Ok(slots) = directory_of_slots() else {
            return;
        };
        let claim = slots.join(self.0.to_string());
        if fs::read_to_string(&claim).is_ok_and(|owner| Path::new(&owner) == directory) {
            let _ = fs::remove_file(claim);
        }
    }

    /// The name that starts all names of this slot's links, namespaces and cgroups.
    pub(crate) fn prefix(self) -> String {
        format!("nullius{}", self.0)
    }

    /// The name of a node's network namespace, link and cgroup.
    pub(crate) fn node(self, number: u8) -> String {
        format!("{}n{number}", self.prefix())
    }

    /// The directory of a node's sockets: short, since the path of a Unix socket has 107 bytes at most.
    pub(crate) fn sockets(self, number: u8) -> PathBuf {
        Path::new(ROOT_DIRECTORY).join(self.node(number))
    }

    /// Removes the directories of the nodes' sockets.
    pub(crate) fn remove_sockets(self) {
        for number in 1..=crate::network::MOST_NODES {
            let _ = fs::remove_dir_all(self.sockets(number));
        }
    }

    /// Five free ports: the slot's own, or the next free ones when another program holds one of them.
    pub(crate) fn ports(self) -> Result<Ports> {
        let first = FIRST_PORT + u16::from(self.0) * 20;
        for base in (first..60_000).step_by(usize::from(SLOTS) * 20) {
            let free = |offset: &u16| {
                let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, base + offset));
                TcpListener::bind(address).is_ok()
            };
            if (0..5).all(|offset| free(&offset)) {
                return Ok(Ports {
                    api_server: base,
                    etcd: base + 1,
                    etcd_peer: base + 2,
                    controller_manager: base + 3,
                    scheduler: base + 4,
                });
            }
        }
        bail!("no five neighbouring TCP ports are free for a control plane")
    }
}

fn directory_of_slots() -> Result<PathBuf> {
    let own = rustix::process::getuid().as_raw();
    let slots = if is_root() {
        PathBuf::from(ROOT_DIRECTORY)
    } else {
        PathBuf::from(format!("/tmp/nullius-dev-slots-{own}"))
    };
    private_directory(&slots)?;
    Ok(slots)
}
