//! Policies and bindings made of what the API's objects say: every field checked, every expression compiled, each mistake in
//! the API server's words.

use std::collections::BTreeSet;

use nullius_cel::{Type, Version};
use serde_json::{Value as Json, json};

use super::{
    environment::{Environment, Params, Reach},
    fault::{Fault, Faults},
    names,
    policy::{
        Action, Binding, Constraints, Expression, FailurePolicy, MatchPolicy, Mutating, Mutation,
        Named, NotFound, ParamRef, PatchForm, Pick, Policy, Reinvocation, Rule, RuleScope, Rules,
        Validating, Validation, sees_namespaces,
    },
    programs::Programs,
    request::Kind,
    selector::Selector,
    validation, wire,
};

/// The most conditions of a policy.
const MAX_CONDITIONS: usize = 64;
/// The most audit annotations of a policy.
const MAX_ANNOTATIONS: usize = 20;
/// The longest expression of an audit annotation in bytes.
const MAX_ANNOTATION_EXPRESSION: usize = 5 * 1024;
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const PATCHES: [&str; 2] = ["ApplyConfiguration", "JSONPatch"];
const REINVOCATIONS: [&str; 2] = ["IfNeeded", "Never"];

/// Reads, checks and compiles a `ValidatingAdmissionPolicy`.
pub(super) fn validating(
    object: &Json,
    version: Version,
    programs: &Programs,
) -> Result<Policy<Validating>, Vec<Fault>> {
    let wire::Object { metadata, spec, .. } =
        wire::read::<wire::Object<wire::ValidatingSpec>>(object).map_err(|fault| vec![fault])?;
    let mut maker = Maker::new(version, spec.param_kind.as_ref(), programs);
    let faults = &mut maker.faults;
    validation::name(faults, &metadata.name);
    validation::failure_policy(faults, spec.failure_policy.as_deref());
    spec.param_kind.iter().for_each(|kind| validation::param_kind(faults, kind));
    validation::constraints(faults, spec.match_constraints.as_ref());
    let conditions = maker.conditions(&spec.match_conditions);
    if !spec.variables.is_empty() {
        maker.environment.compose();
    }
    let variables = maker.variables(&spec.variables);
    if spec.validations.is_empty() && spec.audit_annotations.is_empty() {
        let told = "validations or auditAnnotations must contain at least one item";
        maker.faults.required("spec.validations", told);
        maker.faults.required("spec.auditAnnotations", told);
    }
    let validations = maker.validations(&spec.validations);
    let annotations = maker.annotations(&metadata.name, &spec.audit_annotations);
    let rules = Validating { validations, annotations };
    maker.policy(Parts {
        name: metadata.name,
        failure: spec.failure_policy,
        param_kind: spec.param_kind,
        constraints: spec.match_constraints,
        conditions,
        variables,
        rules,
    })
}

/// Reads, checks and compiles a `MutatingAdmissionPolicy`.
pub(super) fn mutating(
    object: &Json,
    version: Version,
    programs: &Programs,
) -> Result<Policy<Mutating>, Vec<Fault>> {
    let wire::Object { metadata, spec, .. } =
        wire::read::<wire::Object<wire::MutatingSpec>>(object).map_err(|fault| vec![fault])?;
    let mut maker = Maker::new(version, spec.param_kind.as_ref(), programs);
    let faults = &mut maker.faults;
    validation::name(faults, &metadata.name);
    validation::failure_policy(faults, spec.failure_policy.as_deref());
    spec.param_kind.iter().for_each(|kind| validation::param_kind(faults, kind));
    validation::constraints(faults, spec.match_constraints.as_ref());
    if let Some(constraints) = &spec.match_constraints {
        validation::mutating_operations(faults, constraints, "spec.matchConstraints");
    }
    let conditions = maker.conditions(&spec.match_conditions);
    maker.environment.compose();
    let variables = maker.variables(&spec.variables);
    if spec.mutations.is_empty() {
        maker.faults.required("spec.mutations", "mutations must contain at least one item");
    }
    let mutations = maker.mutations(&spec.mutations);
    let word = spec.reinvocation_policy.as_str();
    let reinvocation = match word {
        "IfNeeded" => Reinvocation::IfNeeded,
        _ => Reinvocation::Never,
    };
    if word.is_empty() {
        maker.faults.required("spec.reinvocationPolicy", "");
    } else if !REINVOCATIONS.contains(&word) {
        maker.faults.unsupported("spec.reinvocationPolicy", word, &REINVOCATIONS);
    }
    let rules = Mutating { mutations, reinvocation };
    maker.policy(Parts {
        name: metadata.name,
        failure: spec.failure_policy,
        param_kind: spec.param_kind,
        constraints: spec.match_constraints,
        conditions,
        variables,
        rules,
    })
}

