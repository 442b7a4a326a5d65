//! One object in full, for people.

use nullius_model::{AUTHORITY_LIFE, AnyObject, BundleEndpointProfile, PolicyRule, Timestamp};

use super::columns;
use crate::output::{escape, properties, relative, relative_or_never};

/// The text of `nullius describe`.
pub(crate) fn describe(object: &AnyObject, now: Timestamp) -> String {
    let metadata = object.metadata();
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
    };
    let mut lines = vec![
        ("Name", metadata.name.to_string()),
        ("Kind", object.kind().to_string()),
        ("Labels", pairs(&metadata.labels)),
        ("Annotations", pairs(&metadata.annotations)),
        ("Created", metadata.creation_timestamp.map(|at| both(at, now)).unwrap_or_default()),
        ("Generation", metadata.generation.map(|number| number.to_string()).unwrap_or_default()),
    ];
    let mut rules: &[PolicyRule] = &[];
    let list = |items: Vec<String>| items.join(", ");
    match object {
        AnyObject::User(user) => {
            let status = user.status.clone().unwrap_or_default();
            lines.extend([
                ("Display name", user.spec.display_name.clone().unwrap_or_default()),
                ("State", columns::user_state(user.spec.disabled, status.enrolled)),
                ("Groups", list(user.spec.groups.iter().map(ToString::to_string).collect())),
                ("Last sign-in", relative_or_never(status.last_sign_in, now)),
            ]);
        }
        AnyObject::Group(group) => {
            lines.push(("Description", group.spec.description.clone().unwrap_or_default()));
        }
        AnyObject::Cluster(cluster) => {
            let status = cluster.status.clone().unwrap_or_default();
            lines.extend([
                ("State", columns::cluster_state(&status, now)),
                ("Ceiling", cluster.spec.ceiling.cluster_role().to_owned()),
                (
                    "Trust domain",
                    cluster
                        .spec
                        .trust_domain_of(cluster.metadata.name.as_str())
                        .map_or_else(|_| String::new(), |domain| domain.to_string()),
                ),
                (
                    "Authorities live",
                    cluster.spec.authority_life.unwrap_or(AUTHORITY_LIFE).to_string(),
                ),
                ("Joined", relative_or_never(status.joined_at, now)),
                ("Last seen", relative_or_never(status.last_seen, now)),
                ("Kubernetes", status.kubernetes_version.unwrap_or_default()),
                ("Issuer", status.issuer.unwrap_or_default()),
            ]);
        }
        AnyObject::Role(role) => {
            lines.push(("Description", role.spec.description.clone().unwrap_or_default()));
            rules = &role.spec.rules;
        }
        AnyObject::Grant(grant) => {
            let spec = &grant.spec;
            lines.extend([
                ("Subjects", list(spec.subjects.iter().map(columns::subject).collect())),
                ("Role", columns::granted_role(spec)),
                ("Clusters", spec.clusters.as_ref().map(columns::selector).unwrap_or_default()),
                ("Namespaces", columns::namespaces(spec)),
                (
                    "Duration",
                    spec.duration.map(|ttl| format!("{ttl} after sign-in")).unwrap_or_default(),
                ),
                ("Expires", spec.expires.map(|at| both(at, now)).unwrap_or_default()),
                ("Reason", spec.reason.clone().unwrap_or_default()),
            ]);
        }
        AnyObject::Lock(lock) => {
            lines.extend([
                ("Target", columns::target(&lock.spec.target)),
                ("Message", lock.spec.message.clone().unwrap_or_default()),
                (
                    "Expires",
                    lock.spec.expires.map_or_else(|| "never".to_owned(), |at| both(at, now)),
                ),
            ]);
        }
        AnyObject::Federation(federation) => {
            let spec = &federation.spec;
            let clusters = spec.clusters.iter().map(ToString::to_string);
            lines.push(("Clusters", list(clusters.collect())));
            match &spec.federates_with {
                None => lines.push(("With", "each other".to_owned())),
                Some(it) => {
                    let proof = match &it.bundle_endpoint_profile {
                        BundleEndpointProfile::Web { .. } => {
                            "https_web, a certificate for its name".to_owned()
                        }
                        BundleEndpointProfile::Spiffe { endpoint_spiffe_id } => {
                            format!("https_spiffe, {endpoint_spiffe_id}")
                        }
                    };
                    lines.extend([
                        ("With", it.trust_domain.to_string()),
                        ("Bundle at", it.bundle_endpoint_url.clone()),
                        ("Proven by", proof),
                    ]);
                }
            }
            lines.push(("Description", spec.description.clone().unwrap_or_default()));
        }
    }
    let mut text = properties(&lines);
    if matches!(object, AnyObject::Role(_)) {
        text.push_str("Rules:\n");
        for rule in rules {
            text.push_str(&format!("  - {}\n", escape::cell(&rule_sentence(rule))));
        }
        if rules.is_empty() {
            text.push_str("  none: the role allows nothing\n");
        }
    }
    text
}

/// A rule in one line: `get, list pods, pods/log in core`.
pub(crate) fn rule_sentence(rule: &PolicyRule) -> String {
    let verbs = rule.verbs.join(", ");
    if !rule.non_resource_urls.is_empty() {
        return format!("{verbs} {}", rule.non_resource_urls.join(", "));
    }
    let groups: Vec<&str> = rule
        .api_groups
        .iter()
        .map(|group| if group.is_empty() { "core" } else { group.as_str() })
        .collect();
    let mut text = format!("{verbs} {} in {}", rule.resources.join(", "), groups.join(", "));
    if !rule.resource_names.is_empty() {
        text.push_str(&format!(", only {}", rule.resource_names.join(", ")));
    }
    text
}

fn both(at: Timestamp, now: Timestamp) -> String {
    format!("{at} ({})", relative(at, now))
}
