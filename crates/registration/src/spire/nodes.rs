//! The cluster that entries are for: its trust domain, and what stands for all of its nodes.

use std::collections::{BTreeMap, BTreeSet};

use nullius_fields::shown;
use nullius_model::SpiffeId;

use super::{Spire, entry::Entry};

/// What IDs of single nodes begin with.
const AGENT: &str = "/spire/agent/";

/// What is known of the cluster.
#[derive(Debug)]
pub(super) struct Nodes {
    /// The trust domain that becomes its own.
    domain: Option<String>,
    /// Parents that stand for all of its nodes.
    parents: BTreeSet<String>,
}

impl Nodes {
    pub(super) fn of<'e>(entries: impl Iterator<Item = &'e Entry> + Clone, spire: &Spire) -> Self {
        let mut domains: BTreeSet<&str> = entries.clone().map(|it| it.id.trust_domain()).collect();
        let domain = match &spire.trust_domain {
            Some(domain) => Some(domain.as_str()),
            None => domains.pop_first().filter(|_| domains.is_empty()),
        };
        let mut clusters: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for entry in entries.filter(|entry| entry.is_of_nodes()) {
            if let Some(cluster) = whole_cluster(entry) {
                clusters.entry(cluster).or_default().insert(entry.id.to_string());
            }
        }
        // Of several clusters nobody can tell which one this is.
        let alone = clusters.pop_first().filter(|_| clusters.is_empty());
        let mut parents = alone.map(|(_, parents)| parents).unwrap_or_default();
        parents.extend(spire.parents.iter().cloned());
        Self { domain: domain.map(str::to_owned), parents }
    }

    /// Whether IDs of a trust domain become IDs of the cluster.
    pub(super) fn check_domain(&self, domain: &str) -> Result<(), String> {
        match &self.domain {
            Some(own) if own == domain => Ok(()),
            Some(own) => Err(format!(
                "not carried over: it is of {}, and `{own}` becomes the cluster's trust domain",
                shown(domain)
            )),
            None => Err(
                "nothing says which trust domain becomes the cluster's: say it by `--trust-domain`"
                    .to_owned(),
            ),
        }
    }

    /// Whether a parent stands for all nodes.
    pub(super) fn check_parent(&self, parent: &SpiffeId) -> Result<(), String> {
        if self.parents.contains(parent.as_str()) {
            return Ok(());
        }
        if parent.path().starts_with(AGENT) {
            let told = "not carried over: it is for one node, and identities are for pods of all";
            return Err(told.to_owned());
        }
        Err(format!(
            "`{parent}` may stand for some nodes alone: say by `--parent {parent}` that it stands for all of the cluster"
        ))
    }
}

/// The cluster of which an entry is for all nodes.
fn whole_cluster(entry: &Entry) -> Option<String> {
    let mut cluster = None;
    for selector in &entry.selectors {
        match (selector.kind.as_str(), selector.value.split_once(':')?) {
            ("k8s_psat", ("cluster", name)) => cluster = Some(name.to_owned()),
            // All agents run under one account.
            ("k8s_psat", ("agent_ns" | "agent_sa", _)) => {}
            _ => return None,
        }
    }
    cluster
}
