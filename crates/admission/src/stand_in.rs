//! What stands where a policy cannot be used: one of its name that refuses whatever the other would be for.

use serde_json::{Value as Json, json};

/// What is said of objects for which there is a policy that cannot be used.
pub(crate) const UNUSABLE: &str = "the policy cannot be used";

/// Makes a policy that refuses what another would be for: by its own constraints where they can be read, else everything.
/// `add` says whether it is taken; gives the constraints of the one that was.
pub(crate) fn stand_in(
    kind: &str,
    name: &str,
    object: &Json,
    message: &str,
    mut add: impl FnMut(&Json) -> bool,
) -> Option<Json> {
    let all = json!({ "resourceRules": [{
        "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["*"]
    }] });
    let own = object.pointer("/spec/matchConstraints").cloned();
    own.into_iter().chain([all]).find(|constraints| {
        let mut spec = json!({ "failurePolicy": "Fail", "matchConstraints": constraints });
        let (field, rule) = match kind {
            "MutatingAdmissionPolicy" => {
                spec["reinvocationPolicy"] = Json::from("Never");
                let expression = "[JSONPatch{op: \"remove\", path: \"/cannot-be-used\"}]";
                let patch = json!({ "expression": expression });
                ("mutations", json!([{ "patchType": "JSONPatch", "jsonPatch": patch }]))
            }
            _ => ("validations", json!([{ "expression": "false", "message": one_line(message) }])),
        };
        spec[field] = rule;
        add(&json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": { "name": name }, "spec": spec,
        }))
    })
}

/// A message of a policy has one line, and not too long a one.
fn one_line(message: &str) -> String {
    let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().chars().take(1024).collect()
}
