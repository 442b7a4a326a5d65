//! The mount of a volume: made and taken away as often as it is asked for, to the same end.

use std::{fs, io, os::unix::fs::DirBuilderExt as _, path::Path};

use rustix::{
    fs::{AtFlags, CWD, Statx, StatxAttributes, StatxFlags, statx},
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount},
};

/// Mounts over one another that are taken away.
const MOST: usize = 16;

/// Mounts a directory, read-only, at a place that is made.
pub(super) fn publish(source: &Path, target: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o750).create(target) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let (wanted, found) = (look(source)?, look(target)?);
    if !is_same(&wanted, &found) {
        if is_mount(&found) {
            return Err(io::Error::other("something else is mounted there"));
        }
        mount_bind(source, target)?;
    }
    let flags = MountFlags::BIND
        | MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC;
    // Again also where it is mounted already: the one before may have ended in between.
    mount_remount(target, flags, "").map_err(|errno| {
        let _ = unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        errno.into()
    })
}

/// Takes a volume and its place away.
pub(super) fn unpublish(target: &Path) -> io::Result<()> {
    for _ in 0..MOST {
        match look(target) {
            Ok(found) if is_mount(&found) => {
                unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
            }
            Ok(_) => break,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
    match fs::remove_dir(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn look(path: &Path) -> Result<Statx, Errno> {
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
}

fn is_mount(found: &Statx) -> bool {
    found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
}

fn is_same(one: &Statx, other: &Statx) -> bool {
    let of = |it: &Statx| (it.stx_dev_major, it.stx_dev_minor, it.stx_ino);
    of(one) == of(other)
}
