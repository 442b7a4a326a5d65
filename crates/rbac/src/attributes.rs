//! What a request asks for, in the words of Kubernetes authorization (authorization.k8s.io/v1 attributes).

use std::fmt::{self, Write as _};

use nullius_model::PolicyRule;

/// A verb and what it is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attributes<'a> {
    /// The verb: `get`, `list`, `create`, …; for a URL the method in lower case.
    pub verb: &'a str,
    /// What it is applied to.
    pub target: Target<'a>,
}

/// A resource of the API, or any other path of the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target<'a> {
    /// Objects.
    Resource(ResourceAttributes<'a>),
    /// A path that names no resource, `/version`.
    Url(&'a str),
}

/// Which objects; an empty string means none of that part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ResourceAttributes<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Resource, `pods`.
    pub resource: &'a str,
    /// Subresource, `log`.
    pub subresource: &'a str,
    /// Namespace; empty for cluster-scoped objects and for all namespaces.
    pub namespace: &'a str,
    /// Object name; empty for lists, and for creation.
    pub name: &'a str,
}

/// First segments of paths that name no resource; others are counted together, since anybody can invent them.
const KNOWN_URLS: [&str; 11] = [
    "", "api", "apis", "debug", "healthz", "livez", "logs", "metrics", "openapi", "readyz",
    "version",
];

/// The subresources of pods that open a stream into a container.
const STREAMS: [&str; 3] = ["exec", "attach", "portforward"];

impl<'a> Attributes<'a> {
    /// A verb on a resource.
    pub fn resource(verb: &'a str, resource: ResourceAttributes<'a>) -> Self {
        Self { verb, target: Target::Resource(resource) }
    }

    /// A verb on a path that names no resource.
    pub fn url(verb: &'a str, path: &'a str) -> Self {
        Self { verb, target: Target::Url(path) }
    }

    /// The same with the verb under which a stream into a container is always judged: opening one is `create`
    /// however it is asked for, since a `get` that runs commands would be no reading.
    #[must_use]
    pub fn judged(self) -> Self {
        match self.target {
            Target::Resource(to)
                if self.verb == "get"
                    && to.group.is_empty()
                    && to.resource == "pods"
                    && STREAMS.contains(&to.subresource) =>
            {
                Self { verb: "create", ..self }
            }
            Target::Resource(_) | Target::Url(_) => self,
        }
    }

    /// The namespace, empty where there is none.
    pub fn namespace(&self) -> &'a str {
        match self.target {
            Target::Resource(resource) => resource.namespace,
            Target::Url(_) => "",
        }
    }

    /// Group, resource, subresource and namespace without any object's name, `apps/deployments@shop`; core is
    /// written `core`. Uses of permissions are merged by it.
    pub fn without_name(&self) -> String {
        match self.target {
            Target::Url(path) => {
                let first = path.split('/').nth(1).unwrap_or_default();
                let known = KNOWN_URLS.into_iter().find(|known| *known == first);
                format!("url:/{}", known.unwrap_or("other"))
            }
            Target::Resource(to) => {
                let mut text = String::with_capacity(48);
                text.push_str(if to.group.is_empty() { "core" } else { to.group });
                text.push('/');
                text.push_str(to.resource);
                if !to.subresource.is_empty() {
                    text.push('/');
                    text.push_str(to.subresource);
                }
                if !to.namespace.is_empty() {
                    text.push('@');
                    text.push_str(to.namespace);
                }
                text
            }
        }
    }

    /// The smallest rule that would allow this.
    pub fn smallest_rule(&self) -> PolicyRule {
        let one = |text: &str| vec![text.to_owned()];
        match self.target {
            Target::Url(path) => PolicyRule {
                verbs: one(self.verb),
                non_resource_urls: one(path),
                ..PolicyRule::default()
            },
            Target::Resource(to) => PolicyRule {
                verbs: one(self.verb),
                api_groups: one(to.group),
                resources: vec![to.combined()],
                ..PolicyRule::default()
            },
        }
    }
}

impl ResourceAttributes<'_> {
    /// Resource and subresource as a rule writes them, `pods/log`.
    pub fn combined(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

/// Text of a caller, cut and without what could break a sentence or a terminal.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(80));
    for c in text.chars().take(80) {
        match c {
            '`' => shown.push('\''),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

impl fmt::Display for Attributes<'_> {
    /// Writes ``delete `deployments.apps/scale` `web` `` or ``get `/version` ``, cut and escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.verb.is_empty() { "(no verb)" } else { self.verb };
        write!(f, "{} `", shown(verb))?;
        match self.target {
            Target::Url(path) => f.write_str(&shown(path))?,
            Target::Resource(to) => {
                f.write_str(&shown(to.resource))?;
                if !to.group.is_empty() {
                    write!(f, ".{}", shown(to.group))?;
                }
                if !to.subresource.is_empty() {
                    write!(f, "/{}", shown(to.subresource))?;
                }
                if !to.name.is_empty() {
                    write!(f, "` `{}", shown(to.name))?;
                }
            }
        }
        f.write_char('`')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_merged_without_names() {
        let scale = ResourceAttributes {
            group: "apps",
            resource: "deployments",
            subresource: "scale",
            namespace: "shop",
            name: "web",
        };
        let core = ResourceAttributes { resource: "nodes", name: "n1", ..Default::default() };
        for (request, label) in [
            (Attributes::resource("update", scale), "apps/deployments/scale@shop"),
            (Attributes::resource("get", core), "core/nodes"),
            (Attributes::url("get", "/openapi/v3/apis/apps/v1"), "url:/openapi"),
            (Attributes::url("get", "/"), "url:/"),
            (Attributes::url("get", "/never-heard-of"), "url:/other"),
        ] {
            assert_eq!(request.without_name(), label);
        }
    }

    #[test]
    fn only_streams_into_pods_are_judged_by_another_verb() {
        let pods = |subresource| ResourceAttributes {
            resource: "pods",
            subresource,
            ..Default::default()
        };
        assert_eq!(Attributes::resource("get", pods("exec")).judged().verb, "create");
        assert_eq!(Attributes::resource("watch", pods("exec")).judged().verb, "watch");
        assert_eq!(Attributes::resource("get", pods("log")).judged().verb, "get");
        assert_eq!(Attributes::url("get", "/exec").judged().verb, "get");
    }
}
