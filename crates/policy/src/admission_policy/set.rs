//! Policies with their bindings, compiled once and found by resource and operation.

use std::collections::{BTreeMap, BTreeSet};

use nullius_cel::Version;
use serde_json::Value as Json;

use super::{
    facts::{Equivalent, Kinds, ParamSource},
    fault::Fault,
    making,
    outline::{self, PolicyOutline},
    policy::{Binding, Constraints, Mutating, Policy, Rule, Rules, Validating},
    programs::Programs,
    request::{Kind, Request},
    trace::{MatchTrace, PolicyTrace},
    type_check::{self, ExpressionWarning, Types},
    wire,
};

/// Policies and bindings of a cluster.
#[derive(Debug)]
pub struct PolicySet {
    version: Version,
    programs: Programs,
    validating: Collection<Validating>,
    mutating: Collection<Mutating>,
}

/// What an object is to a set of policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A policy or a binding: it is part of the set now.
    Added,
    /// Another kind.
    Foreign,
}

/// Policies of one kind with their bindings.
#[derive(Debug)]
struct Collection<R> {
    policies: BTreeMap<String, Policy<R>>,
    /// By policy, sorted by name: nearly all have one.
    bindings: BTreeMap<String, Vec<Binding>>,
    /// The names of all bindings.
    bound: BTreeSet<String>,
    /// Names of policies by resource and operation.
    index: Index,
}

/// Which policies may be for a request, without looking at them.
#[derive(Debug, Default)]
struct Index {
    /// By operation and resource; rules with a wildcard stand under `*`.
    by_rule: BTreeMap<(String, String), BTreeSet<String>>,
}

impl<R> Default for Collection<R> {
    fn default() -> Self {
        let (policies, bindings, bound, index) = Default::default();
        Self { policies, bindings, bound, index }
    }
}

impl PolicySet {
    /// An empty set for an API server of a version.
    #[must_use]
    pub fn new(version: Version) -> Self {
        Self::sharing(version, Programs::default())
    }

    /// An empty set whose policies share these programs with those of other sets.
    #[must_use]
    pub fn sharing(version: Version, programs: Programs) -> Self {
        let (validating, mutating) = Default::default();
        Self { version, programs, validating, mutating }
    }

    /// The programs of its policies.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The version of the API server whose rules hold.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Adds a policy or a binding, checked as the API server checks it.
    ///
    /// # Errors
    ///
    /// Every field that the API server would refuse; nothing is added then.
    pub fn add(&mut self, object: &Json) -> Result<Taken, Vec<Fault>> {
        let text = |field| object.get(field).and_then(Json::as_str).unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let is_ours = ["Validating", "Mutating"].iter().any(|what| {
            kind.strip_prefix(what)
                .is_some_and(|rest| ["AdmissionPolicy", "AdmissionPolicyBinding"].contains(&rest))
        });
        if !is_ours || !api_version.starts_with("admissionregistration.k8s.io/") {
            return Ok(Taken::Foreign);
        }
        if api_version != wire::API_VERSION {
            let message = format!("`{api_version}` is not read; write `{}`", wire::API_VERSION);
            return Err(vec![Fault { field: "apiVersion".to_owned(), message }]);
        }
        match kind {
            "ValidatingAdmissionPolicy" => {
                self.validating.add(making::validating(object, self.version, &self.programs)?)?;
            }
            "MutatingAdmissionPolicy" => {
                self.mutating.add(making::mutating(object, self.version, &self.programs)?)?;
            }
            "ValidatingAdmissionPolicyBinding" => {
                self.validating.bind(making::validating_binding(object)?)?;
            }
            _ => self.mutating.bind(making::mutating_binding(object)?)?,
        }
        Ok(Taken::Added)
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.validating.policies.len() + self.mutating.policies.len()
    }

    /// Whether there is no policy.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a rule of a policy is for a group.
    #[must_use]
    pub fn concerns(&self, group: &str) -> bool {
        self.validating.concerns(group) || self.mutating.concerns(group)
    }

    /// What the API server says of expressions when it checks them against the kinds that rules name.
    #[must_use]
    pub fn type_warnings(&self, types: &dyn Types) -> Vec<ExpressionWarning> {
        let policies = self.validating.policies.values();
        policies.flat_map(|policy| type_check::warnings(policy, self.version, types)).collect()
    }

    /// What the policies consist of, by kind and name.
    #[must_use]
    pub fn outlines(&self) -> Vec<PolicyOutline> {
        let validating = self.validating.policies.values().map(outline::validating);
        validating.chain(self.mutating.policies.values().map(outline::mutating)).collect()
    }

    /// The kinds of parameters that policies take.
    #[must_use]
    pub fn param_kinds(&self) -> BTreeSet<Kind> {
        let kinds = self.validating.policies.values().filter_map(|each| each.param_kind.as_ref());
        let others = self.mutating.policies.values().filter_map(|each| each.param_kind.as_ref());
        kinds.chain(others).cloned().collect()
    }

    /// Where the parameters are that bindings refer to.
    #[must_use]
    pub fn param_sources(&self) -> BTreeSet<ParamSource> {
        let sources = self.validating.param_sources();
        sources.chain(self.mutating.param_sources()).collect()
    }

    /// Policies that no binding names, which are for nothing.
    pub fn unbound(&self) -> impl Iterator<Item = &str> {
        self.validating.unbound().chain(self.mutating.unbound())
    }

    /// Bindings that name no policy of the set: name of the binding, name of the policy.
    pub fn dangling(&self) -> impl Iterator<Item = (&str, &str)> {
        self.validating.dangling().chain(self.mutating.dangling())
    }

