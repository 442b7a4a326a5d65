//! What the API server checks when a policy or a binding is made, apart from its expressions.

use std::collections::BTreeSet;

use super::{
    fault::Faults,
    names,
    wire::{LabelSelector, MatchResources, ParamKind, ParamRef, Rule},
};

pub(super) const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
pub(super) const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];

pub(super) fn name(faults: &mut Faults, name: &str) {
    if name.is_empty() {
        return faults.required("metadata.name", "name or generateName is required");
    }
    for wrong in names::subdomain(name) {
        faults.invalid("metadata.name", name, wrong);
    }
}

pub(super) fn failure_policy(faults: &mut Faults, policy: Option<&str>) {
    if let Some(word) = policy.filter(|word| !FAILURE_POLICIES.contains(word)) {
        faults.unsupported("spec.failurePolicy", word, &FAILURE_POLICIES);
    }
}

pub(super) fn param_kind(faults: &mut Faults, kind: &ParamKind) {
    let field = "spec.paramKind.apiVersion";
    let given = kind.api_version.as_str();
    if given.is_empty() {
        faults.required(field, "");
    } else if given != "/" && given.matches('/').count() > 1 {
        faults.invalid(field, given, format!("unexpected GroupVersion string: {given}"));
    } else {
        let (group, version) = match given {
            "/" => ("", ""),
            given => given.split_once('/').unwrap_or(("", given)),
        };
        let wrong = names::subdomain(group);
        if !group.is_empty() && !wrong.is_empty() {
            faults.invalid(field, group, wrong.join(","));
        }
        let wrong = names::label_1035(version);
        if version.is_empty() {
            faults.invalid(field, given, "version must be specified");
        } else if !wrong.is_empty() {
            faults.invalid(field, version, wrong.join(","));
        }
    }
    let wrong = names::label_1035(&kind.kind.to_lowercase());
    if kind.kind.is_empty() {
        faults.required("spec.paramKind.kind", "");
    } else if !wrong.is_empty() {
        let told = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        faults.invalid("spec.paramKind.kind", &kind.kind, told);
    }
}

/// The constraints of a policy: rules are needed, since they say what the policy is about.
pub(super) fn constraints(faults: &mut Faults, constraints: Option<&MatchResources>) {
    let field = "spec.matchConstraints";
    let Some(constraints) = constraints else { return faults.required(field, "") };
    match_resources(faults, constraints, field);
    if constraints.resource_rules.is_empty() {
        faults.required("spec.matchConstraints.resourceRules", "");
    }
}

pub(super) fn match_resources(faults: &mut Faults, resources: &MatchResources, field: &str) {
    if let Some(word) = resources.match_policy.as_deref()
        && !MATCH_POLICIES.contains(&word)
    {
        faults.unsupported(&format!("{field}.matchPolicy"), word, &MATCH_POLICIES);
    }
    selector(faults, &resources.namespace_selector, &format!("{field}.namespaceSelector"));
    selector(faults, &resources.object_selector, &format!("{field}.objectSelector"));
    for (index, each) in resources.resource_rules.iter().enumerate() {
        rule(faults, each, &format!("{field}.resourceRules[{index}]"));
    }
    for (index, each) in resources.exclude_resource_rules.iter().enumerate() {
        rule(faults, each, &format!("{field}.excludeResourceRules[{index}]"));
    }
}

/// What is deleted has no object that could be changed.
pub(super) fn mutating_operations(faults: &mut Faults, resources: &MatchResources, field: &str) {
    let all = resources.resource_rules.iter().flat_map(|rule| &rule.operations);
    for operation in all.filter(|word| !MUTATING_OPERATIONS.contains(&word.as_str())) {
        let field = format!("{field}.resourceRules.operations");
        faults.unsupported(&field, operation, &MUTATING_OPERATIONS);
    }
}

pub(super) fn selector(faults: &mut Faults, selector: &LabelSelector, field: &str) {
    let labels = format!("{field}.matchLabels");
    for (name, value) in &selector.match_labels {
        for wrong in names::qualified(name) {
            faults.invalid(&labels, name, wrong);
        }
        for wrong in names::label_value(value) {
            faults.invalid(&labels, value, wrong);
        }
    }
    for (index, each) in selector.match_expressions.iter().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        let values = format!("{field}.values");
        match (each.operator.as_str(), each.values.is_empty()) {
            ("In" | "NotIn", true) => {
                faults.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            ("Exists" | "DoesNotExist", false) => {
                let told = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                faults.forbidden(&values, told);
            }
            ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => {}
            (other, _) => {
                faults.invalid(
                    &format!("{field}.operator"),
                    other,
                    "not a valid selector operator",
                );
            }
        }
        for wrong in names::qualified(&each.key) {
            faults.invalid(&format!("{field}.key"), &each.key, wrong);
        }
        for (index, value) in each.values.iter().enumerate() {
            for wrong in names::label_value(value) {
                faults.invalid(&format!("{values}[{index}]"), value, wrong);
            }
        }
    }
}

