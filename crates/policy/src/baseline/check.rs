//! What must hold of a baseline beyond its form.

use std::collections::{BTreeMap, BTreeSet};

use nullius_cel::Quantity;
use nullius_model::{
    Amount, BaselineLimit, BaselineNetworkPolicy, BaselinePodSecurity, BaselineRoleBinding,
    NamespaceBaselineSpec, TrafficDirection,
};

use crate::{
    admission_policy::{Selector, names},
    pod_security::{Level, Version},
};

/// What other programs give a meaning, and what baselines say by other fields.
const KEPT_LABELS: [(&str, &str); 3] = [
    ("kubernetes.io/", "Kubernetes itself sets it"),
    ("nullius.dev/", "say it by `environment`, or leave it out"),
    ("pod-security.kubernetes.io/", "say it by `podSecurity`"),
];
const LIMITED: [&str; 3] = ["Container", "Pod", "PersistentVolumeClaim"];

/// Checks what a baseline says; gives its selector.
pub(super) fn spec(
    spec: &NamespaceBaselineSpec,
    wrong: &mut impl FnMut(&str, String),
) -> Option<Selector> {
    let selector = chosen(spec, wrong);
    for (key, value) in &spec.labels {
        let field = format!("spec.labels[{key}]");
        let bad = names::qualified(key).into_iter().chain(names::label_value(value));
        bad.for_each(|told| wrong(&field, told));
        if let Some((_, told)) = KEPT_LABELS.iter().find(|(prefix, _)| key.starts_with(prefix)) {
            wrong(&field, (*told).to_owned());
        }
    }
    if let Some(environment) = &spec.environment {
        if environment.is_empty() {
            wrong("spec.environment", "say which, or leave it out".to_owned());
        }
        let bad = names::label_value(environment).into_iter();
        bad.for_each(|told| wrong("spec.environment", told));
    }
    if let Some(levels) = &spec.pod_security {
        pod_security(levels, wrong);
    }
    if let Some(policy) = &spec.network_policy {
        network_policy(policy, wrong);
    }
    if let Some(quota) = &spec.resource_quota {
        if quota.hard.is_empty() {
            wrong("spec.resourceQuota.hard", "say how much of what".to_owned());
        }
        amounts("spec.resourceQuota.hard", &quota.hard, wrong);
    }
    if let Some(range) = &spec.limit_range {
        limits(&range.limits, wrong);
    }
    for (index, binding) in spec.role_bindings.iter().enumerate() {
        role_binding(&format!("spec.roleBindings[{index}]"), binding, wrong);
    }
    if spec_is_empty(spec) {
        wrong("spec", "it says nothing that a namespace is to have".to_owned());
    }
    selector
}

fn spec_is_empty(spec: &NamespaceBaselineSpec) -> bool {
    let NamespaceBaselineSpec {
        namespace_selector: _,
        names: _,
        exclude: _,
        labels,
        environment,
        pod_security,
        network_policy,
        resource_quota,
        limit_range,
        role_bindings,
    } = spec;
    labels.is_empty()
        && environment.is_none()
        && pod_security.is_none()
        && network_policy.is_none()
        && resource_quota.is_none()
        && limit_range.is_none()
        && role_bindings.is_empty()
}

fn chosen(spec: &NamespaceBaselineSpec, wrong: &mut impl FnMut(&str, String)) -> Option<Selector> {
    if spec.namespace_selector.is_none() && spec.names.is_empty() {
        wrong("spec", "say for which namespaces: `namespaceSelector`, `names`, or both".to_owned());
    }
    for (field, globs) in [("names", &spec.names), ("exclude", &spec.exclude)] {
        for glob in globs.iter().filter(|glob| glob.chars().all(|letter| letter == '*')) {
            wrong(
                &format!("spec.{field}"),
                format!("`{glob}`: for every namespace write `namespaceSelector: {{}}`"),
            );
        }
    }
    match Selector::of(spec.namespace_selector.as_ref()?) {
        Ok(selector) => Some(selector),
        Err(told) => {
            wrong("spec.namespaceSelector", told.trim_start_matches('.').to_owned());
            None
        }
    }
}