    /// The policies that an evaluation does not look at, and why: none of their rules can be for the request, or no binding
    /// names them. What it looks at stands in its trace.
    #[must_use]
    pub fn passed_over(&self, request: &Request, kinds: &dyn Kinds) -> Vec<PolicyTrace> {
        let equivalents = kinds.equivalents(&request.resource, &request.subresource);
        let mut traces =
            self.mutating.passed_over("MutatingAdmissionPolicy", request, &equivalents);
        traces.extend(self.validating.passed_over(
            "ValidatingAdmissionPolicy",
            request,
            &equivalents,
        ));
        traces
    }

    pub(super) fn validating(
        &self,
        request: &Request,
        equivalents: &[Equivalent],
    ) -> Vec<(&Policy<Validating>, Vec<&Binding>)> {
        self.validating.candidates(request, equivalents)
    }

    pub(super) fn mutating(
        &self,
        request: &Request,
        equivalents: &[Equivalent],
    ) -> Vec<(&Policy<Mutating>, Vec<&Binding>)> {
        self.mutating.candidates(request, equivalents)
    }
}

impl<R: Rules> Collection<R> {
    fn add(&mut self, policy: Policy<R>) -> Result<(), Vec<Fault>> {
        if self.policies.contains_key(&policy.name) {
            return Err(vec![twice("policy", &policy.name)]);
        }
        self.index.add(&policy.name, &policy.constraints);
        self.policies.insert(policy.name.clone(), policy);
        Ok(())
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Vec<Fault>> {
        if !self.bound.insert(binding.name.clone()) {
            return Err(vec![twice("binding", &binding.name)]);
        }
        let of = self.bindings.entry(binding.policy.clone()).or_default();
        let at = of.partition_point(|known| known.name < binding.name);
        of.reserve_exact(1);
        of.insert(at, binding);
        Ok(())
    }

    fn concerns(&self, group: &str) -> bool {
        let is_for = |rule: &Rule| rule.groups.iter().any(|each| each == "*" || each == group);
        self.policies.values().any(|policy| policy.constraints.rules.iter().any(is_for))
    }

    fn param_sources(&self) -> impl Iterator<Item = ParamSource> {
        self.policies.iter().flat_map(|(name, policy)| {
            let bindings = self.bindings.get(name).into_iter().flatten();
            let references = bindings.filter_map(|binding| binding.params.as_ref());
            let kinds = policy.param_kind.iter();
            kinds.flat_map(move |kind| {
                references.clone().map(move |reference| ParamSource {
                    kind: kind.clone(),
                    namespace: (!reference.namespace.is_empty())
                        .then(|| reference.namespace.clone()),
                    pick: reference.pick.clone(),
                })
            })
        })
    }

    fn unbound(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().filter(|name| !self.bindings.contains_key(*name)).map(String::as_str)
    }

    fn dangling(&self) -> impl Iterator<Item = (&str, &str)> {
        let lost = self.bindings.iter().filter(|(policy, _)| !self.policies.contains_key(*policy));
        lost.flat_map(|(policy, bindings)| {
            bindings.iter().map(move |binding| (binding.name.as_str(), policy.as_str()))
        })
    }

    fn passed_over(
        &self,
        kind: &'static str,
        request: &Request,
        equivalents: &[Equivalent],
    ) -> Vec<PolicyTrace> {
        let names = self.index.names(request, equivalents);
        let why = |name: &str| match self.bindings.contains_key(name) {
            false => Some("no binding names it"),
            true if !names.contains(name) => Some("no rule is for it"),
            true => None,
        };
        let traces = self.policies.keys().filter_map(|name| {
            let matched = MatchTrace::no(why(name)?);
            let policy = name.clone();
            Some(PolicyTrace { kind, policy, reinvocation: false, matched, bindings: Vec::new() })
        });
        traces.collect()
    }

    /// The policies that may be for a request, with their bindings, by name.
    fn candidates(
        &self,
        request: &Request,
        equivalents: &[Equivalent],
    ) -> Vec<(&Policy<R>, Vec<&Binding>)> {
        let names = self.index.names(request, equivalents);
        let bound = names.into_iter().filter_map(|name| {
            let bindings = self.bindings.get(name)?.iter().collect();
            Some((self.policies.get(name)?, bindings))
        });
        bound.collect()
    }
}

fn twice(what: &str, name: &str) -> Fault {
    let message = format!("the {what} `{name}` stands twice; take one out");
    Fault { field: "metadata.name".to_owned(), message }
}

impl Index {
    fn add(&mut self, name: &str, constraints: &Constraints) {
        for rule in &constraints.rules {
            for operation in &rule.operations {
                for resource in &rule.resources {
                    let resource = resource.split('/').next().unwrap_or_default();
                    let key = (operation.clone(), resource.to_owned());
                    self.by_rule.entry(key).or_default().insert(name.to_owned());
                }
            }
        }
    }

    fn names(&self, request: &Request, equivalents: &[Equivalent]) -> BTreeSet<&str> {
        let others = equivalents.iter().map(|other| other.resource.resource.as_str());
        let resources: BTreeSet<&str> =
            others.chain([request.resource.resource.as_str(), "*"]).collect();
        let mut names = BTreeSet::new();
        for operation in [request.operation.as_str(), "*"] {
            for resource in &resources {
                let key = (operation.to_owned(), (*resource).to_owned());
                names.extend(self.by_rule.get(&key).into_iter().flatten().map(String::as_str));
            }
        }
        names
    }
}
