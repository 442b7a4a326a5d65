//! The policy for the level of Pod Security that is lowered for the sake of exceptions: `agent admission` changes that of a namespace
//! and nothing else, between two levels, and nobody else writes the mark by which it and the webhook know of it.
//!
//! The mark is the label with the one value `restricted`; nobody at all writes another, which might pass for one.

use nullius_model::KEPT_LEVEL_LABEL;
use serde_json::{Value, json};

use super::guards::{binding_of, identity_variables, is_account, policy, username_is, variable};
use crate::{
    admission::{EXCLUDED_NAMESPACES, levels::ENFORCE},
    names::ADMISSION,
};

const NAME: &str = "nullius-pod-security";

pub(super) fn objects() -> Vec<Value> {
    let policy = levels_kept();
    let binding = binding_of(&policy);
    vec![policy, binding]
}

fn levels_kept() -> Value {
    let has_mark = |object: &str| {
        format!(
            "{object} != null && has({object}.metadata.labels) && '{KEPT_LEVEL_LABEL}' in {object}.metadata.labels"
        )
    };
    let labels = |object: &str| {
        format!(
            "{object} != null && has({object}.metadata.labels) ? {object}.metadata.labels : {{}}"
        )
    };
    let concerns = format!(
        "{} || {} || {}",
        username_is(ADMISSION),
        has_mark("object"),
        has_mark("oldObject")
    );
    let has = |labels: &str| format!("'{KEPT_LEVEL_LABEL}' in variables.{labels}");
    let level = |labels: &str| format!("variables.{labels}[?'{ENFORCE}'].orValue('')");
    // Absent is not the same as empty.
    let same_mark = format!(
        "variables.labels[?'{KEPT_LEVEL_LABEL}'] == variables.oldLabels[?'{KEPT_LEVEL_LABEL}']"
    );
    let who = format!(
        "variables.admission || !({}) && (variables.guardian || {same_mark})",
        username_is(ADMISSION)
    );
    // One that stood there before goes on standing: whoever deletes its namespace is not held up by it.
    let value = format!(
        "!({}) || variables.labels['{KEPT_LEVEL_LABEL}'] == 'restricted' || {same_mark}",
        has("labels")
    );
    // What the account may do to these two labels: lower, restore, forget.
    let old_mark =
        format!("variables.oldLabels[?'{KEPT_LEVEL_LABEL}'].orValue('') == 'restricted'");
    let steps = format!(
        "{old} == 'restricted' && {new} == 'baseline' && {mark} && variables.labels['{KEPT_LEVEL_LABEL}'] == 'restricted' \
        || {old} == 'baseline' && {new} == 'restricted' && {old_mark} && !({mark}) \
        || {old} == {new} && {old} != 'baseline' && !({mark})",
        old = level("oldLabels"),
        new = level("labels"),
        mark = has("labels"),
    );
    let others = format!(
        "variables.labels.all(key, key in ['{ENFORCE}', '{KEPT_LEVEL_LABEL}'] || key in variables.oldLabels \
            && variables.oldLabels[key] == variables.labels[key]) \
        && variables.oldLabels.all(key, key in ['{ENFORCE}', '{KEPT_LEVEL_LABEL}'] || key in variables.labels)"
    );
    let same = |field: &str| {
        format!(
            "has(object.{field}) == has(oldObject.{field}) && (!has(object.{field}) || object.{field} == oldObject.{field})"
        )
    };
    let rest = ["metadata.annotations", "metadata.finalizers", "metadata.ownerReferences", "spec"]
        .map(|field| format!("({})", same(field)))
        .join(" && ");
    let excluded: Vec<String> =
        EXCLUDED_NAMESPACES.iter().map(|name| format!("'{name}'")).collect();
    let shape = format!(
        "!variables.admission || request.operation == 'UPDATE' && !(object.metadata.name in [{}]) \
        && ({steps}) && {others} && {rest}",
        excluded.join(", ")
    );
    let mut variables = identity_variables();
    variables.extend([
        variable("admission", &is_account(ADMISSION)),
        variable("labels", &labels("object")),
        variable("oldLabels", &labels("oldObject")),
    ]);
    policy(
        NAME,
        json!({ "resourceRules": [{
            "apiGroups": [""], "apiVersions": ["*"],
            "resources": ["namespaces", "namespaces/finalize", "namespaces/status"],
            "operations": ["CREATE", "UPDATE"], "scope": "*",
        }] }),
        &[("of-a-kept-level", &concerns)],
        variables,
        &[
            (
                &who,
                "the label `nullius.dev/pod-security-enforce` says that Nullius enforces this level here with exceptions: take the PolicyException away",
            ),
            (
                &value,
                "the label `nullius.dev/pod-security-enforce` says `restricted` and nothing else",
            ),
            (&shape, "Nullius changes the level of Pod Security of a namespace and nothing else"),
        ],
    )
}
