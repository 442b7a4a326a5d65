//! Selectors of SPIRE: which pods, containers and processes an identity is for.

use std::collections::BTreeMap;

use nullius_fields::shown;
use serde_json::{Map, Value as Json, json};

/// What selectors say, all of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Selected {
    pub(super) namespace: Option<String>,
    pub(super) account: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    owner: Option<(String, String)>,
    container: Option<String>,
    image: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    sha256: Option<String>,
}

impl Selected {
    /// Adds a selector, `k8s` and `ns:shop`.
    pub(super) fn add(&mut self, kind: &str, value: &str) -> Result<(), String> {
        let (name, rest) = value.split_once(':').unwrap_or((value, ""));
        let selector = shown(&format!("{kind}:{value}"));
        let refused = |why: &str| Err(format!("{selector} is not carried over: {why}"));
        match (kind, name) {
            ("k8s", "ns") => once(&mut self.namespace, rest.to_owned(), &selector),
            ("k8s", "sa") => once(&mut self.account, rest.to_owned(), &selector),
            ("k8s", "pod-label") => {
                let (name, value) = rest.split_once(':').unwrap_or((rest, ""));
                match self.labels.insert(name.to_owned(), value.to_owned()) {
                    Some(other) if other != value => Err(twice(&selector)),
                    _ => Ok(()),
                }
            }
            ("k8s", "pod-owner") => match rest.split_once(':') {
                Some((kind, name)) => {
                    once(&mut self.owner, (kind.to_owned(), name.to_owned()), &selector)
                }
                None => refused("it is no `k8s:pod-owner:KIND:NAME`"),
            },
            ("k8s", "container-name") => once(&mut self.container, rest.to_owned(), &selector),
            ("k8s", "container-image") => match rest.rsplit_once('@') {
                Some((_, digest)) => once(&mut self.image, digest.to_owned(), &selector),
                None => refused("a tag is what somebody pushed last; name a digest"),
            },
            ("unix", "uid") => once(&mut self.uid, number(rest, &selector)?, &selector),
            ("unix", "gid") => once(&mut self.gid, number(rest, &selector)?, &selector),
            ("unix", "sha256") => once(&mut self.sha256, rest.to_owned(), &selector),
            ("k8s", "pod-uid" | "pod-name") => refused(
                "it is for one pod; say what all such pods have, or import the object that made it",
            ),
            ("k8s", "node-name") => refused("identities are for pods of all nodes"),
            ("unix", "path") => {
                refused("a path inside of a container proves nothing; use `unix:sha256`")
            }
            ("unix", "user" | "group") => {
                refused("names of users are the node's; use `uid` or `gid`")
            }
            _ => refused("no WorkloadIdentity says it"),
        }
    }

    /// Writes it into the spec.
    pub(super) fn write(&self, spec: &mut Map<String, Json>) {
        let mut pods = Map::new();
        if let Some(account) = &self.account {
            pods.insert("serviceAccounts".to_owned(), json!([account]));
        }
        if !self.labels.is_empty() {
            pods.insert("matchLabels".to_owned(), json!(self.labels));
        }
        if let Some((kind, name)) = &self.owner {
            pods.insert("owner".to_owned(), json!({ "kind": kind, "name": name }));
        }
        if pods.is_empty() {
            pods.insert("any".to_owned(), json!(true));
        }
        let mut containers = Map::new();
        for (field, text) in [("names", &self.container), ("images", &self.image)] {
            if let Some(text) = text {
                containers.insert(field.to_owned(), json!([text]));
            }
        }
        let mut unix = Map::new();
        for (field, number) in [("uid", self.uid), ("gid", self.gid)] {
            if let Some(number) = number {
                unix.insert(field.to_owned(), json!(number));
            }
        }
        if let Some(sha256) = &self.sha256 {
            unix.insert("sha256".to_owned(), json!(sha256));
        }
        for (field, map) in [("selector", pods), ("containers", containers), ("unix", unix)] {
            if !map.is_empty() {
                spec.insert(field.to_owned(), Json::Object(map));
            }
        }
    }
}

/// Takes a value of which a process has but one.
fn once<T: PartialEq>(slot: &mut Option<T>, value: T, selector: &str) -> Result<(), String> {
    if slot.as_ref().is_some_and(|other| *other != value) {
        return Err(twice(selector));
    }
    *slot = Some(value);
    Ok(())
}

fn twice(selector: &str) -> String {
    format!("{selector} stands beside another of its kind, and nothing is both")
}

fn number(text: &str, selector: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{selector} has no number of a user or group"))
}
