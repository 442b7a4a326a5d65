//! Where a process runs, read from `/proc/PID/cgroup` in exactly one way.
//!
//! A pod is believed only where the kubelet keeps its pods: whoever may make cgroups of their own elsewhere (a user of a host, a pod
//! within itself) can give them any name. What stands below the kubelet's cgroup and is not understood is nobody's.

use std::{fmt, str::FromStr};

/// Hexadecimal digits of a container's ID.
const CONTAINER_ID: usize = 64;
/// Bytes that are read; a process is in one cgroup of each hierarchy.
const TEXT_MAX: usize = 64 * 1024;

/// The UID of a pod, as its cgroup has it: for a static pod this is the hash of its configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodUid(Box<str>);

/// The ID of a container, as its runtime gives it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(Box<str>);

/// The cgroup below which the kubelet keeps its pods (its `--cgroup-root`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupRoot(Vec<Box<str>>);

/// Where a process runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// In no container that can be seen by its cgroups.
    Host,
    /// In a container of a pod.
    Pod {
        /// Which pod.
        pod: PodUid,
        /// Which container of it.
        container: ContainerId,
    },
    /// In a container that is no pod's. Nothing is known of who may start those.
    OtherContainer,
}

/// Why it is not known where a process runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CgroupError {
    /// Not the form of `/proc/PID/cgroup`.
    #[error("the caller's list of cgroups is malformed")]
    Malformed,
    /// Cgroups outside of what this process sees.
    #[error(
        "the caller's cgroup `{0}` is outside of this process's cgroup namespace: run the node in the host's"
    )]
    Outside(String),
    /// Below the kubelet's cgroup, but no container of a pod.
    #[error("the caller's cgroup `{0}` is below the kubelet's and is no container of a pod")]
    Unclear(String),
    /// Hierarchies name different pods.
    #[error("the caller's cgroups name different pods or containers")]
    Disagree,
}

/// Text that is no UID, ID or cgroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is no {what}")]
pub struct ParseCgroupError {
    what: &'static str,
    value: String,
}

/// Where the process runs whose `/proc/PID/cgroup` this is: all of its hierarchies must agree.
pub fn place(text: &str, root: &CgroupRoot) -> Result<Place, CgroupError> {
    if text.is_empty() || text.len() > TEXT_MAX {
        return Err(CgroupError::Malformed);
    }
    let mut found = Place::Host;
    for line in text.lines() {
        let one = place_of_line(line, root)?;
        found = match (found, one) {
            (Place::Host, one) => one,
            (known, Place::Host) => known,
            (known, one) if known == one => known,
            _ => return Err(CgroupError::Disagree),
        };
    }
    Ok(found)
}

fn place_of_line(line: &str, root: &CgroupRoot) -> Result<Place, CgroupError> {
    // `hierarchy:controllers:path`, of which only the path may have a colon of its own.
    let mut parts = line.splitn(3, ':');
    let (Some(hierarchy), Some(_), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(CgroupError::Malformed);
    };
    let is_number = !hierarchy.is_empty() && hierarchy.bytes().all(|c| c.is_ascii_digit());
    let Some(inner) = path.strip_prefix('/').filter(|_| is_number) else {
        return Err(CgroupError::Malformed);
    };
    if inner.is_empty() {
        return Ok(Place::Host);
    }
    let segments: Vec<&str> = inner.split('/').collect();
    if segments.iter().any(|segment| matches!(*segment, "" | ".")) {
        return Err(CgroupError::Malformed);
    }
    if segments.contains(&"..") {
        return Err(CgroupError::Outside(shown(path)));
    }
    match root.pod(&segments) {
        Below::Pod(pod, container) => Ok(Place::Pod { pod, container }),
        Below::Unclear => Err(CgroupError::Unclear(shown(path))),
        Below::Elsewhere if segments.iter().any(|segment| is_container(segment)) => {
            Ok(Place::OtherContainer)
        }
        Below::Elsewhere => Ok(Place::Host),
    }
}

/// What a cgroup is, seen from the kubelet's.
enum Below {
    Pod(PodUid, ContainerId),
    Unclear,
    Elsewhere,
}

impl CgroupRoot {
    /// Where a path is a container of a pod, in the forms of both cgroup drivers.
    fn pod(&self, segments: &[&str]) -> Below {
        // Slices of systemd repeat the names of those above them.
        let mut stem = String::new();
        let mut slices = Vec::new();
        for name in &self.0 {
            stem.push_str(name);
            slices.push(format!("{stem}.slice"));
            stem.push('-');
        }
        let by_files = strip(segments, self.0.iter().map(AsRef::as_ref));
        if let Some(rest) = by_files.and_then(|rest| strip(rest, ["kubepods"].into_iter())) {
            return pod_by_files(rest);
        }
        let kubepods = format!("{stem}kubepods");
        let slice = format!("{kubepods}.slice");
        let by_systemd = strip(segments, slices.iter().map(String::as_str));
        if let Some(rest) = by_systemd.and_then(|rest| strip(rest, [slice.as_str()].into_iter())) {
            return pod_by_systemd(rest, &kubepods);
        }
        // A runtime that does not know of the kubelet's driver takes `slice:prefix:name` for one name.
        let plain = strip(segments, ["system.slice", "containerd.service"].into_iter());
        match plain.unwrap_or(segments) {
            [joined, ..] if joined.starts_with(&kubepods) => pod_by_joined(joined, &kubepods),
            _ => Below::Elsewhere,
        }
    }
}

