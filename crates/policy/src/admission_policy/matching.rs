//! Whether a policy or a binding is for a request: selectors first, then exclusions, then rules.

use serde_json::Value as Json;

use super::{
    decision::Stop,
    facts::{Equivalent, Facts, Need},
    policy::{Constraints, MatchPolicy, Rule, RuleScope},
    request::{Kind, Operation, Request, Resource},
    selector::labels_of,
    trace::MatchTrace,
};

/// What a policy matched: the request's own resource, or another version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Matched {
    pub(super) resource: Resource,
    pub(super) kind: Kind,
}

/// The answer, and why.
pub(super) enum Match {
    Yes(Matched, MatchTrace),
    No(MatchTrace),
    /// It cannot be told, as the API server words it.
    Failed(String),
}

/// A request with what selectors look at.
pub(super) struct Candidate<'a> {
    pub(super) request: &'a Request,
    /// The object as it is by now.
    pub(super) object: Option<&'a Json>,
    pub(super) equivalents: &'a [Equivalent],
    pub(super) facts: &'a Facts<'a>,
}

impl Candidate<'_> {
    pub(super) fn matches(&self, constraints: &Constraints) -> Result<Match, Stop> {
        let namespace = self.namespace_selected(constraints)?;
        if let Ok(false) = namespace {
            let told = format!("namespaceSelector `{}` does not select", constraints.namespaces);
            return Ok(Match::No(MatchTrace::no(told)));
        }
        if !self.object_selected(constraints) {
            let told = format!("objectSelector `{}` does not select", constraints.objects);
            return Ok(Match::No(MatchTrace::no(told)));
        }
        if let Some((index, _)) = self.first_rule(&constraints.excluded, constraints.versions) {
            let told = format!("excludeResourceRules[{index}] excludes it");
            return Ok(Match::No(MatchTrace::no(told)));
        }
        let (matched, told) = if constraints.rules.is_empty() {
            let Request { resource, kind, .. } = self.request;
            let own = Matched { resource: resource.clone(), kind: kind.clone() };
            (own, "there are no rules to narrow it".to_owned())
        } else {
            match self.first_rule(&constraints.rules, constraints.versions) {
                Some((index, matched)) => {
                    let told = if matched.resource == self.request.resource {
                        format!("resourceRules[{index}]")
                    } else {
                        let Resource { group, version, resource } = &matched.resource;
                        format!(
                            "resourceRules[{index}], by the equivalent `{group}/{version}` `{resource}`"
                        )
                    };
                    (matched, told)
                }
                None => return Ok(Match::No(MatchTrace::no("no rule is for it"))),
            }
        };
        Ok(match namespace {
            Err(told) => Match::Failed(told),
            Ok(_) => Match::Yes(matched, MatchTrace::yes(told)),
        })
    }

    /// Whether the namespace is selected; the error of the API server when there is none.
    fn namespace_selected(&self, constraints: &Constraints) -> Result<Result<bool, String>, Stop> {
        let Request { namespace, resource, subresource, operation, .. } = self.request;
        let selector = &constraints.namespaces;
        let is_namespaces = resource.resource == "namespaces";
        if namespace.is_empty() && !is_namespaces || selector.is_empty() {
            return Ok(Ok(true));
        }
        let is_written = matches!(operation, Operation::Create | Operation::Update);
        if is_namespaces && subresource.is_empty() && is_written {
            let labels = self.object.and_then(labels_of).unwrap_or_default();
            return Ok(Ok(selector.matches(&labels)));
        }
        match self.facts.namespaces.get(namespace) {
            None => Err(Stop::needs(Need::Namespace(namespace.clone()))),
            Some(None) => Ok(Err(namespace_not_found(namespace))),
            Some(Some(found)) => Ok(Ok(selector.matches(&labels_of(found).unwrap_or_default()))),
        }
    }

    fn object_selected(&self, constraints: &Constraints) -> bool {
        let selector = &constraints.objects;
        let selects = |object: Option<&Json>| {
            object.and_then(labels_of).is_some_and(|labels| selector.matches(&labels))
        };
        selector.is_empty() || selects(self.object) || selects(self.request.old_object.as_ref())
    }

    fn first_rule(&self, rules: &[Rule], versions: MatchPolicy) -> Option<(usize, Matched)> {
        let Request { resource, kind, .. } = self.request;
        let own = rules.iter().position(|rule| self.rule_matches(rule, resource));
        if let Some(index) = own {
            return Some((index, Matched { resource: resource.clone(), kind: kind.clone() }));
        }
        if versions == MatchPolicy::Exact {
            return None;
        }
        rules.iter().enumerate().find_map(|(index, rule)| {
            let found = self.equivalents.iter().find(|other| {
                other.resource != *resource && self.rule_matches(rule, &other.resource)
            })?;
            let Equivalent { resource, kind } = found.clone();
            Some((index, Matched { resource, kind }))
        })
    }

    fn rule_matches(&self, rule: &Rule, resource: &Resource) -> bool {
        let has =
            |words: &[String], wanted: &str| words.iter().any(|word| word == "*" || word == wanted);
        let Request { operation, subresource, namespace, name, .. } = self.request;
        let is_namespace = resource.group.is_empty()
            && resource.version == "v1"
            && resource.resource == "namespaces";
        let in_scope = match rule.scope {
            RuleScope::All => true,
            RuleScope::Namespaced => !is_namespace && !namespace.is_empty(),
            RuleScope::Cluster => is_namespace || namespace.is_empty(),
        };
        let names = |entry: &String| {
            let (of, below) = entry.split_once('/').unwrap_or((entry, ""));
            (of == "*" || of == resource.resource) && (below == "*" || below == subresource)
        };
        in_scope
            && has(&rule.operations, operation.as_str())
            && has(&rule.groups, &resource.group)
            && has(&rule.versions, &resource.version)
            && rule.resources.iter().any(names)
            && (rule.names.is_empty() || rule.names.contains(name))
    }
}

/// The API server's words for a namespace that does not exist.
pub(super) fn namespace_not_found(name: &str) -> String {
    format!("namespaces \"{name}\" not found")
}
