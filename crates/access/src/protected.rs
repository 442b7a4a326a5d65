//! What in a cluster only Nullius itself may touch, whatever a person's grants say.
//!
//! A person who may write in the namespaces of the agents could mint their tokens, run beside them or change
//! what bounds them. The cluster refuses the same by a ValidatingAdmissionPolicy; this is the hub's side of it, and
//! the agent's. Reads are no matter of admission: which of them pass is decided here alone.

use nullius_model::{Explanation, Reason};
use nullius_rbac::{Attributes, RequestInfo, ResourceAttributes, Target};

mod kubelet;

/// The namespaces in which agents, nodes' parts and session objects live.
pub const PROTECTED_NAMESPACES: [&str; 3] = ["nullius-sessions", "nullius-system", "nullius-node"];

/// Whether a namespace is one in which agents, nodes' parts and session objects live.
pub fn is_protected_namespace(namespace: &str) -> bool {
    PROTECTED_NAMESPACES.contains(&namespace)
}

/// Groups whose cluster-scoped objects bound what agents and people may do.
const GUARDED_GROUPS: [&str; 2] = ["rbac.authorization.k8s.io", "admissionregistration.k8s.io"];

/// What is read of the agents' objects by who may: none of these opens a connection.
const READABLE_SUBRESOURCES: [&str; 4] = ["", "log", "scale", "status"];

/// The field selector that leaves the namespaces with Secrets of ours out, as it stands in a query.
const ELSEWHERE: &str = "metadata.namespace!%3Dnullius-sessions%2Cmetadata.namespace!%3Dnullius-system\
    %2Cmetadata.namespace!%3Dnullius-node";

/// Why a request is refused to everybody.
pub fn protected_request(request: &RequestInfo) -> Option<Explanation> {
    let attributes = request.attributes();
    if let Some(refusal) = protected_refusal(&attributes) {
        return Some(refusal);
    }
    if reads_all_secrets(request) && !leaves_ours_out(request) {
        return Some(refuse(format!("{attributes} in all namespaces reads those of Nullius too")));
    }
    kubelet::refusal(request).map(|why| refuse(format!("{attributes} {why}")))
}

/// Why something is refused to everybody, as far as verb and object alone can tell.
pub fn protected_refusal(request: &Attributes<'_>) -> Option<Explanation> {
    let Target::Resource(to) = request.target else { return None };
    if is_protected_namespace(to.namespace) && !is_plain_read(request.verb, &to) {
        return Some(refuse(format!(
            "{request} touches namespace `{}`, which belongs to Nullius alone",
            to.namespace
        )));
    }
    if to.namespace.is_empty() && GUARDED_GROUPS.contains(&to.group) && !is_read(request.verb) {
        let ours = to.name.starts_with("nullius:") || to.name.starts_with("nullius-");
        if ours || request.verb == "deletecollection" {
            return Some(refuse(format!(
                "{request} would change what bounds the agents in this cluster"
            )));
        }
    }
    if request.verb == "impersonate" || request.verb.starts_with("impersonate:") {
        return Some(refuse("nobody acts as somebody else through the hub".to_owned()));
    }
    None
}

/// Path and query that read the Secrets of all namespaces but ours; none where the request needs no change.
///
/// Whoever may list all Secrets goes on as before, and does not see those of Nullius. Of a repeated parameter the API
/// server takes the first: ours stands first, and theirs is part of it.
pub fn without_protected(request: &RequestInfo) -> Option<String> {
    if !reads_all_secrets(request) || leaves_ours_out(request) {
        return None;
    }
    let mut selector = ELSEWHERE.to_owned();
    let mut others = String::new();
    let mut theirs = None;
    for pair in request.raw_query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        match pair.strip_prefix("fieldSelector=") {
            Some(value) if theirs.is_none() => theirs = Some(value),
            Some(_) | None => {
                others.push('&');
                others.push_str(pair);
            }
        }
    }
    if let Some(theirs) = theirs.filter(|theirs| !theirs.is_empty()) {
        selector.push_str("%2C");
        selector.push_str(theirs);
    }
    Some(format!("{}?fieldSelector={selector}{others}", request.raw_path()))
}

fn refuse(sentence: String) -> Explanation {
    Explanation::new(Reason::ProtectedNamespace, sentence)
        .with_next("change it with the cluster's own credential if it must be changed by hand")
}

fn is_read(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch")
}

/// Reading what holds no credential and opens no connection.
fn is_plain_read(verb: &str, to: &ResourceAttributes<'_>) -> bool {
    is_read(verb)
        && READABLE_SUBRESOURCES.contains(&to.subresource)
        && !(to.group.is_empty() && matches!(to.resource, "secrets" | "*"))
        && to.group != "*"
}

fn reads_all_secrets(request: &RequestInfo) -> bool {
    request.is_resource()
        && request.api_group().is_empty()
        && request.resource() == "secrets"
        && request.namespace().is_empty()
        && is_read(request.verb())
}

/// Whether the first parameter is a field selector that begins with ours.
fn leaves_ours_out(request: &RequestInfo) -> bool {
    let selector = request.raw_query().and_then(|query| query.strip_prefix("fieldSelector="));
    let rest = selector.and_then(|selector| selector.strip_prefix(ELSEWHERE));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('&') || rest.starts_with("%2C"))
}

#[cfg(test)]
mod tests;