/// Reads and checks a `ValidatingAdmissionPolicyBinding`.
pub(super) fn validating_binding(object: &Json) -> Result<Binding, Vec<Fault>> {
    let wire::Object { metadata, spec, .. } =
        wire::read::<wire::Object<wire::ValidatingBindingSpec>>(object)
            .map_err(|fault| vec![fault])?;
    let mut faults = Faults::default();
    validation::name(&mut faults, &metadata.name);
    validation::policy_name(&mut faults, &spec.policy_name);
    spec.param_ref.iter().for_each(|reference| validation::param_ref(&mut faults, reference));
    if let Some(resources) = &spec.match_resources {
        validation::match_resources(&mut faults, resources, "spec.matchResources");
    }
    validation::validation_actions(&mut faults, &spec.validation_actions);
    if !faults.0.is_empty() {
        return Err(faults.0);
    }
    let actions = spec.validation_actions.iter().filter_map(|word| match word.as_str() {
        "Deny" => Some(Action::Deny),
        "Warn" => Some(Action::Warn),
        "Audit" => Some(Action::Audit),
        _ => None,
    });
    Ok(Binding {
        name: metadata.name,
        policy: spec.policy_name,
        params: spec.param_ref.as_ref().map(ParamRef::new),
        constraints: spec.match_resources.map(Constraints::new),
        actions: actions.collect(),
    })
}

/// Reads and checks a `MutatingAdmissionPolicyBinding`.
pub(super) fn mutating_binding(object: &Json) -> Result<Binding, Vec<Fault>> {
    let wire::Object { metadata, spec, .. } =
        wire::read::<wire::Object<wire::MutatingBindingSpec>>(object)
            .map_err(|fault| vec![fault])?;
    let mut faults = Faults::default();
    validation::name(&mut faults, &metadata.name);
    validation::policy_name(&mut faults, &spec.policy_name);
    spec.param_ref.iter().for_each(|reference| validation::param_ref(&mut faults, reference));
    if let Some(resources) = &spec.match_resources {
        validation::match_resources(&mut faults, resources, "spec.matchResources");
        validation::mutating_operations(&mut faults, resources, "spec.matchResources");
    }
    if !faults.0.is_empty() {
        return Err(faults.0);
    }
    Ok(Binding {
        name: metadata.name,
        policy: spec.policy_name,
        params: spec.param_ref.as_ref().map(ParamRef::new),
        constraints: spec.match_resources.map(Constraints::new),
        actions: Vec::new(),
    })
}

impl Constraints {
    fn new(wire: wire::MatchResources) -> Self {
        let rules = |rules: Vec<wire::Rule>| rules.into_iter().map(Rule::new).collect();
        Self {
            namespaces: Selector::new(&wire.namespace_selector),
            objects: Selector::new(&wire.object_selector),
            rules: rules(wire.resource_rules),
            excluded: rules(wire.exclude_resource_rules),
            versions: match wire.match_policy.as_deref() {
                Some("Exact") => MatchPolicy::Exact,
                _ => MatchPolicy::Equivalent,
            },
        }
    }
}

impl Rule {
    fn new(wire: wire::Rule) -> Self {
        Self {
            names: wire.resource_names,
            operations: wire.operations,
            groups: wire.api_groups,
            versions: wire.api_versions,
            resources: wire.resources,
            scope: match wire.scope.as_deref() {
                Some("Cluster") => RuleScope::Cluster,
                Some("Namespaced") => RuleScope::Namespaced,
                _ => RuleScope::All,
            },
        }
    }
}

impl ParamRef {
    fn new(wire: &wire::ParamRef) -> Self {
        Self {
            namespace: wire.namespace.clone(),
            pick: match &wire.selector {
                Some(selector) => Pick::Selected(Selector::new(selector)),
                None => Pick::Named(wire.name.clone()),
            },
            not_found: match wire.parameter_not_found_action.as_deref() {
                Some("Allow") => NotFound::Allow,
                _ => NotFound::Deny,
            },
        }
    }
}

/// Compiles the expressions of one policy and collects what is wrong.
struct Maker<'p> {
    environment: Environment,
    programs: &'p Programs,
    faults: Faults,
}

/// What a policy is put together of.
struct Parts<R> {
    name: String,
    failure: Option<String>,
    param_kind: Option<wire::ParamKind>,
    constraints: Option<wire::MatchResources>,
    conditions: Vec<Named>,
    variables: Vec<Named>,
    rules: R,
}

