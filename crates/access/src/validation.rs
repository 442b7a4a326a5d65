//! Whether an object may be stored: errors that name the field and say what to do.

use std::{collections::BTreeMap, ops::RangeInclusive};

use nullius_model::{
    AnyObject, BundleEndpointProfile, ClusterName, ClusterSpec, FederationSpec, GrantSpec,
    GrantSubject, GroupName, Kind, ObjectMeta, ObjectName, RoleName, Ttl, UserName,
};
use nullius_rbac::rule_errors;

use crate::{Snapshot, is_protected_namespace};

/// How long authorities of workloads may live: the shortest is replaced four times an hour, which the hub certifies beside what is forced.
const AUTHORITY_LIVES: RangeInclusive<Ttl> = Ttl::from_secs(30 * 60)..=Ttl::from_secs(90 * 86_400);

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// The field, `spec.rules[1].verbs`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Checks an object against the objects that it names.
pub fn validate(object: &AnyObject, snapshot: &Snapshot) -> Result<(), Vec<FieldError>> {
    let mut errors = Errors::default();
    let name = object.name();
    labels(object.metadata(), &mut errors);
    match object {
        AnyObject::User(user) => {
            errors.name::<UserName>(name);
            for (index, group) in user.spec.groups.iter().enumerate() {
                if !snapshot.has(Kind::Group, group.as_str()) {
                    errors.add(format!("spec.groups[{index}]"), missing(Kind::Group, group));
                }
            }
            if let Some(text) = &user.spec.display_name {
                errors.text("spec.displayName", text);
            }
        }
        AnyObject::Group(group) => {
            errors.name::<GroupName>(name);
            if let Some(text) = &group.spec.description {
                errors.text("spec.description", text);
            }
        }
        AnyObject::Cluster(cluster) => {
            errors.name::<ClusterName>(name);
            trust_domain(name, &cluster.spec, snapshot, &mut errors);
            if cluster.spec.authority_life.is_some_and(|life| !AUTHORITY_LIVES.contains(&life)) {
                errors.add(
                    "spec.authorityLife",
                    "use a length from 30m to 90d; 7d where it is left out",
                );
            }
        }
        AnyObject::Role(role) => {
            errors.name::<RoleName>(name);
            for error in rule_errors(&role.spec.rules) {
                errors.add(format!("spec.{}", error.field), error.message);
            }
            if let Some(text) = &role.spec.description {
                errors.text("spec.description", text);
            }
        }
        AnyObject::Grant(grant) => {
            errors.name::<nullius_model::GrantName>(name);
            grant_spec(&grant.spec, snapshot, &mut errors);
        }
        AnyObject::Lock(lock) => {
            if let Some(text) = &lock.spec.message {
                errors.text("spec.message", text);
            }
        }
        AnyObject::Federation(federation) => {
            federated(name, &federation.spec, snapshot, &mut errors);
        }
    }
    errors.into_result()
}

fn federated(name: &ObjectName, spec: &FederationSpec, snapshot: &Snapshot, errors: &mut Errors) {
    let least = if spec.federates_with.is_some() { 1 } else { 2 };
    if !(least..=MOST_FEDERATED).contains(&spec.clusters.len()) {
        errors.add("spec.clusters", format!("name {least} to {MOST_FEDERATED} clusters"));
    }
    for (index, cluster) in spec.clusters.iter().enumerate() {
        if !snapshot.has(Kind::Cluster, cluster.as_str()) {
            errors.add(format!("spec.clusters[{index}]"), missing(Kind::Cluster, cluster));
        }
    }
    if let Some(text) = &spec.description {
        errors.text("spec.description", text);
    }
    let Some(foreign) = &spec.federates_with else { return };
    let (domain, field) = (&foreign.trust_domain, "spec.federatesWith.trustDomain");
    if domain.as_str() == HUB_DOMAIN {
        errors.add(field, format!("`{domain}` is that of the hub and its agents"));
    }
    if let Some(cluster) = snapshot.cluster_of_domain(domain) {
        let told = format!(
            "`{domain}` is the trust domain of cluster `{cluster}`: name both in `spec.clusters` of a federation without `federatesWith`"
        );
        errors.add(field, told);
    }
    let mut others = snapshot.federations_with(domain).filter(|other| *other != name);
    if let Some(other) = others.next() {
        errors.add(
            field,
            format!("Federation `{other}` is with `{domain}` already; name the cluster there"),
        );
    }
    if let BundleEndpointProfile::Spiffe { endpoint_spiffe_id } = &foreign.bundle_endpoint_profile {
        if endpoint_spiffe_id.trust_domain() != domain.as_str() {
            let field = "spec.federatesWith.bundleEndpointProfile.endpointSPIFFEID";
            errors.add(
                field,
                format!("name an ID of `{domain}`: its bundle is what the endpoint is believed by"),
            );
        }
        if foreign.trust_domain_bundle.is_none() {
            let field = "spec.federatesWith.trustDomainBundle";
            errors.add(
                field,
                "give the bundle of today, by which the endpoint is believed the first time",
            );
        }
    }
}

