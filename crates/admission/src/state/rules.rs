//! Who may do what by the roles and bindings of a state, with the reasons that the API server gives.

use std::collections::{BTreeMap, BTreeSet};

use nullius_model::PolicyRule;
use nullius_policy::admission_policy::{
    Kind, Selector, User,
    authz::{AccessCheck, Authorizer, Subject, Target, Verdict},
};
use nullius_rbac::{Attributes, ResourceAttributes, Scope, first_match};
use serde::Deserialize;
use serde_json::Value as Json;

use super::NotTaken;

pub(super) const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
/// The kinds that say together who may do what.
pub(super) const KINDS: [&str; 4] = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
/// Members of this group may do everything, whatever roles say.
const MASTERS: &str = "system:masters";

/// Roles and bindings.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    cluster_roles: BTreeMap<String, ClusterRole>,
    roles: BTreeMap<(String, String), Vec<PolicyRule>>,
    cluster_bindings: BTreeMap<String, Binding>,
    bindings: BTreeMap<(String, String), Binding>,
}

/// A role of the cluster.
#[derive(Debug, Clone)]
enum ClusterRole {
    /// With rules of its own.
    Own { labels: BTreeMap<String, String>, rules: Vec<PolicyRule> },
    /// With those of all roles that these selectors select, whatever rules were written into it: a controller fills it.
    Aggregated { labels: BTreeMap<String, String>, selectors: Vec<Selector> },
}

/// A binding of either kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Binding {
    pub(crate) role_ref: RoleRef,
    #[serde(default)]
    pub(crate) subjects: Option<Vec<BoundSubject>>,
}

/// Which role a binding gives.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RoleRef {
    pub(crate) kind: String,
    pub(crate) name: String,
}

/// Whom a binding names.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BoundSubject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: String,
}

/// A role of either kind.
#[derive(Deserialize)]
pub(crate) struct Role {
    #[serde(default)]
    pub(crate) rules: Option<Vec<PolicyRule>>,
}

/// The rules for the one who makes a request.
pub(super) struct For<'a> {
    rules: &'a Rules,
    user: &'a User,
    /// Whether nothing is missing: only then is no rule a no.
    is_complete: bool,
}

/// Somebody whom bindings name.
struct Person<'a> {
    name: &'a str,
    groups: Vec<&'a str>,
}

