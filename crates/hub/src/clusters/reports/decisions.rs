//! A decision of the webhook as an event of the audit: who, what, which policy, why. Never the object itself.

use std::collections::HashMap;

use nullius_model::{
    AuditEvent, AuditKind, AuditOutcome, ClusterName, Explanation, KubeCall, Reason, SessionId,
    Timestamp, UserName,
};
use nullius_proto::agent_v1::{AdmissionDecision, AdmissionEffect, AdmissionRemark};

use super::{cut, principal, told_time};
use crate::Hub;

/// What the ServiceAccounts of sessions are called.
const SESSION_ACCOUNTS: &str = "system:serviceaccount:nullius-sessions:session-";
/// Remarks of one decision that are written down.
const REMARKS: usize = 16;
/// Characters of names, and of what policies say.
const NAME: usize = 300;
const WORDS: usize = 2_000;

/// Whose the sessions of this cluster are.
pub(super) type People = HashMap<SessionId, UserName>;

/// The session whose ServiceAccount a name is.
pub(super) fn session_of(username: &str) -> Option<SessionId> {
    username.strip_prefix(SESSION_ACCOUNTS)?.parse().ok()
}

/// The event of a decision.
pub(super) fn event(
    hub: &Hub,
    cluster: &ClusterName,
    decision: &AdmissionDecision,
    people: &People,
    now: Timestamp,
) -> AuditEvent {
    let outcome = if decision.allowed { AuditOutcome::Done } else { AuditOutcome::Denied };
    let mut event = hub.own_event(AuditKind::Admission, outcome);
    if let Ok(uid) = decision.uid.parse() {
        event.audit_id = uid;
    }
    event.at = now;
    event.principal = principal(cluster, &decision.username, people);
    event.session = session_of(&decision.username).filter(|id| people.contains_key(id));
    event.cluster = Some(cluster.clone());
    event.permission = decision.permission.parse().ok();
    event.explanation = Some(explanation(decision));
    event.kube = Some(call(decision, now));
    event.facts.extend(facts(decision));
    event
}

fn explanation(decision: &AdmissionDecision) -> Explanation {
    let word = serde_json::Value::String(decision.reason.clone());
    let fallback = if decision.allowed { Reason::PolicyPassed } else { Reason::PolicyRefused };
    let reason = serde_json::from_value(word).unwrap_or(fallback);
    let some = |text: &str| (!text.is_empty()).then(|| cut(text, WORDS));
    let sentence = some(&decision.sentence).unwrap_or_else(|| match decision.allowed {
        true => "no admission policy objects".to_owned(),
        false => "an admission policy refuses it".to_owned(),
    });
    Explanation { reason, rule: some(&decision.rule), sentence, next: some(&decision.next) }
}

/// The request as Kubernetes would write it down; the code is that of a denial, for nobody knows yet what else comes.
fn call(decision: &AdmissionDecision, now: Timestamp) -> KubeCall {
    let name = |text: &str| cut(text, NAME);
    let call = KubeCall {
        verb: verb(&decision.operation),
        request_uri: String::new(),
        is_resource: true,
        api_group: name(&decision.group),
        api_version: name(&decision.version),
        resource: name(&decision.resource),
        subresource: name(&decision.subresource),
        namespace: name(&decision.namespace),
        name: name(&decision.name),
        user_agent: String::new(),
        code: if decision.allowed { 0 } else { u16::try_from(decision.code).unwrap_or(403) },
        received: told_time(decision.decided_millis, now),
    };
    KubeCall { request_uri: path(&call), ..call }
}

/// The verb of an admission operation; an object that is patched arrives as an update.
fn verb(operation: &str) -> String {
    cut(operation, 32).to_lowercase()
}

fn path(call: &KubeCall) -> String {
    let mut path = match call.api_group.as_str() {
        "" => format!("/api/{}", call.api_version),
        group => format!("/apis/{group}/{}", call.api_version),
    };
    if !call.namespace.is_empty() && call.resource != "namespaces" {
        path.push_str(&format!("/namespaces/{}", call.namespace));
    }
    path.push_str(&format!("/{}", call.resource));
    // What is made has no name in its path.
    let named = call.verb != "create" || !call.subresource.is_empty();
    for part in [&call.name, &call.subresource] {
        if named && !part.is_empty() {
            path.push_str(&format!("/{part}"));
        }
    }
    path
}

fn facts(decision: &AdmissionDecision) -> Vec<(String, String)> {
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut put = |name: String, value: &str, most: usize| {
        if !value.is_empty() {
            facts.push((name, cut(value, most)));
        }
    };
    put("object-kind".to_owned(), &decision.kind, NAME);
    put("username".to_owned(), &decision.username, NAME);
    put("groups".to_owned(), &decision.groups.join(","), WORDS);
    put("dry-run".to_owned(), if decision.dry_run { "yes" } else { "" }, NAME);
    facts.extend(remarks(&decision.remarks));
    facts
}

/// What policies had to say, as facts: `policy`, `binding` and so on, with `-2`, `-3` for further ones.
pub(super) fn remarks(remarks: &[AdmissionRemark]) -> Vec<(String, String)> {
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut put = |name: String, value: &str, most: usize| {
        if !value.is_empty() {
            facts.push((name, cut(value, most)));
        }
    };
    for (number, remark) in remarks.iter().take(REMARKS).enumerate() {
        let key = |what: &str| match number {
            0 => what.to_owned(),
            _ => format!("{what}-{}", number + 1),
        };
        put(key("policy"), &remark.policy, NAME);
        put(key("binding"), &remark.binding, NAME);
        put(key("check"), &remark.check, NAME);
        put(key("effect"), effect(remark), NAME);
        put(key("message"), &remark.message, WORDS);
        put(key("waived-by"), &remark.waiver_owner, NAME);
        put(key("waived-for"), &remark.waiver_reason, WORDS);
        put(key("waived-until"), &remark.waiver_expires, NAME);
    }
    let more = remarks.len().saturating_sub(REMARKS);
    if more > 0 {
        put("more-remarks".to_owned(), &more.to_string(), NAME);
    }
    facts
}

fn effect(remark: &AdmissionRemark) -> &'static str {
    match remark.effect() {
        AdmissionEffect::Unspecified => "",
        AdmissionEffect::Denied => "denied",
        AdmissionEffect::Warned => "warned",
        AdmissionEffect::Audited => "audited",
        AdmissionEffect::Waived => "waived",
        AdmissionEffect::Mutated => "mutated",
    }
}