impl<'p> Maker<'p> {
    fn new(version: Version, param_kind: Option<&wire::ParamKind>, programs: &'p Programs) -> Self {
        let params = if param_kind.is_some() { Params::Some } else { Params::None };
        let environment = Environment::new(version, params);
        Self { environment, programs, faults: Faults::default() }
    }

    fn policy<R: Rules>(self, parts: Parts<R>) -> Result<Policy<R>, Vec<Fault>> {
        let Some(constraints) = parts.constraints.filter(|_| self.faults.0.is_empty()) else {
            return Err(self.faults.0);
        };
        Ok(Policy {
            name: parts.name,
            failure: match parts.failure.as_deref() {
                Some("Ignore") => FailurePolicy::Ignore,
                _ => FailurePolicy::Fail,
            },
            param_kind: parts.param_kind.map(|kind| Kind::new(&kind.api_version, &kind.kind)),
            constraints: Constraints::new(constraints),
            conditions: parts.conditions,
            // Conditions are shown none.
            sees_namespaces: sees_namespaces(&parts.variables, &parts.rules),
            variables: parts.variables,
            rules: parts.rules,
        })
    }

    /// Compiles what stands in `source`; `checked` is the part of it that the API server checks.
    fn compile(
        &mut self,
        field: &str,
        source: &str,
        checked: &str,
        reach: Reach,
        results: &[Type],
    ) -> Option<Expression> {
        match self.environment.compile(self.programs, checked, reach, results) {
            Ok(shared) => Some(Expression::new(source, shared)),
            Err(told) => {
                self.faults.invalid(field, checked, told);
                None
            }
        }
    }