/// What follows a beginning.
fn strip<'s, 'p>(
    segments: &'s [&'s str],
    mut beginning: impl Iterator<Item = &'p str>,
) -> Option<&'s [&'s str]> {
    beginning.try_fold(segments, |rest, wanted| match rest {
        [first, rest @ ..] if *first == wanted => Some(rest),
        _ => None,
    })
}

/// `[burstable|besteffort]/podUID/CONTAINER`.
fn pod_by_files(rest: &[&str]) -> Below {
    let rest = match rest {
        ["burstable" | "besteffort", rest @ ..] => rest,
        rest => rest,
    };
    let [pod, container, ..] = rest else { return Below::Unclear };
    pod_and_container(pod.strip_prefix("pod").and_then(PodUid::of_files), container)
}

/// `[kubepods-QOS.slice]/kubepods[-QOS]-podUID.slice/RUNTIME-CONTAINER.scope`.
fn pod_by_systemd(rest: &[&str], kubepods: &str) -> Below {
    let qualities = ["burstable", "besteffort"];
    let quality = rest.first().and_then(|first| {
        qualities.into_iter().find(|quality| *first == format!("{kubepods}-{quality}.slice"))
    });
    let (rest, prefix) = match quality {
        Some(quality) => (rest.get(1..).unwrap_or_default(), format!("{kubepods}-{quality}-pod")),
        None => (rest, format!("{kubepods}-pod")),
    };
    let [pod, container, ..] = rest else { return Below::Unclear };
    let pod = pod.strip_prefix(&prefix).and_then(|pod| pod.strip_suffix(".slice"));
    pod_and_container(pod.and_then(PodUid::of_systemd), container)
}

/// `kubepods[-QOS]-podUID.slice:RUNTIME:CONTAINER`.
fn pod_by_joined(joined: &str, kubepods: &str) -> Below {
    let mut parts = joined.splitn(3, ':');
    let (Some(slice), Some(_), Some(container)) = (parts.next(), parts.next(), parts.next()) else {
        return Below::Unclear;
    };
    let pod = slice.strip_prefix(kubepods).and_then(|rest| rest.strip_suffix(".slice"));
    let pod = pod.and_then(|rest| {
        ["-burstable-pod", "-besteffort-pod", "-pod"]
            .into_iter()
            .find_map(|prefix| rest.strip_prefix(prefix))
    });
    pod_and_container(pod.and_then(PodUid::of_systemd), container)
}

fn pod_and_container(pod: Option<PodUid>, container: &str) -> Below {
    match (pod, container_of(container)) {
        (Some(pod), Some(container)) => Below::Pod(pod, container),
        _ => Below::Unclear,
    }
}

/// The container that a cgroup is of: `ID`, `RUNTIME-ID`, `RUNTIME-ID.scope`.
fn container_of(name: &str) -> Option<ContainerId> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    // A monitor of CRI-O is beside the container, not in it.
    if name.starts_with("crio-conmon-") {
        return None;
    }
    let id = name.rsplit_once('-').map_or(name, |(_, id)| id);
    id.parse().ok()
}

/// Whether a cgroup has a name as runtimes give to containers, whichever they are.
fn is_container(name: &str) -> bool {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let by_name = ["lxc.payload", "libpod-", "docker-", "systemd-nspawn@", "machine-"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    by_name || name.split(['-', ':', '.']).any(|part| part.parse::<ContainerId>().is_ok())
}

fn shown(path: &str) -> String {
    path.chars().take(300).flat_map(char::escape_debug).collect()
}

impl PodUid {
    /// The UID.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of_files(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    /// With `_` for `-`, which is systemd's sign for a slice within a slice.
    fn of_systemd(text: &str) -> Option<Self> {
        match text.contains('-') {
            true => None,
            false => text.replace('_', "-").parse().ok(),
        }
    }
}

impl FromStr for PodUid {
    type Err = ParseCgroupError;

    fn from_str(text: &str) -> Result<Self, ParseCgroupError> {
        let is_hex = |part: &str| part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        let is_uid = matches!(lengths.as_slice(), [8, 4, 4, 4, 12] | [32]);
        match is_uid && text.split('-').all(is_hex) {
            true => Ok(Self(text.into())),
            false => Err(ParseCgroupError { what: "UID of a pod", value: shown(text) }),
        }
    }
}

impl ContainerId {
    /// The ID.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerId {
    type Err = ParseCgroupError;

    fn from_str(text: &str) -> Result<Self, ParseCgroupError> {
        let is_hex = text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        match text.len() == CONTAINER_ID && is_hex {
            true => Ok(Self(text.into())),
            false => Err(ParseCgroupError { what: "ID of a container", value: shown(text) }),
        }
    }
}

impl FromStr for CgroupRoot {
    type Err = ParseCgroupError;

    fn from_str(text: &str) -> Result<Self, ParseCgroupError> {
        let wrong = || ParseCgroupError {
            what: "cgroup: write an absolute path, such as `/kubelet`",
            value: shown(text),
        };
        let inner = text.strip_prefix('/').ok_or_else(wrong)?;
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let names: Vec<&str> = inner.split('/').filter(|_| !inner.is_empty()).collect();
        let bad = |name: &&str| matches!(*name, "" | "." | "..") || name.contains(char::is_control);
        match names.iter().any(bad) {
            true => Err(wrong()),
            false => Ok(Self(names.into_iter().map(Into::into).collect())),
        }
    }
}

macro_rules! shown_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
shown_as_text!(PodUid, ContainerId);

#[cfg(test)]
mod tests;
