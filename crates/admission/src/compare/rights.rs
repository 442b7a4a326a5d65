//! Who gains and who loses which rights between two states of files, by Kubernetes' rules of what covers what.

use std::collections::{BTreeMap, BTreeSet};

use nullius_model::PolicyRule;
use nullius_rbac::covers;
use serde::{Deserialize as _, Serialize};
use serde_json::Value as Json;

use crate::state::{
    State,
    rules::{Binding, Role, RoleRef},
};

/// Rights of somebody to one resource or path, in one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Right {
    /// `Group "dev"`, `ServiceAccount "shop/web"`.
    pub subject: String,
    /// The namespace; none for the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The verbs, or `*`.
    pub verbs: BTreeSet<String>,
    /// The API group; empty for the core, for paths and for roles of which nothing is known.
    pub group: String,
    /// The resource, a path that begins with `/`, or `ClusterRole/NAME` where the role is not among the files.
    pub resource: String,
    /// The one object; none for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The binding that gives them.
    pub through: String,
}

/// Bindings resolved to rules.
#[derive(Debug, Default)]
pub(super) struct Granted {
    bound: Vec<Bound>,
}

#[derive(Debug)]
struct Bound {
    subject: String,
    namespace: Option<String>,
    /// `None` where the role is not among the files.
    rules: Option<Vec<PolicyRule>>,
    role: String,
    binding: String,
}

impl Granted {
    /// What the roles and bindings of objects give.
    pub(super) fn of<'a>(objects: impl Iterator<Item = &'a Json> + Clone) -> Self {
        let roles = roles(objects.clone());
        let mut bound = Vec::new();
        for object in objects {
            let text = |path: &str| object.pointer(path).and_then(Json::as_str).unwrap_or_default();
            let kind = text("/kind");
            if !["ClusterRoleBinding", "RoleBinding"].contains(&kind) {
                continue;
            }
            let Ok(binding) = Binding::deserialize(object) else { continue };
            let namespace = (kind == "RoleBinding").then(|| text("/metadata/namespace").to_owned());
            let within = namespace.as_deref().unwrap_or_default();
            let RoleRef { kind: role_kind, name } = &binding.role_ref;
            let role_namespace = if role_kind == "Role" { within } else { "" };
            let rules = roles.get(&(role_namespace.to_owned(), name.clone())).cloned();
            let rules = rules.or_else(|| known(role_kind, name)).map(|mut rules| {
                if namespace.is_some() {
                    // Paths lie in no namespace.
                    rules.retain(|rule| rule.non_resource_urls.is_empty());
                }
                rules
            });
            for subject in binding.subjects.iter().flatten() {
                bound.push(Bound {
                    subject: subject.shown(within),
                    namespace: namespace.clone(),
                    rules: rules.clone(),
                    role: format!("{role_kind}/{name}"),
                    binding: match within {
                        "" => format!("{kind} {}", text("/metadata/name")),
                        within => format!("{kind} {within}/{}", text("/metadata/name")),
                    },
                });
            }
        }
        Self { bound }
    }

    /// The rights here that others do not cover.
    pub(super) fn beyond(&self, others: &Self) -> Vec<Right> {
        let mut single: Vec<(String, Option<String>, PolicyRule, String)> = Vec::new();
        let mut whole = BTreeSet::new();
        for bound in &self.bound {
            let reaches = |other: &&Bound| {
                other.subject == bound.subject
                    && (other.namespace.is_none() || other.namespace == bound.namespace)
            };
            let Some(rules) = &bound.rules else {
                let is_same = |other: &Bound| other.rules.is_none() && other.role == bound.role;
                if !others.bound.iter().filter(reaches).any(is_same) {
                    whole.insert(Right {
                        subject: bound.subject.clone(),
                        namespace: bound.namespace.clone(),
                        verbs: BTreeSet::from(["*".to_owned()]),
                        group: String::new(),
                        resource: bound.role.clone(),
                        name: None,
                        through: bound.binding.clone(),
                    });
                }
                continue;
            };
            let held = others.bound.iter().filter(reaches).filter_map(|other| other.rules.as_ref());
            let held: Vec<PolicyRule> = held.flatten().cloned().collect();
            let Err(missing) = covers(&held, rules) else { continue };
            for missing in missing {
                let of = (
                    bound.subject.clone(),
                    bound.namespace.clone(),
                    missing.rule().clone(),
                    bound.binding.clone(),
                );
                if !single.contains(&of) {
                    single.push(of);
                }
            }
        }
        let mut rights: Vec<Right> = merged(&single);
        rights.extend(whole);
        rights.sort();
        rights
    }
}