    fn conditions(&mut self, conditions: &[wire::MatchCondition]) -> Vec<Named> {
        if conditions.len() > MAX_CONDITIONS {
            self.faults.too_many("spec.matchConditions", conditions.len(), MAX_CONDITIONS);
        }
        let mut made: Vec<Named> = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, condition) in conditions.iter().enumerate() {
            let field = format!("spec.matchConditions[{index}]");
            let source = condition.expression.as_str();
            let at = format!("{field}.expression");
            if source.trim().is_empty() {
                self.faults.required(&at, "");
            } else if let Some(expression) =
                self.compile(&at, source, source.trim(), Reach::Conditions, &[Type::Bool])
            {
                made.push(Named { name: condition.name.clone(), expression });
            }
            let at = format!("{field}.name");
            if condition.name.is_empty() {
                self.faults.required(&at, "");
                continue;
            }
            for wrong in names::qualified(&condition.name) {
                self.faults.invalid(&at, &condition.name, wrong);
            }
            if !seen.insert(&condition.name) {
                self.faults.duplicate(&at, &condition.name);
            }
        }
        made
    }

    fn variables(&mut self, variables: &[wire::Variable]) -> Vec<Named> {
        let mut made: Vec<Named> = Vec::new();
        for (index, variable) in variables.iter().enumerate() {
            let field = format!("spec.variables[{index}]");
            let (name, source) = (variable.name.as_str(), variable.expression.as_str());
            if name.trim().is_empty() {
                self.faults.required(&format!("{field}.name"), "name is not specified");
            } else if !names::is_identifier(name) {
                let told = "must be a valid CEL identifier";
                self.faults.invalid(&format!("{field}.name"), name, told);
            }
            let at = format!("{field}.expression");
            if source.trim().is_empty() {
                self.faults.required(&at, "expression is not specified");
                continue;
            }
            let expression = self.compile(&at, source, source, Reach::Rules, &[]);
            let of = expression.as_ref().map(|expression| expression.program.result_type().clone());
            self.environment.add_variable(name, of.as_ref());
            if let Some(expression) = expression {
                made.retain(|known| known.name != name);
                made.push(Named { name: name.to_owned(), expression });
            }
        }
        made
    }

    fn validations(&mut self, validations: &[wire::Validation]) -> Vec<Validation> {
        let mut made = Vec::new();
        for (index, each) in validations.iter().enumerate() {
            let field = format!("spec.validations[{index}]");
            let at = format!("{field}.expression");
            let source = each.expression.as_str();
            let expression = if source.trim().is_empty() {
                self.faults.required(&at, "expression is not specified");
                None
            } else {
                self.compile(&at, source, source, Reach::Rules, &[Type::Bool])
            };
            let at = format!("{field}.messageExpression");
            let source = each.message_expression.as_str();
            let message_expression = match (source.is_empty(), source.trim().is_empty()) {
                (true, _) => None,
                (false, true) => {
                    self.faults.invalid(&at, source, "must be non-empty if specified");
                    None
                }
                (false, false) => {
                    self.compile(&at, source, source, Reach::Messages, &[Type::String])
                }
            };
            let at = format!("{field}.message");
            let message = each.message.trim();
            if !each.message.is_empty() && message.is_empty() {
                self.faults.invalid(&at, &each.message, "must be non-empty if specified");
            } else if message.contains(['\n', '\r']) {
                self.faults.invalid(&at, &each.message, "must not contain line breaks");
            }
            let reason = each.reason.as_deref().unwrap_or("Invalid");
            if !REASONS.contains(&reason) {
                self.faults.unsupported(&format!("{field}.reason"), reason, &REASONS);
            }
            made.extend(expression.map(|expression| Validation {
                expression,
                message: message.to_owned(),
                message_expression,
                reason: reason.to_owned(),
            }));
        }
        made
    }

    fn annotations(&mut self, policy: &str, annotations: &[wire::AuditAnnotation]) -> Vec<Named> {
        if annotations.len() > MAX_ANNOTATIONS {
            let told = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
            let shown: Vec<_> = annotations
                .iter()
                .map(|each| json!({ "Key": each.key, "ValueExpression": each.value_expression }))
                .collect();
            self.faults.invalid_json("spec.auditAnnotations", &Json::from(shown), &told);
        }
        let mut seen = BTreeSet::new();
        let mut made = Vec::new();
        for (index, each) in annotations.iter().enumerate() {
            let field = format!("spec.auditAnnotations[{index}]");
            let at = format!("{field}.key");
            if policy.is_empty() {
                self.faults.invalid(&at, &each.key, "requires metadata.name be non-empty");
            } else {
                let key = format!("{policy}/{}", each.key);
                for wrong in names::qualified(&key) {
                    self.faults.invalid(&at, &key, wrong);
                }
            }
            let at = format!("{field}.valueExpression");
            let source = each.value_expression.as_str();
            if source.trim().is_empty() {
                self.faults.required(&at, "valueExpression is not specified");
            } else if source.trim().len() > MAX_ANNOTATION_EXPRESSION {
                let told = format!("must not exceed {MAX_ANNOTATION_EXPRESSION} bytes in length");
                self.faults.required(&at, &told);
            } else {
                let results = [Type::String, Type::Null];
                let (environment, checked) = (&self.environment, source.trim());
                match environment.compile(self.programs, checked, Reach::Rules, &results) {
                    Ok(shared) => made.push(Named {
                        name: each.key.clone(),
                        expression: Expression::new(source, shared),
                    }),
                    Err(told) => self.faults.invalid(&at, source, told),
                }
            }
            if !seen.insert(&each.key) {
                self.faults.duplicate(&format!("{field}.key"), &each.key);
            }
        }
        made
    }

    fn mutations(&mut self, mutations: &[wire::Mutation]) -> Vec<Mutation> {
        let mut made = Vec::new();
        for (index, each) in mutations.iter().enumerate() {
            let field = format!("spec.mutations[{index}]");
            let word = each.patch_type.as_str();
            let patch = ("jsonPatch", &each.json_patch);
            let apply = ("applyConfiguration", &each.apply_configuration);
            let (form, wanted, other, result) = match word {
                "JSONPatch" => {
                    let result = Type::list(Type::Object("JSONPatch".into()));
                    (PatchForm::JsonPatch, patch, apply, result)
                }
                "ApplyConfiguration" => {
                    let result = Type::Object("Object".into());
                    (PatchForm::ApplyConfiguration, apply, patch, result)
                }
                "" => {
                    self.faults.required(&format!("{field}.patchType"), "");
                    continue;
                }
                other => {
                    self.faults.unsupported(&format!("{field}.patchType"), other, &PATCHES);
                    continue;
                }
            };
            let at = format!("{field}.{}", wanted.0);
            match wanted.1 {
                None => {
                    let told = format!("must be specified when patchType is {word}");
                    self.faults.required(&at, &told);
                }
                Some(patch) => {
                    let at = format!("{at}.expression");
                    let source = patch.expression.as_str();
                    if source.trim().is_empty() {
                        self.faults.required(&at, "");
                    } else {
                        let compiled =
                            self.compile(&at, source, source.trim(), Reach::Mutations, &[result]);
                        made.extend(compiled.map(|expression| Mutation { form, expression }));
                    }
                }
            }
            if other.1.is_some() {
                let told = format!("must not be specified when patchType is {word}");
                self.faults.invalid(
                    &format!("{field}.{}", other.0),
                    &format!("{{{}}}", other.0),
                    told,
                );
            }
        }
        made
    }
}
