//! A request to a cluster as an audit.k8s.io/v1 `Event`, for tools that read the API server's own audit.

use nullius_model::{
    AuditEvent, AuditKind, AuditOutcome, KubeCall, KubeStatus, Principal, Timestamp,
};
use serde_json::{Map, Value, json};

use crate::{Digest, canonical_json};

/// Keys of [`AuditEvent::facts`] that have a meaning of their own.
pub mod fact {
    /// The name of the grant that decided.
    pub const GRANT: &str = "grant";
    /// The factors of the session, joined by `+`.
    pub const FACTOR: &str = "factor";
    /// When the newest of them was proven.
    pub const FACTOR_AT: &str = "factor-at";
    /// The person's groups, joined by `,` (no group name has one).
    pub const GROUPS: &str = "groups";
    /// Whom the principal acted as.
    pub const IMPERSONATED: &str = "impersonated";
    /// With which groups, joined by `,`.
    pub const IMPERSONATED_GROUPS: &str = "impersonated-groups";
    /// Of a call between workloads: the namespace of who was called, or else of who called.
    pub const NAMESPACE: &str = "namespace";
    /// Set on an entry that could not be written at once; its caller was told so and refused.
    pub const WRITTEN_LATE: &str = "written-late";
}

/// Where the entry stands in the hub's own trail, on lines of a file.
const POSITION: &str = "nullius.dev/position";
const HASH: &str = "nullius.dev/hash";

/// The event as audit.k8s.io/v1 describes it, level `Metadata`; `None` for what did not happen at an API server.
///
/// Field names and stages follow `k8s.io/apiserver/pkg/apis/audit/v1/types.go`. The verb is the one that was decided:
/// `create` for an exec that the API server logs as `get`.
pub fn to_k8s_event(event: &AuditEvent) -> Option<Value> {
    let call = event.kube.as_ref()?;
    let stage = match event.outcome {
        // What admission let in goes on; how it ends, the API server's own log says.
        AuditOutcome::Done if event.kind == AuditKind::Admission => "RequestReceived",
        AuditOutcome::Begun => "RequestReceived",
        AuditOutcome::Done | AuditOutcome::Denied | AuditOutcome::Failed => "ResponseComplete",
    };
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
    put("kind", json!("Event"));
    put("apiVersion", json!("audit.k8s.io/v1"));
    put("level", json!("Metadata"));
    put("auditID", json!(event.audit_id));
    put("stage", json!(stage));
    put("requestURI", json!(call.request_uri));
    put("verb", json!(call.verb));
    put("user", user_info(event));
    if let Some(name) = event.facts.get(fact::IMPERSONATED) {
        put("impersonatedUser", named(name, event.facts.get(fact::IMPERSONATED_GROUPS)));
    }
    if let Some(source) = event.source {
        put("sourceIPs", json!([source.to_string()]));
    }
    if !call.user_agent.is_empty() {
        put("userAgent", json!(call.user_agent));
    }
    if call.is_resource {
        put("objectRef", object_ref(call));
    }
    if call.code != 0 && stage == "ResponseComplete" {
        put("responseStatus", response_status(event, call));
    }
    put("requestReceivedTimestamp", json!(micro_time(call.received)));
    put("stageTimestamp", json!(micro_time(event.at)));
    put("annotations", annotations(event));
    Some(Value::Object(out))
}

fn user_info(event: &AuditEvent) -> Value {
    let username = match &event.principal {
        Principal::Person { user } => user.to_string(),
        Principal::Agent { cluster, .. } => format!("nullius:agent:{cluster}"),
        Principal::Kubernetes { username, .. } => username.clone(),
        Principal::Workload { id, .. } => id.to_string(),
        Principal::Hub => "nullius:hub".to_owned(),
        Principal::Unproven { .. } => "system:anonymous".to_owned(),
    };
    let mut user = named(&username, event.facts.get(fact::GROUPS));
    let mut extra = Map::new();
    if let Some(session) = &event.session {
        extra.insert("nullius.dev/session".to_owned(), json!([session]));
    }
    if let Some(cluster) = &event.cluster {
        extra.insert("nullius.dev/cluster".to_owned(), json!([cluster]));
    }
    if !extra.is_empty() {
        user["extra"] = Value::Object(extra);
    }
    user
}

fn named(username: &str, groups: Option<&String>) -> Value {
    let mut user = json!({ "username": username });
    if let Some(groups) = groups {
        let groups: Vec<&str> = groups.split(',').filter(|group| !group.is_empty()).collect();
        user["groups"] = json!(groups);
    }
    user
}

