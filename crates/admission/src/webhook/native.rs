//! Policies that the API server asks by itself, and of which somebody is excepted: the API server leaves the objects of the
//! exceptions to the webhook by a match condition, and the webhook asks the same policy about these objects alone.
//!
//! A condition is written after the webhook is asked about its objects, and the webhook goes on for as long as an API server may
//! still have an older one: between the two no object is asked about by nobody.

use std::collections::BTreeSet;

use nullius_policy::exception::Exception;
use serde_json::{Value as Json, json};

use super::PolicyFile;

/// The name of the condition.
pub const CONDITION: &str = "nullius.dev/exceptions";

/// What the condition of a policy has to say; `None` where nobody is excepted from it. In the namespaces that the webhook is not
/// asked about nothing is left to it.
#[must_use]
pub fn wanted(policy: &str, exceptions: &[&Exception], unasked: &[&str]) -> Option<String> {
    let from = exceptions.iter().copied().filter(|exception| exception.is_from(policy));
    let outside = outside(from)?;
    let unasked: Vec<String> = unasked.iter().map(|name| format!("'{name}'")).collect();
    let unasked = unasked.join(", ");
    Some(format!("({outside}) || has(request.namespace) && request.namespace in [{unasked}]"))
}

/// An expression that is true for what no exception is for; `None` without exceptions.
pub(crate) fn outside<'a>(exceptions: impl Iterator<Item = &'a Exception>) -> Option<String> {
    let conditions: BTreeSet<String> = exceptions.map(Exception::condition).collect();
    let conditions: Vec<String> = conditions.into_iter().collect();
    (!conditions.is_empty()).then(|| conditions.join(" && "))
}

/// What the condition of a policy says; `None` where it has none.
#[must_use]
pub fn standing(policy: &Json) -> Option<String> {
    let conditions = policy.pointer("/spec/matchConditions").and_then(Json::as_array)?;
    let ours = conditions.iter().find(|condition| is_ours(condition))?;
    ours.get("expression").and_then(Json::as_str).map(str::to_owned)
}

/// A policy as somebody wrote it: without our condition.
#[must_use]
pub fn written(policy: &Json) -> Json {
    let mut policy = policy.clone();
    let conditions = policy.pointer_mut("/spec/matchConditions").and_then(Json::as_array_mut);
    if let Some(conditions) = conditions {
        conditions.retain(|condition| !is_ours(condition));
    }
    policy
}

/// A policy with its bindings as the webhook asks it: about the objects that an API server with any of the conditions leaves out.
#[must_use]
pub fn file(policy: &Json, bindings: &[&Json], conditions: &BTreeSet<String>) -> PolicyFile {
    let name = policy.pointer("/metadata/name").and_then(Json::as_str).unwrap_or_default();
    let inside: Vec<String> = conditions.iter().map(|outside| format!("({outside})")).collect();
    let mut spec = written(policy).get("spec").cloned().unwrap_or_default();
    let own = spec.get("matchConditions").and_then(Json::as_array);
    let mut own = own.cloned().unwrap_or_default();
    own.push(json!({ "name": CONDITION, "expression": format!("!({})", inside.join(" && ")) }));
    spec["matchConditions"] = Json::Array(own);
    let bare = |object: &Json, spec: &Json| {
        let text = |field: &str| object.get(field).cloned().unwrap_or_default();
        let name = object.pointer("/metadata/name").cloned().unwrap_or_default();
        json!({ "apiVersion": text("apiVersion"), "kind": text("kind"), "metadata": { "name": name }, "spec": spec })
    };
    let mut documents = vec![bare(policy, &spec).to_string()];
    documents.extend(
        bindings
            .iter()
            .map(|binding| bare(binding, binding.get("spec").unwrap_or(&Json::Null)).to_string()),
    );
    PolicyFile {
        name: format!("ValidatingAdmissionPolicy/{name}"),
        text: documents.join("\n---\n"),
    }
}

fn is_ours(condition: &Json) -> bool {
    condition.get("name").and_then(Json::as_str) == Some(CONDITION)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use nullius_policy::admission_policy::{PolicySet, Taken, Version};

    use super::*;

    fn exception(policy: &str, namespace: &str) -> Exception {
        let object = json!({
            "apiVersion": "nullius.dev/v1alpha1", "kind": "PolicyException",
            "metadata": { "name": namespace, "namespace": "exceptions" },
            "spec": { "owner": "a", "reason": "b", "expires": "2026-07-01T00:00:00Z",
                      "rules": [{ "policy": policy }], "scope": { "namespaces": [namespace] } },
        });
        Exception::read(&object, "2026-06-01T00:00:00Z".parse().unwrap()).unwrap()
    }

    fn policy(condition: Option<&str>) -> Json {
        let mut conditions = vec![json!({ "name": "own", "expression": "true" })];
        conditions.extend(condition.map(|text| json!({ "name": CONDITION, "expression": text })));
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": "p", "uid": "1", "resourceVersion": "2" },
            "spec": {
                "matchConstraints": { "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"],
                    "operations": ["CREATE"], "resources": ["pods"] }] },
                "matchConditions": conditions,
                "validations": [{ "expression": "false" }],
            },
            "status": { "observedGeneration": 1 },
        })
    }

    #[test]
    fn a_condition_leaves_out_the_objects_of_every_exception_from_the_policy() {
        let (a, b, other) = (exception("p", "a"), exception("p", "b"), exception("q", "c"));
        let unasked = ["kube-system"];
        let said = wanted("p", &[&b, &a, &other], &unasked).unwrap();
        let outside = format!("({} && {})", a.condition(), b.condition());
        let here = "has(request.namespace) && request.namespace in ['kube-system']";
        assert_eq!(said, format!("{outside} || {here}"));
        assert_eq!(wanted("p", &[&a, &b], &unasked), Some(said.clone()), "whatever their order");
        assert_eq!(wanted("r", &[&a], &unasked), None);
        assert_eq!(standing(&policy(Some(&said))), Some(said));
        assert_eq!(standing(&policy(None)), None);
        assert_eq!(written(&policy(Some("false"))), policy(None));
    }

    #[test]
    fn the_webhook_asks_the_policy_about_what_any_condition_leaves_out() {
        let conditions = BTreeSet::from(["has(request.name)".to_owned(), "false".to_owned()]);
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": "b" }, "spec": { "policyName": "p", "validationActions": ["Deny"] },
        });
        let file = file(&policy(Some("true")), &[&binding], &conditions);
        let documents: Vec<Json> = file
            .text
            .split("\n---\n")
            .map(|document| serde_json::from_str(document).unwrap())
            .collect();
        assert_eq!(documents.len(), 2);
        assert_eq!(
            documents[0]["spec"]["matchConditions"],
            json!([
                { "name": "own", "expression": "true" },
                { "name": CONDITION, "expression": "!((false) && (has(request.name)))" },
            ])
        );
        let mut set = PolicySet::new(Version::LATEST);
        for document in &documents {
            assert_eq!(set.add(document), Ok(Taken::Added));
        }
    }
}
