//! What is known of a process: read from the kernel, twice where it could change in between.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::fs::{AtFlags, CWD, readlinkat, statat};
use sha2::{Digest as _, Sha256};

use crate::{
    cgroup::{self, CgroupError, CgroupRoot, Place},
    peer::{Peer, PeerError, unreadable},
    procfs,
};

/// The longest executable that is hashed, in bytes.
const EXECUTABLE_MAX: u64 = 1024 * 1024 * 1024;
/// How often a process is read again that changes meanwhile.
const TRIES: u32 = 3;

/// Digests that are remembered.
const DIGESTS_MAX: usize = 256;

/// How processes are looked at.
#[derive(Debug, Clone)]
pub struct Attestor {
    cgroup_root: CgroupRoot,
    root: PathBuf,
    digests: Arc<Mutex<HashMap<FileId, [u8; 32]>>>,
}

/// What is known of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Where it runs.
    pub place: Place,
    /// What it executes; unknown where that may not be read.
    pub executable: Option<Executable>,
}

/// What a process executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// Its path, where the same file stands there for the host. Whoever may mount could show any other.
    pub path: Option<Box<str>>,
    /// Its digest, where some entry asks for digests.
    pub sha256: Option<[u8; 32]>,
    file: FileId,
}

/// A file with a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Why nobody's identity was proven.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttestError {
    /// The process cannot be read.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// It is not known where it runs.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// It changed each time that it was looked at.
    #[error("the caller changes while it is looked at")]
    Changing,
}

impl Attestor {
    /// For a kubelet with this cgroup; paths of executables are those of this process.
    pub fn new(cgroup_root: CgroupRoot) -> Self {
        Self { cgroup_root, root: PathBuf::from("/"), digests: Arc::default() }
    }

    /// The same, where paths of executables are looked up below another root: `/proc/1/root` for a node in a container.
    #[must_use]
    pub fn with_root(self, root: PathBuf) -> Self {
        Self { root, ..self }
    }

    /// Looks at a process. This reads files; the executable is hashed where its digest decides.
    pub(crate) fn look(
        &self,
        peer: &Peer,
        is_digest_wanted: &dyn Fn(&Facts) -> bool,
    ) -> Result<Facts, AttestError> {
        for _ in 0..TRIES {
            let mut before = self.read(peer)?;
            let is_wanted = is_digest_wanted(&before);
            let file = before.executable.as_ref().map(|executable| executable.file);
            let digest = file.filter(|_| is_wanted).and_then(|file| self.digest(peer, file));
            if self.read(peer)? != before {
                continue;
            }
            peer.still_there()?;
            if let Some(executable) = &mut before.executable {
                executable.sha256 = digest;
            }
            return Ok(before);
        }
        Err(AttestError::Changing)
    }

    fn read(&self, peer: &Peer) -> Result<Facts, AttestError> {
        let status = peer.read("status")?;
        let (uid, gid) = procfs::owner(&status).ok_or(PeerError::Malformed("status"))?;
        Ok(Facts { uid, gid, place: self.place(peer)?, executable: self.executable(peer)? })
    }

    /// Where a process runs.
    pub(crate) fn place(&self, peer: &Peer) -> Result<Place, AttestError> {
        Ok(match cgroup::place(&peer.read("cgroup")?, &self.cgroup_root)? {
            Place::Host if !shares_namespaces(peer)? => Place::OtherContainer,
            place => place,
        })
    }

    /// What runs there; nothing where this process may not see it.
    fn executable(&self, peer: &Peer) -> Result<Option<Executable>, PeerError> {
        let found = peer
            .point_at("exe")
            .and_then(|file| file.metadata().map_err(|source| unreadable("exe", source)));
        let file = match found {
            Ok(found) => FileId::of(&found),
            Err(error) => return optional(error),
        };
        let target = match readlinkat(peer.directory(), "exe", Vec::new()) {
            Ok(target) => target,
            Err(errno) => return optional(unreadable("exe", errno.into())),
        };
        let path = target.to_str().ok().filter(|path| self.stands_at(path, file));
        Ok(Some(Executable { path: path.map(Into::into), sha256: None, file }))
    }

    /// Whether the host has this very file at a path.
    fn stands_at(&self, path: &str, file: FileId) -> bool {
        let below = Path::new(path.strip_prefix('/').unwrap_or(path));
        let found = std::fs::metadata(self.root.join(below));
        found.is_ok_and(|found| FileId::of(&found) == file)
    }

    /// The digest of what a process executes, if that is still this file.
    fn digest(&self, peer: &Peer, wanted: FileId) -> Option<[u8; 32]> {
        let known = || self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digest) = known().get(&wanted) {
            return Some(*digest);
        }
        let file = peer.open("exe").ok()?;
        let is_wanted =
            |file: &File| file.metadata().is_ok_and(|found| FileId::of(&found) == wanted);
        if !is_wanted(&file) {
            return None;
        }
        let digest = sha256(&file)?;
        // Written to meanwhile, it would be a digest of no file.
        if !is_wanted(&file) {
            return None;
        }
        let mut known = known();
        if known.len() >= DIGESTS_MAX {
            known.clear();
        }
        known.insert(wanted, digest);
        Some(digest)
    }
}

/// Whether a process sees the users and processes that this one sees, as no container does.
fn shares_namespaces(peer: &Peer) -> Result<bool, PeerError> {
    for name in ["ns/user", "ns/pid"] {
        let own = statat(CWD, format!("/proc/self/{name}"), AtFlags::empty());
        let own = own.map_err(|errno| unreadable("ns", errno.into()))?;
        let other = match statat(peer.directory(), name, AtFlags::empty()) {
            Ok(other) => other,
            Err(errno) => return Ok(optional::<()>(unreadable("ns", errno.into()))?.is_some()),
        };
        if (own.st_dev, own.st_ino) != (other.st_dev, other.st_ino) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What may not be read is not known; a process that has ended is an error.
fn optional<T>(error: PeerError) -> Result<Option<T>, PeerError> {
    match error {
        PeerError::Unreadable { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            Ok(None)
        }
        error => Err(error),
    }
}

impl Executable {
    /// Whether another is the same file with the same content.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

impl FileId {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

fn sha256(file: &File) -> Option<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut reader = file.take(EXECUTABLE_MAX + 1);
    let mut total = 0_u64;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                total += u64::try_from(count).ok()?;
                hash.update(buffer.get(..count)?);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    (total <= EXECUTABLE_MAX).then(|| hash.finalize().into())
}