/// One right for each resource, without those that others among them cover.
fn merged(single: &[(String, Option<String>, PolicyRule, String)]) -> Vec<Right> {
    let mut merged: BTreeMap<Right, BTreeSet<String>> = BTreeMap::new();
    for (index, (subject, namespace, rule, through)) in single.iter().enumerate() {
        let is_covered = single.iter().enumerate().any(|(other, (of, within, wider, _))| {
            let reaches = of == subject && (within.is_none() || within == namespace);
            let same = within == namespace && wider == rule;
            other != index
                && reaches
                && (!same || other < index)
                && covers(std::slice::from_ref(wider), std::slice::from_ref(rule)).is_ok()
        });
        if is_covered {
            continue;
        }
        let first = |list: &[String]| list.first().cloned();
        // All paths begin so, which tells them from all resources.
        let path = || {
            let path = first(&rule.non_resource_urls)?;
            Some(if path == "*" { "/*".to_owned() } else { path })
        };
        let resource = first(&rule.resources).or_else(path);
        let key = Right {
            subject: subject.clone(),
            namespace: namespace.clone(),
            verbs: BTreeSet::new(),
            group: first(&rule.api_groups).unwrap_or_default(),
            resource: resource.unwrap_or_default(),
            name: first(&rule.resource_names),
            through: through.clone(),
        };
        merged.entry(key).or_default().extend(rule.verbs.iter().cloned());
    }
    merged.into_iter().map(|(right, verbs)| Right { verbs, ..right }).collect()
}

/// The rules of roles by namespace and name; of those that gather others' rules what they gather.
fn roles<'a>(
    objects: impl Iterator<Item = &'a Json> + Clone,
) -> BTreeMap<(String, String), Vec<PolicyRule>> {
    let rules = |object: &Json| Role::deserialize(object).ok().and_then(|role| role.rules);
    let is = |object: &Json, kind: &str| object.get("kind").and_then(Json::as_str) == Some(kind);
    let mut roles = BTreeMap::new();
    for object in objects.clone() {
        let text = |path: &str| object.pointer(path).and_then(Json::as_str).unwrap_or_default();
        let namespace = match is(object, "ClusterRole") {
            true => "",
            false if is(object, "Role") => text("/metadata/namespace"),
            false => continue,
        };
        let selectors = object.pointer("/aggregationRule/clusterRoleSelectors");
        let selectors = selectors.and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        let gathered = objects.clone().filter(|other| {
            is(other, "ClusterRole")
                && other.pointer("/metadata/name") != object.pointer("/metadata/name")
                && selectors.iter().any(|selector| State::selects(selector, other))
        });
        let gathered: Vec<PolicyRule> = gathered.filter_map(rules).flatten().collect();
        let own = if gathered.is_empty() { rules(object).unwrap_or_default() } else { gathered };
        roles.insert((namespace.to_owned(), text("/metadata/name").to_owned()), own);
    }
    roles
}

