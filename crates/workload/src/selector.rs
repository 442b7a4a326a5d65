//! Selectors: what an entry says of the processes that it is for.

use std::{fmt, str::FromStr};

use crate::{
    attest::Facts,
    cgroup::{ContainerId, Place, PodUid},
};

/// One thing that must hold of a process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// `unix:uid:N`: its effective user.
    Uid(u32),
    /// `unix:gid:N`: its effective group.
    Gid(u32),
    /// `unix:path:/…`: the executable that stands at this path of the host.
    Path(Box<str>),
    /// `unix:sha256:HEX`: the executable with this content.
    Sha256([u8; 32]),
    /// `k8s:pod-uid:UID`: the pod that it runs in.
    Pod(PodUid),
    /// `k8s:container-id:ID`: the container that it runs in.
    Container(ContainerId),
}

/// Text that is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is no selector: {rule}")]
pub struct ParseSelectorError {
    value: String,
    rule: &'static str,
}

impl Selector {
    /// Whether it says where a process runs, so that an entry with it is for a pod.
    pub fn is_of_kubernetes(&self) -> bool {
        match self {
            Self::Pod(_) | Self::Container(_) => true,
            Self::Uid(_) | Self::Gid(_) | Self::Path(_) | Self::Sha256(_) => false,
        }
    }

    /// Whether it holds. A fact that is not known is not met.
    pub fn holds(&self, facts: &Facts) -> bool {
        let executable = facts.executable.as_ref();
        match self {
            Self::Uid(uid) => facts.uid == *uid,
            Self::Gid(gid) => facts.gid == *gid,
            Self::Path(path) => executable.and_then(|it| it.path.as_deref()) == Some(path.as_ref()),
            Self::Sha256(digest) => executable.and_then(|it| it.sha256).as_ref() == Some(digest),
            Self::Pod(wanted) => matches!(&facts.place, Place::Pod { pod, .. } if pod == wanted),
            Self::Container(wanted) => {
                matches!(&facts.place, Place::Pod { container, .. } if container == wanted)
            }
        }
    }
}

impl FromStr for Selector {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, ParseSelectorError> {
        let wrong = |rule| {
            let value = text.chars().take(80).flat_map(char::escape_debug).collect();
            ParseSelectorError { value, rule }
        };
        const NUMBER: &str = "a user or group is a number";
        let number = |value: &str| match value.bytes().all(|c| c.is_ascii_digit()) {
            true => value.parse().map_err(|_| wrong(NUMBER)),
            false => Err(wrong(NUMBER)),
        };
        if let Some(value) = text.strip_prefix("unix:uid:") {
            return Ok(Self::Uid(number(value)?));
        }
        if let Some(value) = text.strip_prefix("unix:gid:") {
            return Ok(Self::Gid(number(value)?));
        }
        if let Some(value) = text.strip_prefix("unix:path:") {
            let odd = |part: &str| matches!(part, "" | "." | "..");
            return match value.strip_prefix('/') {
                Some(inner) if !inner.split('/').any(odd) && !value.contains('\0') => {
                    Ok(Self::Path(value.into()))
                }
                _ => Err(wrong("a path is absolute and has no empty parts, `.` or `..`")),
            };
        }
        if let Some(value) = text.strip_prefix("unix:sha256:") {
            let mut digest = [0; 32];
            let is_lower = !value.bytes().any(|c| c.is_ascii_uppercase());
            return match hex::decode_to_slice(value, &mut digest) {
                Ok(()) if is_lower => Ok(Self::Sha256(digest)),
                _ => Err(wrong("a digest has 64 hexadecimal digits in lower case")),
            };
        }
        if let Some(value) = text.strip_prefix("k8s:pod-uid:") {
            return value.parse().map(Self::Pod).map_err(|_| wrong("it is no UID of a pod"));
        }
        if let Some(value) = text.strip_prefix("k8s:container-id:") {
            let id = value.parse().map(Self::Container);
            return id.map_err(|_| wrong("an ID of a container has 64 hexadecimal digits"));
        }
        Err(wrong(
            "begin with `unix:uid:`, `unix:gid:`, `unix:path:`, `unix:sha256:`, `k8s:pod-uid:` or `k8s:container-id:`",
        ))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "unix:uid:{uid}"),
            Self::Gid(gid) => write!(f, "unix:gid:{gid}"),
            Self::Path(path) => write!(f, "unix:path:{path}"),
            Self::Sha256(digest) => write!(f, "unix:sha256:{}", hex::encode(digest)),
            Self::Pod(pod) => write!(f, "k8s:pod-uid:{pod}"),
            Self::Container(container) => write!(f, "k8s:container-id:{container}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn selectors_have_one_form() {
        for text in [
            "unix:uid:0",
            "unix:gid:4294967295",
            "unix:path:/usr/bin/a b",
            &format!("unix:sha256:{}", "0a".repeat(32)),
            "k8s:pod-uid:0a1b2c3d-0000-4111-8222-333344445555",
            &format!("k8s:container-id:{}", "0a".repeat(32)),
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "unix:uid:",
            "unix:uid:+1",
            "unix:uid:-1",
            "unix:uid:4294967296",
            "unix:user:root",
            "unix:path:bin/a",
            "unix:path:/a/../b",
            "unix:path:/a//b",
            "unix:path:/",
            "unix:sha256:00",
            &format!("unix:sha256:{}", "0A".repeat(32)),
            "k8s:pod-uid:web",
            "k8s:ns:shop",
        ] {
            assert!(bad.parse::<Selector>().is_err(), "{bad:?}");
        }
    }
}