fn rule(faults: &mut Faults, rule: &Rule, field: &str) {
    let mut seen = BTreeSet::new();
    for (index, name) in rule.resource_names.iter().enumerate() {
        let field = format!("{field}.resourceNames[{index}]");
        for wrong in names::path_segment(name) {
            faults.invalid(&field, name, wrong);
        }
        if !seen.insert(name) {
            faults.duplicate(&field, name);
        }
    }
    let operations = format!("{field}.operations");
    not_empty(faults, &operations, &rule.operations);
    alone(faults, &operations, &rule.operations, "operations");
    for (index, word) in rule.operations.iter().enumerate() {
        if !OPERATIONS.contains(&word.as_str()) {
            faults.unsupported(&format!("{operations}[{index}]"), word, &OPERATIONS);
        }
    }
    let groups = format!("{field}.apiGroups");
    not_empty(faults, &groups, &rule.api_groups);
    alone(faults, &groups, &rule.api_groups, "API groups");
    let versions = format!("{field}.apiVersions");
    not_empty(faults, &versions, &rule.api_versions);
    alone(faults, &versions, &rule.api_versions, "API versions");
    for (index, version) in rule.api_versions.iter().enumerate() {
        if version.is_empty() {
            faults.required(&format!("{versions}[{index}]"), "");
        }
    }
    resources(faults, &rule.resources, &format!("{field}.resources"));
    if let Some(scope) = rule.scope.as_deref().filter(|scope| !SCOPES.contains(scope)) {
        faults.unsupported(&format!("{field}.scope"), scope, &SCOPES);
    }
}

fn not_empty(faults: &mut Faults, field: &str, words: &[String]) {
    if words.is_empty() {
        faults.required(field, "");
    }
}

fn alone(faults: &mut Faults, field: &str, words: &[String], what: &str) {
    if words.len() > 1 && words.iter().any(|word| word == "*") {
        let told = format!("if '*' is present, must not specify other {what}");
        faults.invalid_list(field, words, &told);
    }
}

fn resources(faults: &mut Faults, resources: &[String], field: &str) {
    not_empty(faults, field, resources);
    let (mut all_below, mut below_all) = (BTreeSet::new(), BTreeSet::new());
    let (mut everything, mut star, mut plain) = (false, false, false);
    for (index, entry) in resources.iter().enumerate() {
        let at = format!("{field}[{index}]");
        if entry.is_empty() {
            faults.required(&at, "");
            continue;
        }
        everything |= entry == "*/*";
        star |= entry == "*";
        let Some((resource, subresource)) = entry.split_once('/') else {
            plain = entry != "*";
            continue;
        };
        if all_below.contains(resource) {
            let told = format!("if '{resource}/*' is present, must not specify {entry}");
            faults.invalid(&at, entry, told);
        }
        if below_all.contains(subresource) {
            let told = format!("if '*/{subresource}' is present, must not specify {entry}");
            faults.invalid(&at, entry, told);
        }
        if subresource == "*" {
            all_below.insert(resource);
        }
        if resource == "*" {
            below_all.insert(subresource);
        }
    }
    if resources.len() > 1 && everything {
        let told = "if '*/*' is present, must not specify other resources";
        faults.invalid_list(field, resources, told);
    }
    if star && plain {
        let told = "if '*' is present, must not specify other resources without subresources";
        faults.invalid_list(field, resources, told);
    }
}

pub(super) fn policy_name(faults: &mut Faults, name: &str) {
    if name.is_empty() {
        return faults.required("spec.policyName", "");
    }
    for wrong in names::subdomain(name) {
        faults.invalid("spec.policyName", name, wrong);
    }
}

pub(super) fn param_ref(faults: &mut Faults, reference: &ParamRef) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    if !reference.name.is_empty() {
        for wrong in names::path_segment(&reference.name) {
            faults.invalid("spec.paramRef.name", &reference.name, wrong);
        }
        if reference.selector.is_some() {
            faults.forbidden("spec.paramRef.name", EXCLUSIVE);
        }
    }
    match &reference.selector {
        Some(labels) => {
            selector(faults, labels, "spec.paramRef.selector");
            if !reference.name.is_empty() {
                faults.forbidden("spec.paramRef.selector", EXCLUSIVE);
            }
        }
        None if reference.name.is_empty() => {
            faults.required("spec.paramRef", "one of name or selector must be specified");
        }
        None => {}
    }
    let field = "spec.paramRef.parameterNotFoundAction";
    match reference.parameter_not_found_action.as_deref() {
        None | Some("") => faults.required(field, ""),
        Some("Allow" | "Deny") => {}
        Some(other) => faults.unsupported(field, other, &["Deny", "Allow"]),
    }
}

pub(super) fn validation_actions(faults: &mut Faults, actions: &[String]) {
    let field = "spec.validationActions";
    let mut seen = BTreeSet::new();
    for (index, action) in actions.iter().enumerate() {
        let at = format!("{field}[{index}]");
        if !ACTIONS.contains(&action.as_str()) {
            faults.unsupported(&at, action, &ACTIONS);
        }
        if !seen.insert(action.as_str()) {
            faults.duplicate(&at, action);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let told = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                    response and headers serves no purpose)";
        faults.invalid_list(field, actions, told);
    }
    if seen.is_empty() {
        faults.required(field, "at least one validation action is required");
    }
}
