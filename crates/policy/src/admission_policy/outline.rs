//! What a set of policies consists of: each expression with the field in which it stands and the name under which traces
//! show it.

use super::policy::{Mutating, Policy, Validating};

/// A policy and its expressions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyOutline {
    /// `ValidatingAdmissionPolicy` or `MutatingAdmissionPolicy`.
    pub kind: &'static str,
    /// Its name.
    pub policy: String,
    /// Its expressions, but for variables.
    pub expressions: Vec<OutlinedExpression>,
}

/// An expression of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlinedExpression {
    /// What it is for.
    pub part: Part,
    /// Its name in traces.
    pub name: String,
    /// The field in which it stands, `spec.validations[0].expression`.
    pub field: String,
    /// What it says.
    pub expression: String,
}

/// What an expression of a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Whether the policy is for a request.
    Condition,
    /// What must hold.
    Validation,
    /// What a person is told when it does not.
    Message,
    /// What the audit is told.
    AuditAnnotation,
    /// What changes.
    Mutation,
}

pub(super) fn validating(policy: &Policy<Validating>) -> PolicyOutline {
    let mut expressions = conditions(policy);
    for (index, validation) in policy.rules.validations.iter().enumerate() {
        let name = format!("validations[{index}]");
        expressions.push(OutlinedExpression {
            part: Part::Validation,
            field: format!("spec.{name}.expression"),
            expression: validation.expression.source.to_string(),
            name,
        });
    }
    for (index, validation) in policy.rules.validations.iter().enumerate() {
        let Some(message) = &validation.message_expression else { continue };
        let name = format!("validations[{index}].messageExpression");
        expressions.push(OutlinedExpression {
            part: Part::Message,
            field: format!("spec.{name}"),
            expression: message.source.to_string(),
            name,
        });
    }
    for (index, annotation) in policy.rules.annotations.iter().enumerate() {
        expressions.push(OutlinedExpression {
            part: Part::AuditAnnotation,
            name: annotation.name.clone(),
            field: format!("spec.auditAnnotations[{index}].valueExpression"),
            expression: annotation.expression.source.to_string(),
        });
    }
    PolicyOutline { kind: "ValidatingAdmissionPolicy", policy: policy.name.clone(), expressions }
}

pub(super) fn mutating(policy: &Policy<Mutating>) -> PolicyOutline {
    let mut expressions = conditions(policy);
    for (index, mutation) in policy.rules.mutations.iter().enumerate() {
        let name = format!("mutations[{index}]");
        expressions.push(OutlinedExpression {
            part: Part::Mutation,
            field: format!("spec.{name}"),
            expression: mutation.expression.source.to_string(),
            name,
        });
    }
    PolicyOutline { kind: "MutatingAdmissionPolicy", policy: policy.name.clone(), expressions }
}

fn conditions<R>(policy: &Policy<R>) -> Vec<OutlinedExpression> {
    let conditions = policy.conditions.iter().enumerate();
    conditions
        .map(|(index, condition)| OutlinedExpression {
            part: Part::Condition,
            name: condition.name.clone(),
            field: format!("spec.matchConditions[{index}].expression"),
            expression: condition.expression.source.to_string(),
        })
        .collect()
}