/// What every cluster has, and what is the same in all.
fn known(kind: &str, name: &str) -> Option<Vec<PolicyRule>> {
    let all = || vec!["*".to_owned()];
    (kind == "ClusterRole" && name == "cluster-admin").then(|| {
        vec![
            PolicyRule {
                verbs: all(),
                api_groups: all(),
                resources: all(),
                ..PolicyRule::default()
            },
            PolicyRule { verbs: all(), non_resource_urls: all(), ..PolicyRule::default() },
        ]
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn role(kind: &str, name: &str, rules: Json) -> Json {
        json!({ "kind": kind, "metadata": { "name": name, "namespace": if kind == "Role" { "n" } else { "" } }, "rules": rules })
    }

    fn bind(kind: &str, role: &str, subjects: Json) -> Json {
        let role_kind =
            if role.starts_with("c-") || role == "cluster-admin" { "ClusterRole" } else { "Role" };
        json!({ "kind": kind, "metadata": { "name": "b", "namespace": if kind == "RoleBinding" { "n" } else { "" } },
            "roleRef": { "kind": role_kind, "name": role }, "subjects": subjects })
    }

    fn told(base: &[Json], head: &[Json]) -> Vec<String> {
        let (base, head) = (Granted::of(base.iter()), Granted::of(head.iter()));
        let told = |sign: char, right: &Right| {
            let Right { subject, namespace, verbs, resource, name, .. } = right;
            let verbs: Vec<&str> = verbs.iter().map(String::as_str).collect();
            format!(
                "{sign} {subject} {} {resource} {}{}",
                verbs.join(","),
                namespace.as_deref().unwrap_or("everywhere"),
                name.as_deref().map(|name| format!(" {name}")).unwrap_or_default()
            )
        };
        let gained = head.beyond(&base);
        let lost = base.beyond(&head);
        let gained = gained.iter().map(|right| told('+', right));
        gained.chain(lost.iter().map(|right| told('-', right))).collect()
    }

    fn dev() -> Json {
        json!([{ "kind": "Group", "name": "dev" }])
    }

    #[test]
    fn what_a_wildcard_covers_is_nothing_new() {
        let narrow = role(
            "ClusterRole",
            "c-x",
            json!([{ "apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"] }]),
        );
        let wide = role(
            "ClusterRole",
            "c-x",
            json!([{ "apiGroups": [""], "resources": ["*"], "verbs": ["*"] }]),
        );
        let bound = bind("ClusterRoleBinding", "c-x", dev());
        assert_eq!(
            told(&[narrow.clone(), bound.clone()], &[wide.clone(), bound.clone()]),
            ["+ Group \"dev\" * * everywhere"]
        );
        assert_eq!(
            told(&[wide, bound.clone()], &[narrow.clone(), bound.clone()]),
            ["- Group \"dev\" * * everywhere"]
        );
        assert_eq!(told(&[narrow.clone(), bound.clone()], &[bound, narrow]), Vec::<String>::new());
    }

    #[test]
    fn a_right_in_a_namespace_is_part_of_the_same_one_everywhere() {
        let rules = role(
            "ClusterRole",
            "c-x",
            json!([
                { "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"], "verbs": ["get"] },
                { "nonResourceURLs": ["/metrics"], "verbs": ["get"] },
            ]),
        );
        let here = [rules.clone(), bind("RoleBinding", "c-x", dev())];
        let everywhere = [rules, bind("ClusterRoleBinding", "c-x", dev())];
        assert_eq!(
            told(&here, &everywhere),
            ["+ Group \"dev\" get /metrics everywhere", "+ Group \"dev\" get secrets everywhere a"]
        );
        assert_eq!(told(&[], &here), ["+ Group \"dev\" get secrets n a"]);
    }

    #[test]
    fn gathered_roles_give_what_they_gather() {
        let whole = json!({ "kind": "ClusterRole", "metadata": { "name": "c-whole" },
            "aggregationRule": { "clusterRoleSelectors": [{ "matchLabels": { "to": "whole" } }] }, "rules": [] });
        let mut part = role(
            "ClusterRole",
            "c-part",
            json!([{ "apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create"] }]),
        );
        part["metadata"]["labels"] = json!({ "to": "whole" });
        let subjects = json!([{ "kind": "ServiceAccount", "name": "s" }]);
        let bound = bind("RoleBinding", "c-whole", subjects);
        assert_eq!(
            told(&[whole.clone(), bound.clone()], &[whole, bound, part]),
            ["+ ServiceAccount \"n/s\" create deployments n"]
        );
    }

    #[test]
    fn a_role_that_is_not_there_is_named_and_cluster_admin_is_known() {
        assert_eq!(
            told(&[], &[bind("RoleBinding", "c-edit", dev())]),
            ["+ Group \"dev\" * ClusterRole/c-edit n"]
        );
        let admin = [bind("ClusterRoleBinding", "cluster-admin", dev())];
        assert_eq!(
            told(&[], &admin),
            ["+ Group \"dev\" * /* everywhere", "+ Group \"dev\" * * everywhere"]
        );
        assert_eq!(told(&admin, &admin), Vec::<String>::new());
    }
}
