//! A pod that is about to be made in a namespace whose pods have proxies of their own: what `nullius inject` writes into files, as a patch.

use nullius_policy::{
    admission_policy::{Operation, Request},
    decide_injection, withhold_admission,
};
use serde_json::{Value as Json, json};

use super::{Review, Step};
use crate::inject::{self, InTheWay, Injected, Sidecar};

/// The parts of a pod that are other when it has a proxy.
const PARTS: [&str; 3] = ["/metadata/labels", "/spec/initContainers", "/spec/volumes"];

/// The rules for which an API server must ask.
#[must_use]
pub fn rules() -> Vec<Json> {
    vec![json!({
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
        "scope": "Namespaced",
    })]
}

impl Review {
    /// Puts a proxy into the pod where its namespace, as it is now, wants one; a pod for which there can be none is refused.
    #[must_use]
    pub fn inject(&self, sidecar: &Sidecar, namespace: &Json) -> Step {
        Step::Decided(Box::new(match made(self.request(), sidecar, namespace) {
            Some(made) => decide_injection(made),
            None => withhold_admission("the request does not say which pod it is for"),
        }))
    }
}

fn made(
    request: &Request,
    sidecar: &Sidecar,
    namespace: &Json,
) -> Option<Result<Vec<Json>, String>> {
    let is_new_pod = request.operation == Operation::Create
        && request.resource.group.is_empty()
        && request.resource.resource == "pods"
        && request.subresource.is_empty();
    if !is_new_pod {
        return Some(Ok(Vec::new()));
    }
    let pod = request.object.as_ref().filter(|pod| pod.is_object())?;
    if !inject::is_wanted(pod, &request.namespace, namespace) {
        return Some(Ok(Vec::new()));
    }
    let mut injected = pod.clone();
    Some(match inject::inject_pod(&mut injected, sidecar) {
        Ok(Injected::Changed) => Ok(patch(pod, &injected)),
        Ok(Injected::Already | Injected::Unwanted | Injected::NoPods) => Ok(Vec::new()),
        Err(faults) => Err(told(&faults)),
    })
}

/// What is other, each part as a whole.
fn patch(before: &Json, after: &Json) -> Vec<Json> {
    let other = PARTS.iter().filter(|part| before.pointer(part) != after.pointer(part));
    other.map(|part| json!({ "op": "add", "path": part, "value": after.pointer(part) })).collect()
}

fn told(faults: &[InTheWay]) -> String {
    let all: Vec<String> =
        faults.iter().map(|InTheWay { field, message }| format!("{field}: {message}")).collect();
    format!(
        "no proxy can stand beside this pod: {}; mend it, or label it `nullius.dev/inject: disabled` and let its node lead it",
        all.join("; ")
    )
}

#[cfg(test)]
mod tests;
