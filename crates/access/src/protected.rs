//! What in a cluster only Nullius itself may touch, whatever a person's grants say.
//!
//! A person who may write in the namespaces of the agents could mint their tokens, run beside them or change
//! what bounds them. The cluster refuses the same by a ValidatingAdmissionPolicy; this is the hub's side of it.

use nullius_model::{Explanation, Reason};
use nullius_rbac::{Attributes, ResourceAttributes, Target};

/// The namespaces in which agents and session objects live.
pub const PROTECTED_NAMESPACES: [&str; 2] = ["nullius-sessions", "nullius-system"];

/// Whether a namespace is one in which agents and session objects live.
pub fn is_protected_namespace(namespace: &str) -> bool {
    PROTECTED_NAMESPACES.contains(&namespace)
}

/// Groups whose cluster-scoped objects bound what agents and people may do.
const GUARDED_GROUPS: [&str; 2] = ["rbac.authorization.k8s.io", "admissionregistration.k8s.io"];

/// Why a request is refused to everybody.
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
        && to.subresource != "proxy"
        && !(to.group.is_empty() && matches!(to.resource, "secrets" | "*"))
        && to.group != "*"
}
