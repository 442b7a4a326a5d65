//! Whether rules are ones that Kubernetes would store, with errors that name the field.

use nullius_model::PolicyRule;

/// A field of a rule that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{field}: {message}")]
pub struct RuleError {
    /// The field, `rules[1].verbs`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// More rules than any role needs; the bound keeps every check of a role cheap.
const MAX_RULES: usize = 512;
/// More single rights than any rule needs.
const MAX_RIGHTS_PER_RULE: usize = 20_000;
const MAX_ENTRY_BYTES: usize = 512;

/// Every error in the rules of a role, in order; none means that Kubernetes accepts them in a ClusterRole.
pub fn rule_errors(rules: &[PolicyRule]) -> Vec<RuleError> {
    let mut errors = Vec::new();
    if rules.len() > MAX_RULES {
        errors.push(RuleError {
            field: "rules".to_owned(),
            message: format!("{} rules are too many; use at most {MAX_RULES}", rules.len()),
        });
        return errors;
    }
    for (index, rule) in rules.iter().enumerate() {
        let mut wrong = |field: &str, message: &str| {
            let field = if field.is_empty() {
                format!("rules[{index}]")
            } else {
                format!("rules[{index}].{field}")
            };
            errors.push(RuleError { field, message: message.to_owned() });
        };
        rule_error(rule, &mut wrong);
    }
    errors
}

fn rule_error(rule: &PolicyRule, wrong: &mut impl FnMut(&str, &str)) {
    if rule.verbs.is_empty() {
        wrong("verbs", "name at least one verb, or `*`");
    }
    for (field, list) in [
        ("verbs", &rule.verbs),
        ("apiGroups", &rule.api_groups),
        ("resources", &rule.resources),
        ("resourceNames", &rule.resource_names),
        ("nonResourceURLs", &rule.non_resource_urls),
    ] {
        for (at, entry) in list.iter().enumerate() {
            if entry.len() > MAX_ENTRY_BYTES || entry.chars().any(char::is_control) {
                wrong(&format!("{field}[{at}]"), "use at most 512 bytes and no control characters");
            }
        }
    }
    if !rule.non_resource_urls.is_empty() {
        if !(rule.api_groups.is_empty()
            && rule.resources.is_empty()
            && rule.resource_names.is_empty())
        {
            wrong("nonResourceURLs", "a rule is for resources or for URLs; write two rules");
        }
        return;
    }
    if rule.api_groups.is_empty() {
        wrong("apiGroups", "name at least one API group; `\"\"` is the core group");
    }
    if rule.resources.is_empty() {
        wrong("resources", "name at least one resource, or URLs in `nonResourceURLs`");
    }
    let rights = [&rule.verbs, &rule.api_groups, &rule.resources, &rule.resource_names]
        .iter()
        .fold(1_usize, |product, list| product.saturating_mul(list.len().max(1)));
    if rights > MAX_RIGHTS_PER_RULE {
        wrong("", "the rule has too many combinations; split it or use fewer names");
    }
}
