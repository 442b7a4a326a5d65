//! A pod as identities know it: what the API server says of it, nothing that whoever made it wrote freely.

use std::collections::BTreeMap;

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its UID.
    pub uid: Box<str>,
    /// Its ServiceAccount.
    pub account: Box<str>,
    /// Its labels.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// What made it, and keeps it.
    pub owner: Option<Owner>,
    /// Containers that run, as the kubelet tells them.
    pub containers: Vec<Container>,
}

/// The controller of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its kind.
    pub kind: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

/// A container of a pod that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name in the pod.
    pub name: Box<str>,
    /// Its ID at the runtime: 64 hexadecimal digits.
    pub id: Box<str>,
    /// The digest of its image, `sha256:HEX`; none where the runtime does not say.
    pub image: Option<Box<str>>,
}