fn pod_security(levels: &BaselinePodSecurity, wrong: &mut impl FnMut(&str, String)) {
    let BaselinePodSecurity { enforce, audit, warn, version } = levels;
    if enforce.is_none() && audit.is_none() && warn.is_none() {
        wrong("spec.podSecurity", "say `enforce`, `audit` or `warn`".to_owned());
    }
    for (mode, level) in [("enforce", enforce), ("audit", audit), ("warn", warn)] {
        if let Some(Err(error)) = level.as_ref().map(|level| level.parse::<Level>()) {
            wrong(&format!("spec.podSecurity.{mode}"), error.to_string());
        }
    }
    if let Some(Err(error)) = version.as_ref().map(|version| version.parse::<Version>()) {
        wrong("spec.podSecurity.version", error.to_string());
    }
}

fn network_policy(policy: &BaselineNetworkPolicy, wrong: &mut impl FnMut(&str, String)) {
    if policy.deny.is_empty() {
        wrong("spec.networkPolicy.deny", "say `Ingress`, `Egress` or both".to_owned());
    }
    if policy.allow_dns && !policy.deny.contains(&TrafficDirection::Egress) {
        let told = "without `Egress` in `deny` nothing is in the way of DNS: leave it out";
        wrong("spec.networkPolicy.allowDns", told.to_owned());
    }
}

fn limits(limits: &[BaselineLimit], wrong: &mut impl FnMut(&str, String)) {
    if limits.is_empty() {
        wrong("spec.limitRange.limits", "say what is limited".to_owned());
    }
    let mut seen = BTreeSet::new();
    for (index, limit) in limits.iter().enumerate() {
        let field = format!("spec.limitRange.limits[{index}]");
        if !LIMITED.contains(&limit.of.as_str()) {
            wrong(&format!("{field}.type"), format!("must be one of {}", LIMITED.join(", ")));
        }
        if !seen.insert(&limit.of) {
            wrong(&format!("{field}.type"), format!("`{}` stands twice: say it in one", limit.of));
        }
        let all = [
            ("max", &limit.max),
            ("min", &limit.min),
            ("default", &limit.default),
            ("defaultRequest", &limit.default_request),
            ("maxLimitRequestRatio", &limit.max_limit_request_ratio),
        ];
        if all.iter().all(|(_, amounts)| amounts.is_empty()) {
            wrong(&field, "it limits nothing".to_owned());
        }
        for (part, of) in all {
            let of_containers = matches!(part, "default" | "defaultRequest");
            if of_containers && !of.is_empty() && limit.of != "Container" {
                wrong(&format!("{field}.{part}"), "only containers have one".to_owned());
            }
            amounts(&format!("{field}.{part}"), of, wrong);
        }
    }
}

fn amounts(field: &str, amounts: &BTreeMap<String, Amount>, wrong: &mut impl FnMut(&str, String)) {
    for (resource, Amount(amount)) in amounts {
        let field = format!("{field}[{resource}]");
        names::qualified(resource).into_iter().for_each(|told| wrong(&field, told));
        match Quantity::parse(amount) {
            Ok(_) if amount.starts_with('-') => {
                wrong(&field, format!("`{amount}` is less than nothing"));
            }
            Ok(_) => {}
            Err(told) => wrong(&field, format!("`{amount}`: {told}")),
        }
    }
}

fn role_binding(field: &str, binding: &BaselineRoleBinding, wrong: &mut impl FnMut(&str, String)) {
    let role = &binding.role_ref.name;
    if role.is_empty() || role.contains(['/', '%']) || role == "." || role == ".." {
        wrong(&format!("{field}.roleRef.name"), format!("`{role}` is no name of a role"));
    }
    if role.starts_with("nullius:") {
        let told = format!("`{role}` is for the agent itself: bind a role of yours");
        wrong(&format!("{field}.roleRef.name"), told);
    }
    if binding.groups.is_empty() && binding.users.is_empty() {
        wrong(field, "say who holds it: `groups`, `users` or both".to_owned());
    }
    for (part, all) in [("groups", &binding.groups), ("users", &binding.users)] {
        if all.iter().any(|name| name.trim().is_empty()) {
            wrong(&format!("{field}.{part}"), "a name is empty".to_owned());
        }
    }
}