impl Rules {
    pub(super) fn add(&mut self, kind: &str, object: &Json) -> Result<(), NotTaken> {
        let text = |field: &str| {
            let value = object.pointer(&format!("/metadata/{field}")).and_then(Json::as_str);
            value.unwrap_or_default().to_owned()
        };
        let (namespace, name) = (text("namespace"), text("name"));
        let wrong = |error: serde_json::Error| NotTaken(format!("`{kind}` `{name}`: {error}"));
        let rules = || Ok(Role::deserialize(object).map_err(wrong)?.rules.unwrap_or_default());
        let binding = || Binding::deserialize(object).map_err(wrong);
        match kind {
            "ClusterRole" => {
                let role = ClusterRole::of(object, rules()?)
                    .map_err(|told| NotTaken(format!("`{kind}` `{name}`: {told}")))?;
                self.cluster_roles.insert(name.clone(), role);
            }
            "Role" => {
                self.roles.insert((namespace, name.clone()), rules()?);
            }
            "ClusterRoleBinding" => {
                self.cluster_bindings.insert(name.clone(), binding()?);
            }
            "RoleBinding" => {
                self.bindings.insert((namespace, name.clone()), binding()?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The rules for a user; `complete` are the kinds of which the state holds every object.
    pub(super) fn of<'a>(&'a self, user: &'a User, complete: &BTreeSet<Kind>) -> For<'a> {
        let holds = |kind: &str| complete.contains(&Kind::new(API_VERSION, kind));
        For { rules: self, user, is_complete: KINDS.into_iter().all(holds) }
    }

    /// Why a person may do something.
    fn allowed(&self, person: &Person<'_>, request: &Attributes<'_>) -> Option<String> {
        let bound = |binding: &Binding, namespace: &str, scope: Scope<'_>| {
            let subject =
                binding.subjects.iter().flatten().find(|subject| subject.is(person, namespace))?;
            let rules = self.rules_of(&binding.role_ref, namespace);
            rules.into_iter().find_map(|rules| first_match(rules, scope, request))?;
            let RoleRef { kind, name } = &binding.role_ref;
            Some(format!("of {kind} \"{name}\" to {}", subject.described(namespace)))
        };
        let everywhere = self.cluster_bindings.iter().find_map(|(name, binding)| {
            let of = bound(binding, "", Scope::Cluster)?;
            Some(format!("RBAC: allowed by ClusterRoleBinding \"{name}\" {of}"))
        });
        let here = request.namespace();
        everywhere.or_else(|| {
            self.bindings.iter().filter(|((namespace, _), _)| namespace == here).find_map(
                |((namespace, name), binding)| {
                    let of = bound(binding, namespace, Scope::Namespace(namespace))?;
                    Some(format!("RBAC: allowed by RoleBinding \"{name}/{namespace}\" {of}"))
                },
            )
        })
    }
}

impl Rules {
    /// The rules that a binding gives, role by role.
    fn rules_of(&self, RoleRef { kind, name }: &RoleRef, namespace: &str) -> Vec<&[PolicyRule]> {
        if kind != "ClusterRole" && !namespace.is_empty() {
            let role = self.roles.get(&(namespace.to_owned(), name.clone()));
            return role.map(Vec::as_slice).into_iter().collect();
        }
        let mut rules = Vec::new();
        // A role that aggregates may be aggregated itself, also in a circle.
        let (mut met, mut waiting) = (BTreeSet::from([name.as_str()]), vec![name.as_str()]);
        while let Some(role) = waiting.pop().and_then(|name| self.cluster_roles.get(name)) {
            match role {
                ClusterRole::Own { rules: own, .. } => rules.push(own.as_slice()),
                ClusterRole::Aggregated { selectors, .. } => {
                    let selected = self.cluster_roles.iter().filter(|(_, other)| {
                        let labels = other.labels();
                        selectors.iter().any(|selector| selector.matches(&labels))
                    });
                    waiting.extend(
                        selected.map(|(name, _)| name.as_str()).filter(|name| met.insert(name)),
                    );
                }
            }
        }
        rules
    }
}

impl ClusterRole {
    fn of(object: &Json, rules: Vec<PolicyRule>) -> Result<Self, String> {
        let labels = object.pointer("/metadata/labels").and_then(Json::as_object);
        let labels = labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        let Some(aggregation) = object.get("aggregationRule").filter(|rule| !rule.is_null()) else {
            return Ok(Self::Own { labels, rules });
        };
        let selectors = aggregation.get("clusterRoleSelectors").and_then(Json::as_array);
        let selectors = selectors.into_iter().flatten().map(Selector::of).collect::<Result<_, _>>();
        let told = |told| format!("aggregationRule.clusterRoleSelectors: {told}");
        Ok(Self::Aggregated { labels, selectors: selectors.map_err(told)? })
    }

    fn labels(&self) -> BTreeMap<&str, &str> {
        let (Self::Own { labels, .. } | Self::Aggregated { labels, .. }) = self;
        labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }
}

impl BoundSubject {
    fn is(&self, person: &Person<'_>, namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => self.name == person.name,
            "Group" => person.groups.contains(&self.name.as_str()),
            "ServiceAccount" => {
                let account =
                    format!("system:serviceaccount:{}:{}", self.within(namespace), self.name);
                person.name == account
            }
            _ => false,
        }
    }

    fn within<'a>(&'a self, namespace: &'a str) -> &'a str {
        if self.namespace.is_empty() { namespace } else { &self.namespace }
    }

    /// `Group "dev"`; an account as objects are named elsewhere, `namespace/name`.
    pub(crate) fn shown(&self, namespace: &str) -> String {
        match self.kind.as_str() {
            "ServiceAccount" => {
                format!("{} \"{}/{}\"", self.kind, self.within(namespace), self.name)
            }
            _ => self.described(namespace),
        }
    }

    /// `Group "dev"`, as the API server names it; an account is `name/namespace` there.
    pub(crate) fn described(&self, namespace: &str) -> String {
        match self.kind.as_str() {
            "ServiceAccount" => {
                format!("{} \"{}/{}\"", self.kind, self.name, self.within(namespace))
            }
            kind => format!("{kind} \"{}\"", self.name),
        }
    }
}

impl Authorizer for For<'_> {
    fn answer(&self, check: &AccessCheck) -> Option<Verdict> {
        let (account, groups);
        let person = match &check.subject {
            Subject::Requester => Person {
                name: &self.user.username,
                groups: self.user.groups.iter().map(String::as_str).collect(),
            },
            Subject::ServiceAccount { namespace, name } => {
                account = format!("system:serviceaccount:{namespace}:{name}");
                groups = format!("system:serviceaccounts:{namespace}");
                Person { name: &account, groups: vec!["system:serviceaccounts", &groups] }
            }
        };
        if person.groups.contains(&MASTERS) {
            return Some(Verdict::Allow { reason: String::new() });
        }
        let verb = check.verb.as_str();
        let request = match &check.target {
            Target::Path(path) => Attributes::url(verb, path),
            Target::Resource(target) => Attributes::resource(
                verb,
                ResourceAttributes {
                    group: &target.group,
                    resource: &target.resource,
                    subresource: &target.subresource,
                    namespace: &target.namespace,
                    name: &target.name,
                },
            ),
        };
        match self.rules.allowed(&person, &request) {
            Some(reason) => Some(Verdict::Allow { reason }),
            None if self.is_complete => Some(Verdict::Deny { reason: String::new() }),
            None => None,
        }
    }
}
