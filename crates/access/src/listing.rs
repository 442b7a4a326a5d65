//! What a person may do where: for the person to read, and for the cluster as the upper bound of a session.

use std::collections::{BTreeMap, BTreeSet};

use nullius_model::{
    Binding, ClusterName, HubRole, Identity, Namespace, ObjectName, PolicyRule, RoleName, Timestamp,
};
use serde::Serialize;

use crate::{
    Caller, Snapshot,
    grant::{Grant, Life},
    kube::standing,
};

/// One grant in one cluster, as `nullius access list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessRow {
    /// The cluster.
    pub cluster: ClusterName,
    /// The namespaces; absent means the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<Namespace>>,
    /// The role.
    pub role: RoleName,
    /// The grant.
    pub grant: ObjectName,
    /// When it ends, the session's end apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The rules in short, one a line: `get, list pods, pods/log`.
    pub rules: Vec<String>,
    /// Why it does not count at present, if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inactive: Option<String>,
}

/// Everything a session may do in a cluster: the upper bound that the cluster itself enforces.
///
/// Empty for a session that ended or is locked, and for a locked cluster. Reading a stream into a container over
/// WebSocket is a `get` for the API server as well (both verbs from Kubernetes 1.35 on), so whoever may open one
/// gets that verb too; the decision asks for `create` whatever the bound holds.
pub fn plan(
    snapshot: &Snapshot,
    identity: &Identity,
    cluster: &ClusterName,
    now: Timestamp,
) -> BTreeSet<Binding> {
    let mut bindings = BTreeSet::new();
    let Ok(person) = standing(snapshot, &Caller::new(identity), now) else { return bindings };
    let Some(index) = snapshot.cluster(cluster) else { return bindings };
    if snapshot.locks.on_cluster(cluster, now).is_some() {
        return bindings;
    }
    for grant in snapshot.grants_of(person) {
        let Some(rights) = grant.kube_in(index) else { continue };
        if !grant.is_live(Some(identity.signed_in_at), now) {
            continue;
        }
        let role = &rights.role.name;
        match &rights.namespaces {
            None => {
                let rules = with_stream_reads(rights.role.rules.clone());
                bindings.insert(Binding { namespace: None, role: role.clone(), rules });
            }
            Some(namespaces) => {
                let rules = with_stream_reads(in_namespace(&rights.role.rules));
                for namespace in namespaces {
                    bindings.insert(Binding {
                        namespace: Some(namespace.clone()),
                        role: role.clone(),
                        rules: rules.clone(),
                    });
                }
            }
        }
    }
    bindings.retain(|binding| !binding.rules.is_empty());
    bindings
}

/// The clusters in which a live grant gives a session rights.
pub fn reachable_clusters(
    snapshot: &Snapshot,
    identity: &Identity,
    now: Timestamp,
) -> BTreeSet<ClusterName> {
    let rows = access_list(snapshot, identity, now).into_iter();
    rows.filter(|row| row.inactive.is_none()).map(|row| row.cluster).collect()
}

/// What a person may do where, by cluster and grant.
pub fn access_list(snapshot: &Snapshot, identity: &Identity, now: Timestamp) -> Vec<AccessRow> {
    let caller = Caller::new(identity);
    let stopped = standing(snapshot, &caller, now).err().map(|why| why.sentence);
    let Some(person) = snapshot.person(&identity.user) else { return Vec::new() };
    let mut rows = Vec::new();
    for grant in snapshot.grants_of(person) {
        let Some(rights) = grant.kube() else { continue };
        let (until, over) = life(grant, identity, now);
        let rules = match rights.namespaces {
            None => rights.role.rules.clone(),
            Some(_) => in_namespace(&rights.role.rules),
        };
        for index in &rights.clusters {
            let Some(cluster) = snapshot.cluster_name(*index) else { continue };
            let locked = snapshot.locks.on_cluster(cluster, now).map(|why| why.sentence);
            rows.push(AccessRow {
                cluster: cluster.clone(),
                namespaces: rights.namespaces.clone(),
                role: rights.role.name.clone(),
                grant: grant.name.clone(),
                until,
                rules: rules.iter().map(summary).collect(),
                inactive: stopped.clone().or(over.clone()).or(locked),
            });
        }
    }
    rows.sort_by(|a, b| (&a.cluster, &a.grant).cmp(&(&b.cluster, &b.grant)));
    rows
}

/// The hub roles that a person has at an instant, each with the grant that gives it.
pub fn hub_roles(
    snapshot: &Snapshot,
    identity: &Identity,
    now: Timestamp,
) -> BTreeMap<HubRole, ObjectName> {
    let mut roles = BTreeMap::new();
    let Ok(person) = standing(snapshot, &Caller::new(identity), now) else { return roles };
    for grant in snapshot.grants_of(person) {
        if let Some((role, _)) = grant.hub()
            && grant.is_live(Some(identity.signed_in_at), now)
        {
            roles.entry(role).or_insert_with(|| grant.name.clone());
        }
    }
    roles
}

fn life(grant: &Grant, identity: &Identity, now: Timestamp) -> (Option<Timestamp>, Option<String>) {
    match grant.life(Some(identity.signed_in_at), now) {
        Life::Live { until } => (until, None),
        Life::Expired { at } => (Some(at), Some(format!("the grant ended at {at}"))),
        Life::SignInTooOld { at } => {
            (Some(at), Some(format!("it counted until {at}; sign in again with `nullius login`")))
        }
    }
}

/// The rules without URLs, which a RoleBinding cannot give.
fn in_namespace(rules: &[PolicyRule]) -> Vec<PolicyRule> {
    rules.iter().filter(|rule| rule.non_resource_urls.is_empty()).cloned().collect()
}

const STREAMS: [&str; 3] = ["pods/exec", "pods/attach", "pods/portforward"];

fn with_stream_reads(mut rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut reads = Vec::new();
    for rule in &rules {
        let has =
            |list: &[String], entry: &str| list.iter().any(|have| have == "*" || have == entry);
        let core = has(&rule.api_groups, "");
        if !core || !has(&rule.verbs, "create") || has(&rule.verbs, "get") {
            continue;
        }
        let opens = |stream: &&&str| {
            let any_parent = stream.replace("pods/", "*/");
            has(&rule.resources, stream) || rule.resources.contains(&any_parent)
        };
        let streams: Vec<String> =
            STREAMS.iter().filter(opens).map(|stream| (*stream).to_owned()).collect();
        if !streams.is_empty() {
            reads.push(PolicyRule {
                verbs: vec!["get".to_owned()],
                api_groups: vec![String::new()],
                resources: streams,
                resource_names: rule.resource_names.clone(),
                non_resource_urls: Vec::new(),
            });
        }
    }
    rules.extend(reads);
    rules
}

/// A rule in one short line.
fn summary(rule: &PolicyRule) -> String {
    let verbs = rule.verbs.join(", ");
    let mut line = if rule.non_resource_urls.is_empty() {
        let groups: Vec<&str> = rule
            .api_groups
            .iter()
            .map(|group| if group.is_empty() { "core" } else { group.as_str() })
            .collect();
        let resources = rule.resources.join(", ");
        if groups == ["core"] {
            format!("{verbs} {resources}")
        } else {
            format!("{verbs} {resources} ({})", groups.join(", "))
        }
    } else {
        format!("{verbs} {}", rule.non_resource_urls.join(", "))
    };
    if !rule.resource_names.is_empty() {
        line.push_str(&format!(" named {}", rule.resource_names.join(", ")));
    }
    line
}
