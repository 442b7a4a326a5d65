//! What the API server says of a policy's expressions when it checks them against the kinds that its rules name: the
//! `status.typeChecking` of a `ValidatingAdmissionPolicy`. It warns, and decides nothing.

use std::{collections::BTreeSet, fmt};

use nullius_cel::{Type, Version, object::Objects};

use super::{
    environment::{Environment, Params, Typed},
    policy::{Policy, Rule, Validating},
    request::{Kind, Resource},
};

/// The most kinds that are checked for one rule.
const MAX_KINDS: usize = 10;

/// What is known of the types of kinds.
pub trait Types {
    /// The kinds that a resource has.
    fn kinds_for(&self, resource: &Resource) -> Vec<Kind>;

    /// Declares the type of a kind; `None` when it is not known.
    fn declare(&self, kind: &Kind, objects: &mut Objects) -> Option<Type>;
}

/// A remark on an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionWarning {
    /// The policy.
    pub policy: String,
    /// The field, `spec.validations[0].expression`.
    pub field: String,
    /// What is said, kind by kind.
    pub warning: String,
}

impl fmt::Display for ExpressionWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.warning.trim_end())
    }
}

/// The remarks on a policy.
pub(super) fn warnings(
    policy: &Policy<Validating>,
    version: Version,
    types: &dyn Types,
) -> Vec<ExpressionWarning> {
    let environments: Vec<(Kind, Environment)> = kinds(&policy.constraints.rules, types)
        .into_iter()
        .filter_map(|kind| Some((kind.clone(), environment(policy, version, &kind, types)?)))
        .collect();
    let mut all = Vec::new();
    let mut check = |field: String, source: &str| {
        let told = environments.iter().filter_map(|(kind, environment)| {
            let told = environment.check(source).err()?;
            let Kind { group, version, kind } = kind;
            Some(format!("{group}/{version}, Kind={kind}: {told}\n"))
        });
        let told: Vec<String> = told.collect();
        if !told.is_empty() {
            let (policy, warning) = (policy.name.clone(), told.join("\n"));
            all.push(ExpressionWarning { policy, field, warning });
        }
    };
    for (index, validation) in policy.rules.validations.iter().enumerate() {
        let field = format!("spec.validations[{index}]");
        check(format!("{field}.expression"), &validation.expression.source);
        if let Some(message) = &validation.message_expression {
            check(format!("{field}.messageExpression"), &message.source);
        }
    }
    all
}

/// What expressions see of objects of a kind.
fn environment(
    policy: &Policy<Validating>,
    version: Version,
    kind: &Kind,
    types: &dyn Types,
) -> Option<Environment> {
    let mut objects = Objects::default();
    let object = types.declare(kind, &mut objects)?;
    let params = policy.param_kind.as_ref();
    let of_params = params.and_then(|kind| types.declare(kind, &mut objects)).unwrap_or(Type::Dyn);
    let takes = if params.is_some() { Params::Some } else { Params::None };
    let typed = Typed { object, params: of_params, objects };
    let mut environment = Environment::of_kind(version, takes, typed);
    for variable in &policy.variables {
        let of = environment.check(&variable.expression.source).ok();
        environment.add_variable(&variable.name, of.as_ref());
    }
    Some(environment)
}

/// The kinds that rules name without wildcards, in order.
fn kinds(rules: &[Rule], types: &dyn Types) -> BTreeSet<Kind> {
    let mut kinds = BTreeSet::new();
    for rule in rules {
        let is_wild = |word: &String| word.contains('*');
        if rule.groups.iter().any(is_wild) || rule.versions.iter().any(is_wild) {
            continue;
        }
        let sorted = |words: &[String]| words.iter().cloned().collect::<BTreeSet<String>>();
        let mut count = 0;
        for group in sorted(&rule.groups) {
            for version in sorted(&rule.versions) {
                for resource in sorted(&rule.resources) {
                    if resource.contains(['*', '/']) {
                        continue;
                    }
                    let (group, version) = (group.clone(), version.clone());
                    for kind in types.kinds_for(&Resource { group, version, resource }) {
                        kinds.insert(kind);
                        count += 1;
                        if count == MAX_KINDS {
                            return kinds;
                        }
                    }
                }
            }
        }
    }
    kinds
}