/// Two clusters that spoke for one trust domain could not be told apart.
fn trust_domain(name: &ObjectName, spec: &ClusterSpec, snapshot: &Snapshot, errors: &mut Errors) {
    // A name that makes none is told of as a name.
    let Ok(domain) = spec.trust_domain_of(name.as_str()) else { return };
    if matches!(domain.as_str(), "." | "..") {
        let told =
            format!("`{domain}` is a step in the paths under which it is published; name another");
        errors.add("spec.trustDomain", told);
    }
    for other in snapshot.objects(Kind::Cluster) {
        let AnyObject::Cluster(other) = other else { continue };
        let of_other = &other.metadata.name;
        if of_other != name && other.spec.has_trust_domain(of_other.as_str(), &domain) {
            let told =
                format!("`{domain}` is the trust domain of cluster `{of_other}`; name another");
            errors.add("spec.trustDomain", told);
        }
    }
    if let Some(federation) = snapshot.federations_with(&domain).next() {
        let told = format!(
            "Federation `{federation}` is with `{domain}` of somebody else; name another, or delete that first"
        );
        errors.add("spec.trustDomain", told);
    }
}

fn grant_spec(spec: &GrantSpec, snapshot: &Snapshot, errors: &mut Errors) {
    if spec.subjects.is_empty() {
        errors.add("spec.subjects", "name at least one user or group");
    }
    for (index, subject) in spec.subjects.iter().enumerate() {
        let (kind, name) = match subject {
            GrantSubject::User(user) => (Kind::User, user.as_str()),
            GrantSubject::Group(group) => (Kind::Group, group.as_str()),
        };
        if !snapshot.has(kind, name) {
            errors.add(format!("spec.subjects[{index}]"), missing(kind, &name));
        }
    }
    if let Some(text) = &spec.reason {
        errors.text("spec.reason", text);
    }
    if spec.hub_role.is_some() {
        for (field, present) in [
            ("spec.role", spec.role.is_some()),
            ("spec.clusters", spec.clusters.is_some()),
            ("spec.namespaces", spec.namespaces.is_some()),
        ] {
            if present {
                errors.add(field, "a grant of a `hubRole` has no such field; write two grants");
            }
        }
        return;
    }
    match &spec.role {
        None => errors.add("spec.role", "name a `Role`, or give a `hubRole`"),
        Some(role) if !snapshot.has(Kind::Role, role.as_str()) => {
            errors.add("spec.role", missing(Kind::Role, role));
        }
        Some(_) => {}
    }
    match &spec.clusters {
        None => {
            errors.add("spec.clusters", "say where the role holds, by `names` or `matchLabels`")
        }
        Some(selector) if selector.names.is_empty() && selector.match_labels.is_empty() => {
            errors.add("spec.clusters", "select clusters by `names` or `matchLabels`");
        }
        Some(_) => {}
    }
    if let Some(namespaces) = &spec.namespaces {
        if namespaces.is_empty() {
            errors.add("spec.namespaces", "name a namespace, or leave the field out for all");
        }
        for (index, namespace) in namespaces.iter().enumerate() {
            if is_protected_namespace(namespace.as_str()) {
                errors.add(
                    format!("spec.namespaces[{index}]"),
                    format!("`{namespace}` belongs to Nullius alone and cannot be granted"),
                );
            }
        }
    }
}

fn missing(kind: Kind, name: &dyn std::fmt::Display) -> String {
    format!("{kind} `{name}` does not exist; create it first")
}

/// The name of the infrastructure, which is no trust domain of workloads.
const HUB_DOMAIN: &str = "infra.nullius";
/// A node is told of 64 trust domains.
const MOST_FEDERATED: usize = 64;
const MAX_LABELS: usize = 64;
const LABEL_RULE: &str =
    "use at most 63 letters, digits and `-_.`, beginning and ending with a letter or digit";

/// Labels as Kubernetes takes them (qualified names), since they select clusters.
fn labels(metadata: &ObjectMeta, errors: &mut Errors) {
    if metadata.labels.len() > MAX_LABELS {
        errors.add("metadata.labels", format!("use at most {MAX_LABELS} labels"));
    }
    let entries: &BTreeMap<String, String> = &metadata.labels;
    for (key, value) in entries {
        let name = match key.split_once('/') {
            Some((prefix, name)) if prefix.parse::<nullius_model::GrantName>().is_ok() => name,
            Some(_) => "",
            None => key,
        };
        if name.is_empty() || !is_label_text(name) || !is_label_text(value) {
            let shown: String = key.chars().take(80).flat_map(char::escape_debug).collect();
            errors.add(format!("metadata.labels[{shown}]"), LABEL_RULE);
        }
    }
}

fn is_label_text(text: &str) -> bool {
    let edge = |c: Option<&u8>| c.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c))
        && edge(bytes.first())
        && edge(bytes.last())
}

#[derive(Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), message: message.into() });
    }

    fn name<N>(&mut self, name: &ObjectName)
    where
        N: std::str::FromStr<Err = nullius_model::ParseNameError>,
    {
        if let Err(error) = name.as_str().parse::<N>() {
            self.add("metadata.name", error.to_string());
        }
    }

    /// Text that is shown to people: short and without control characters.
    fn text(&mut self, field: &str, text: &str) {
        if text.len() > 512 || text.chars().any(char::is_control) {
            self.add(field, "use at most 512 bytes and no control characters");
        }
    }

    fn into_result(self) -> Result<(), Vec<FieldError>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}
