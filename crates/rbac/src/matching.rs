//! Whether a rule allows a request, as the RBAC authorizer of Kubernetes decides it.

use nullius_model::PolicyRule;

use crate::{Attributes, ResourceAttributes, Target};

/// Where rules hold: everywhere as under a ClusterRoleBinding, or in one namespace as under a RoleBinding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope<'a> {
    /// The whole cluster, cluster-scoped objects and URLs too.
    Cluster,
    /// One namespace; cluster-scoped objects, URLs and lists across namespaces are out of reach.
    Namespace(&'a str),
}

impl Scope<'_> {
    /// Whether a request lies in this scope at all.
    pub fn contains(&self, request: &Attributes<'_>) -> bool {
        match (self, request.target) {
            (Self::Cluster, Target::Resource(_) | Target::Url(_)) => true,
            (Self::Namespace(_), Target::Url(_)) => false,
            (Self::Namespace(namespace), Target::Resource(to)) => {
                !to.namespace.is_empty() && to.namespace == *namespace
            }
        }
    }
}

/// The index of the first rule that allows the request within the scope.
pub fn first_match(
    rules: &[PolicyRule],
    scope: Scope<'_>,
    request: &Attributes<'_>,
) -> Option<usize> {
    if !scope.contains(request) {
        return None;
    }
    rules.iter().position(|rule| allows(rule, request))
}

/// Whether a rule that holds cluster-wide allows the request.
pub fn allows(rule: &PolicyRule, request: &Attributes<'_>) -> bool {
    has_or_all(&rule.verbs, request.verb)
        && match request.target {
            Target::Resource(to) => {
                has_or_all(&rule.api_groups, to.group)
                    && rule.resources.iter().any(|resource| names_resource(resource, &to))
                    && (rule.resource_names.is_empty()
                        || rule.resource_names.iter().any(|name| name == to.name))
            }
            Target::Url(path) => rule.non_resource_urls.iter().any(|url| names_url(url, path)),
        }
}

fn has_or_all(set: &[String], wanted: &str) -> bool {
    set.iter().any(|entry| entry == "*" || entry == wanted)
}

/// `*` names all, `pods/log` itself, `*/scale` any scale; `pods/*` names only a subresource called `*`.
fn names_resource(entry: &str, to: &ResourceAttributes<'_>) -> bool {
    if entry == "*" {
        return true;
    }
    if to.subresource.is_empty() {
        return entry == to.resource;
    }
    match entry.strip_suffix(to.subresource).and_then(|front| front.strip_suffix('/')) {
        Some(front) => front == "*" || front == to.resource,
        None => false,
    }
}

/// `/healthz` names itself, `/logs/*` whatever begins with `/logs/`; a `*` elsewhere is a plain character.
pub(crate) fn names_url(entry: &str, path: &str) -> bool {
    entry == path || (entry.ends_with('*') && path.starts_with(entry.trim_end_matches('*')))
}
