//! What an evaluation did, step by step: why a policy was for a request or not, what each expression yielded and cost.

use serde::Serialize;
use serde_json::Value as Json;

/// What was done with one policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTrace {
    /// `ValidatingAdmissionPolicy` or `MutatingAdmissionPolicy`.
    pub kind: &'static str,
    /// Its name.
    pub policy: String,
    /// Whether this was the second pass over policies that mutate.
    #[serde(skip_serializing_if = "is_false")]
    pub reinvocation: bool,
    /// Why it is for the request or is not.
    #[serde(rename = "match")]
    pub matched: MatchTrace,
    /// Its bindings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<BindingTrace>,
}

/// Why something is for a request or is not.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MatchTrace {
    /// Whether it is.
    pub matched: bool,
    /// The rule, or what it failed at.
    pub reason: String,
}

/// What was done with one binding.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BindingTrace {
    /// Its name.
    pub binding: String,
    /// Why it is for the request or is not.
    #[serde(rename = "match")]
    pub matched: MatchTrace,
    /// What could not be set up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// One for each parameter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunTrace>,
}

/// One run of a policy's expressions.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunTrace {
    /// The parameter, `namespace/name`; none without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// What came of it as a whole, where expressions do not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Match conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ExpressionTrace>,
    /// Variables, each where an expression first asked for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<ExpressionTrace>,
    /// Validations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub validations: Vec<ExpressionTrace>,
    /// Message expressions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<ExpressionTrace>,
    /// Audit annotations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audit_annotations: Vec<ExpressionTrace>,
    /// Mutations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mutations: Vec<ExpressionTrace>,
}

/// One expression.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpressionTrace {
    /// Its name, or where it stands: `validations[0]`.
    pub name: String,
    /// What it says.
    pub expression: String,
    /// What it yielded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    /// Why it yielded nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Of a mutation: whether the object became another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<bool>,
    /// What it cost, in the API server's units, without variables.
    pub cost: u64,
}

impl MatchTrace {
    pub(super) fn yes(reason: impl Into<String>) -> Self {
        Self { matched: true, reason: reason.into() }
    }

    pub(super) fn no(reason: impl Into<String>) -> Self {
        Self { matched: false, reason: reason.into() }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_false(flag: &bool) -> bool {
    !flag
}
