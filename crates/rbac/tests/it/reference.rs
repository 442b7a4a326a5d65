//! RBAC written down naively: a rule is expanded to single rights, each matched by comparing strings.

use nullius_model::PolicyRule;
use nullius_rbac::{Attributes, Target};

/// Whether one of the single rights of a rule allows a request.
pub(crate) fn allows(rule: &PolicyRule, request: &Attributes<'_>) -> bool {
    let verbs = matching(&rule.verbs, |verb| verb == "*" || verb == request.verb);
    match request.target {
        Target::Url(path) => {
            let urls = matching(&rule.non_resource_urls, |url| {
                if url.ends_with('*') {
                    let prefix = url.trim_end_matches('*');
                    path.len() >= prefix.len() && &path[..prefix.len()] == prefix || url == path
                } else {
                    url == path
                }
            });
            verbs * urls > 0
        }
        Target::Resource(to) => {
            let groups = matching(&rule.api_groups, |group| group == "*" || group == to.group);
            let whole = if to.subresource.is_empty() {
                to.resource.to_owned()
            } else {
                format!("{}/{}", to.resource, to.subresource)
            };
            let resources = matching(&rule.resources, |resource| {
                resource == "*"
                    || resource == whole
                    || (!to.subresource.is_empty() && resource == format!("*/{}", to.subresource))
            });
            let names = if rule.resource_names.is_empty() {
                1
            } else {
                matching(&rule.resource_names, |name| name == to.name)
            };
            verbs * groups * resources * names > 0
        }
    }
}

fn matching(list: &[String], fits: impl Fn(&str) -> bool) -> usize {
    list.iter().filter(|entry| fits(entry)).count()
}
