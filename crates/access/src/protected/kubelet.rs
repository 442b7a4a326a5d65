//! What goes through a node to its kubelet (`nodes/NAME/proxy/…`), read as the kubelet routes it.
//!
//! The kubelet enters any pod of its node for whoever reaches it, and admission never sees that. Paths that enter a pod
//! name its namespace first; a path that is not known is refused, since nobody can say what it enters.

use nullius_rbac::RequestInfo;

use super::{PROTECTED_NAMESPACES, is_protected_namespace};

/// Paths that enter one pod: `/exec/NAMESPACE/POD/…`.
const INTO_PODS: [&str; 6] =
    ["attach", "checkpoint", "containerLogs", "exec", "portForward", "run"];

/// Paths that tell of the node and enter nothing.
const OF_THE_NODE: [&str; 9] =
    ["configz", "debug", "flagz", "healthz", "metrics", "pods", "runningpods", "stats", "statusz"];

/// Why a request through a node is refused.
pub(super) fn refusal(request: &RequestInfo) -> Option<String> {
    let is_node = request.api_group().is_empty() && request.resource() == "nodes";
    if !is_node || (request.subresource() != "proxy" && request.verb() != "proxy") {
        return None;
    }
    let path = request.path();
    let mut behind = behind_proxy(path, request.name());
    let first = behind.next().unwrap_or_default();
    let ours =
        |namespace: &str| format!("enters namespace `{namespace}`, which belongs to Nullius alone");
    match first {
        known if OF_THE_NODE.contains(&known) => None,
        known if INTO_PODS.contains(&known) => match behind.next() {
            Some(namespace) if is_protected_namespace(namespace) => Some(ours(namespace)),
            Some(namespace) if !namespace.is_empty() => None,
            Some(_) | None => Some("names no pod".to_owned()),
        },
        // Files of the node; those of containers name their namespace, in the path or in `?query=`.
        "logs" => {
            let query = request.raw_query().unwrap_or_default();
            let plain = percent_decoded(query);
            let named = |namespace: &&str| path.contains(*namespace) || plain.contains(*namespace);
            PROTECTED_NAMESPACES.into_iter().find(named).map(ours)
        }
        unknown => {
            let shown: String = unknown.chars().take(40).flat_map(char::escape_debug).collect();
            Some(format!("asks the node for `/{shown}`, which Nullius does not know"))
        }
    }
}

/// The segments behind `nodes/NAME/proxy`.
fn behind_proxy<'p>(path: &'p str, name: &str) -> impl Iterator<Item = &'p str> + use<'p> {
    let segments: Vec<&str> = path.split('/').collect();
    let proxied = segments.windows(3).position(|three| three == ["nodes", name, "proxy"]);
    let from = proxied.map_or(segments.len(), |at| at + 3);
    segments.into_iter().skip(from)
}

/// Each byte that a percent sign hides, shown; bytes that are no text are replaced.
fn percent_decoded(query: &str) -> String {
    let mut decoded = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let hex = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(hidden) if *byte == b'%' => {
                decoded.push(hidden);
                rest = behind.get(2..).unwrap_or_default();
            }
            Some(_) | None => {
                decoded.push(*byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
