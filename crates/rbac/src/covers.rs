//! Whether somebody who holds some rules may give others away (the escalation check of Kubernetes).

use std::fmt;

use nullius_model::PolicyRule;

use crate::matching::names_url;

/// One right that is not held: a verb on one resource or URL, under one object name or all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Missing(PolicyRule);

impl Missing {
    /// The right as a rule with one entry a field.
    pub fn rule(&self) -> &PolicyRule {
        &self.0
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first =
            |list: &[String]| list.first().map(String::as_str).unwrap_or_default().to_owned();
        write!(f, "{} `", first(&self.0.verbs).escape_debug())?;
        if self.0.non_resource_urls.is_empty() {
            write!(f, "{}", first(&self.0.resources).escape_debug())?;
            let group = first(&self.0.api_groups);
            if !group.is_empty() {
                write!(f, "` in group `{}", group.escape_debug())?;
            }
            if let Some(name) = self.0.resource_names.first() {
                write!(f, "` named `{}", name.escape_debug())?;
            }
        } else {
            write!(f, "{}", first(&self.0.non_resource_urls).escape_debug())?;
        }
        write!(f, "`")
    }
}

/// Whether `held` covers `given`: every single right of `given` lies within one rule of `held`.
///
/// Like Kubernetes it may refuse what several held rules allow together, and never accepts what they do not.
pub fn covers(held: &[PolicyRule], given: &[PolicyRule]) -> Result<(), Vec<Missing>> {
    let mut missing = Vec::new();
    for rule in given {
        each_right(rule, |right| {
            if !held.iter().any(|rule| includes(rule, &right)) {
                missing.push(Missing(right.rule()));
            }
        });
    }
    if missing.is_empty() { Ok(()) } else { Err(missing) }
}

/// A rule with one entry in each of its fields.
enum Right<'a> {
    Resource { verb: &'a str, group: &'a str, resource: &'a str, name: Option<&'a str> },
    Url { verb: &'a str, url: &'a str },
}

impl Right<'_> {
    fn rule(&self) -> PolicyRule {
        let one = |text: &str| vec![text.to_owned()];
        match *self {
            Self::Resource { verb, group, resource, name } => PolicyRule {
                verbs: one(verb),
                api_groups: one(group),
                resources: one(resource),
                resource_names: name.map(one).unwrap_or_default(),
                non_resource_urls: Vec::new(),
            },
            Self::Url { verb, url } => PolicyRule {
                verbs: one(verb),
                non_resource_urls: one(url),
                ..PolicyRule::default()
            },
        }
    }
}

fn each_right<'a>(rule: &'a PolicyRule, mut visit: impl FnMut(Right<'a>)) {
    for verb in &rule.verbs {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                if rule.resource_names.is_empty() {
                    visit(Right::Resource { verb, group, resource, name: None });
                }
                for name in &rule.resource_names {
                    visit(Right::Resource { verb, group, resource, name: Some(name) });
                }
            }
        }
        for url in &rule.non_resource_urls {
            visit(Right::Url { verb, url });
        }
    }
}

fn includes(held: &PolicyRule, right: &Right<'_>) -> bool {
    let in_list =
        |list: &[String], wanted: &str| list.iter().any(|entry| entry == "*" || entry == wanted);
    match *right {
        Right::Url { verb, url } => {
            in_list(&held.verbs, verb)
                && held.resource_names.is_empty()
                && held.non_resource_urls.iter().any(|entry| names_url(entry, url))
        }
        Right::Resource { verb, group, resource, name } => {
            in_list(&held.verbs, verb)
                && in_list(&held.api_groups, group)
                && (in_list(&held.resources, resource) || any_parent(&held.resources, resource))
                && match name {
                    _ if held.resource_names.is_empty() => true,
                    Some(name) => held.resource_names.iter().any(|entry| entry == name),
                    None => false,
                }
        }
    }
}

/// Whether `*/scale` stands in the list for `deployments/scale`.
fn any_parent(list: &[String], resource: &str) -> bool {
    let Some((_, subresource)) = resource.split_once('/') else { return false };
    list.iter().any(|entry| entry.strip_prefix("*/") == Some(subresource))
}