fn object_ref(call: &KubeCall) -> Value {
    let fields = [
        ("resource", &call.resource),
        ("namespace", &call.namespace),
        ("name", &call.name),
        ("apiGroup", &call.api_group),
        ("apiVersion", &call.api_version),
        ("subresource", &call.subresource),
    ];
    let present = fields.into_iter().filter(|(_, text)| !text.is_empty());
    Value::Object(present.map(|(key, text)| (key.to_owned(), json!(text))).collect())
}

fn response_status(event: &AuditEvent, call: &KubeCall) -> Value {
    if call.code < 400 {
        return json!({ "metadata": {}, "code": call.code });
    }
    let message = event.explanation.as_ref().map(ToString::to_string).unwrap_or_default();
    let status = KubeStatus::failure(call.code, message);
    json!({
        "metadata": {},
        "status": status.status,
        "message": status.message,
        "reason": status.reason,
        "code": status.code,
    })
}

/// The event as one line of a file, which names its place and hash in the hub's own trail.
pub fn k8s_line(event: &AuditEvent, position: i64, hash: &Digest) -> Option<String> {
    let mut line = to_k8s_event(event)?;
    let notes = line.get_mut("annotations")?.as_object_mut()?;
    notes.insert(POSITION.to_owned(), Value::String(position.to_string()));
    notes.insert(HASH.to_owned(), Value::String(hash.to_string()));
    canonical_json(&line).ok()
}

/// The place that a line of [`k8s_line`] names.
pub fn position_of_k8s_line(line: &str) -> Option<i64> {
    let line: Value = serde_json::from_str(line).ok()?;
    line.get("annotations")?.get(POSITION)?.as_str()?.parse().ok()
}

fn annotations(event: &AuditEvent) -> Value {
    let mut notes = Map::new();
    let mut put = |key: &str, text: Option<String>| {
        if let Some(text) = text {
            notes.insert(key.to_owned(), Value::String(text));
        }
    };
    let allowed = event.outcome != AuditOutcome::Denied;
    let decision = if allowed { "allow" } else { "forbid" };
    let explanation = event.explanation.as_ref();
    let reason = explanation.map(|why| why.reason.as_str().to_owned());
    let unauthorized =
        explanation.is_some_and(|why| why.reason == nullius_model::Reason::ApiServerRefused);
    if event.kind == AuditKind::Admission || event.kind == AuditKind::ApiServer && !unauthorized {
        put("nullius.dev/admission", Some(if allowed { "allow" } else { "deny" }.to_owned()));
        put("nullius.dev/reason", reason);
        for name in ["policy", "binding", "check", "effect", "waived-by", "dry-run"] {
            put(&format!("nullius.dev/{name}"), event.facts.get(name).cloned());
        }
    } else {
        put("authorization.k8s.io/decision", Some(decision.to_owned()));
        put("authorization.k8s.io/reason", reason);
    }
    put("nullius.dev/session", event.session.as_ref().map(ToString::to_string));
    put("nullius.dev/permission", event.permission.as_ref().map(ToString::to_string));
    let (grant, role) = explanation.and_then(|why| why.rule.as_deref()).map_or((None, None), parts);
    // The rule of a refusal is the nearest that would have allowed it: no grant decided.
    put("nullius.dev/grant", event.facts.get(fact::GRANT).cloned().or(grant.filter(|_| allowed)));
    put("nullius.dev/role", role.filter(|_| allowed));
    put("nullius.dev/rule", explanation.and_then(|why| why.rule.clone()));
    put("nullius.dev/factor", event.facts.get(fact::FACTOR).cloned());
    put("nullius.dev/factor-at", event.facts.get(fact::FACTOR_AT).cloned());
    put("nullius.dev/outcome", Some(event.outcome.as_str().to_owned()));
    put("nullius.dev/ended", event.facts.get("ended").cloned());
    put("nullius.dev/explanation", explanation.map(ToString::to_string));
    Value::Object(notes)
}

/// Grant and role of `Grant/dev-shop → Role/developer rule 2`.
fn parts(rule: &str) -> (Option<String>, Option<String>) {
    let named = |kind: &str| {
        let (_, rest) = rule.split_once(kind)?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    (named("Grant/"), named("Role/"))
}

/// metav1.MicroTime: RFC 3339 with exactly six decimals.
fn micro_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
