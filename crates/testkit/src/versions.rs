//! Every version the development cluster is made of, in one place.
//!
//! Kubernetes itself is pinned by a Go module (`dev/cluster/go.mod`, checked by its `go.sum`); the version is read
//! from there. A further minor version is one more `KubernetesVersion` with a module file of its own
//! (`go build -modfile`), since the lists of staging modules differ.

use anyhow::{Context, Result};

/// A Kubernetes version that clusters can be started with.
#[derive(Clone, Copy, Debug)]
pub struct KubernetesVersion {
    minor: &'static str,
    module_file: &'static str,
    module: &'static str,
}

impl PartialEq for KubernetesVersion {
    fn eq(&self, other: &Self) -> bool {
        self.minor == other.minor
    }
}

impl Eq for KubernetesVersion {}

impl KubernetesVersion {
    /// Kubernetes 1.36.
    pub const V1_36: Self = Self {
        minor: "1.36",
        module_file: "go.mod",
        module: include_str!("../../../dev/cluster/go.mod"),
    };

    /// All versions that can be built, newest first.
    pub const ALL: &'static [Self] = &[Self::V1_36];

    /// Finds a version by its minor form, such as `1.36`.
    pub fn parse(minor: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|version| version.minor == minor).with_context(|| {
            let known: Vec<_> = Self::ALL.iter().map(|version| version.minor).collect();
            format!("unknown Kubernetes version `{minor}`; known are {}", known.join(", "))
        })
    }

    /// The minor form, such as `1.36`.
    pub fn minor(self) -> &'static str {
        self.minor
    }

    /// The full version, such as `v1.36.3`.
    pub fn full(self) -> &'static str {
        self.module
            .lines()
            .filter_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "))
            .find_map(|rest| rest.split_whitespace().next())
            .unwrap_or("v0.0.0")
    }

    /// The Go module file that pins it, below `dev/cluster`.
    pub(crate) fn module_file(self) -> &'static str {
        self.module_file
    }

    pub(crate) fn module(self) -> &'static str {
        self.module
    }
}

/// Whether a program is linked against C libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linking {
    Static,
    Cgo,
}

/// One or several programs of a Go module that are installed as they are.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) packages: &'static [&'static str],
    pub(crate) tags: &'static str,
    pub(crate) linking: Linking,
    pub(crate) about: &'static str,
}

pub(crate) const CONTAINERD: Tool = Tool {
    name: "containerd",
    version: "v2.4.2",
    packages: &[
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/ctr",
    ],
    tags: "no_btrfs no_devmapper no_zfs",
    linking: Linking::Static,
    about: "70 s",
};

pub(crate) const RUNC: Tool = Tool {
    name: "runc",
    version: "v1.5.2",
    packages: &["github.com/opencontainers/runc"],
    tags: "seccomp",
    linking: Linking::Cgo,
    about: "15 s",
};

pub(crate) const CNI_PLUGINS: Tool = Tool {
    name: "cni-plugins",
    version: "v1.9.1",
    packages: &[
        "github.com/containernetworking/plugins/plugins/main/bridge",
        "github.com/containernetworking/plugins/plugins/ipam/host-local",
        "github.com/containernetworking/plugins/plugins/meta/portmap",
    ],
    tags: "",
    linking: Linking::Static,
    about: "5 s",
};

pub(crate) const COREDNS: Tool = Tool {
    name: "coredns",
    version: "v1.15.0",
    packages: &["github.com/coredns/coredns"],
    tags: "",
    linking: Linking::Static,
    about: "90 s",
};

pub(crate) const HELM: Tool = Tool {
    name: "helm",
    version: "v3.22.0",
    packages: &["helm.sh/helm/v3/cmd/helm"],
    tags: "",
    linking: Linking::Static,
    about: "60 s",
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn the_module_names_the_version_that_is_listed() {
        for version in KubernetesVersion::ALL {
            assert!(version.full().starts_with(&format!("v{}.", version.minor())), "{version:?}");
            assert_eq!(KubernetesVersion::parse(version.minor()).unwrap(), *version);
        }
        let error = KubernetesVersion::parse("1.2").unwrap_err().to_string();
        assert!(error.contains("`1.2`") && error.contains("1.36"), "{error}");
    }
}
