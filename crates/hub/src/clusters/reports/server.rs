//! What an API server said by itself, as events of the audit, joined with what the hub knows of the same request.
//!
//! The Audit-ID joins them only where the API server names the account of the session that the hub's event names: everybody who calls an
//! API server may send the Audit-ID of somebody else. A word that another replica of the agent has told already is left out.

use nullius_audit::{
    Filter, display_safe,
    fact::{IMPERSONATED, IMPERSONATED_GROUPS},
};
use nullius_model::{
    AuditEvent, AuditId, AuditKind, AuditOutcome, ClusterName, Explanation, KubeCall, Plane,
    Reason, Timestamp, Use,
};
use nullius_proto::agent_v1::{AdmissionUse, ServerWeight, ServerWord};
use nullius_store::{Reader, StoreError};

use super::{cut, decisions, principal, told_time, uses};
use crate::{Hub, record::new_audit_id};

/// Events of one Audit-ID that are looked at: a request has few, and who sends one Audit-ID with all of theirs joins nothing.
const EVENTS: u32 = 20;
const NAME: usize = 300;
const WORDS: usize = 2_000;
const AGENT: usize = 256;

/// A word with what the hub knows of its request.
pub(super) struct Joined<'a> {
    word: &'a ServerWord,
    /// The hub's own event of the request.
    ours: Option<AuditEvent>,
    /// Whether the Audit-ID is that of another request.
    is_taken: bool,
}

/// Looks up what is known of the requests; leaves out words that were told before.
pub(super) async fn join<'a>(
    hub: &Hub,
    cluster: &ClusterName,
    words: &'a [ServerWord],
) -> Result<Vec<Joined<'a>>, StoreError> {
    let mut joined = Vec::new();
    let mut reader: Option<Reader> = None;
    for word in words {
        let known = match word.audit_id.parse::<AuditId>() {
            Ok(id) => {
                let reader = match &mut reader {
                    Some(reader) => reader,
                    none => none.insert(hub.store().read().await?),
                };
                let filter =
                    Filter { audit_id: Some(id), limit: Some(EVENTS), ..Filter::default() };
                let page = reader.audit().list(&filter, None).await?;
                page.entries.iter().filter_map(|entry| entry.event().ok()).collect()
            }
            Err(_) => Vec::new(),
        };
        joined.extend(join_one(cluster, word, known, hub.now()));
    }
    Ok(joined)
}

fn join_one<'a>(
    cluster: &ClusterName,
    word: &'a ServerWord,
    known: Vec<AuditEvent>,
    now: Timestamp,
) -> Option<Joined<'a>> {
    let session = decisions::session_of(&word.username);
    let received = received(word, now);
    let is_same = |event: &AuditEvent| {
        event.kind == AuditKind::ApiServer
            && event.cluster.as_ref() == Some(cluster)
            && event.facts.get("username").map(String::as_str) == Some(&*text(&word.username, NAME))
            && event.kube.as_ref().is_some_and(|call| call.received == received)
    };
    if known.iter().any(is_same) {
        return None;
    }
    let is_ours = |event: &AuditEvent| {
        event.kind == AuditKind::KubeRequest
            && event.cluster.as_ref() == Some(cluster)
            && session.is_some()
            && event.session == session
    };
    let others = !known.is_empty() && !known.iter().any(is_ours);
    let ours = known.into_iter().find(is_ours);
    Some(Joined { word, ours, is_taken: others })
}

impl Joined<'_> {
    /// The event to be written.
    pub(super) fn event(
        &self,
        hub: &Hub,
        cluster: &ClusterName,
        people: &decisions::People,
    ) -> AuditEvent {
        let word = self.word;
        let now = hub.now();
        let outcome = match word.weight() {
            ServerWeight::Noted => AuditOutcome::Done,
            // A weight that this hub does not know is none that passed.
            ServerWeight::Unauthorized | ServerWeight::Refused | ServerWeight::Unspecified => {
                AuditOutcome::Denied
            }
        };
        let mut event = hub.own_event(AuditKind::ApiServer, outcome);
        event.at = now;
        event.cluster = Some(cluster.clone());
        event.permission = word.permission.parse().ok();
        event.explanation = Some(explanation(word));
        event.kube = Some(call(word, now));
        event.source = word.source.parse().ok();
        event.principal = principal(cluster, &word.username, people);
        event.session = decisions::session_of(&word.username).filter(|id| people.contains_key(id));
        event.facts.extend(facts(word));
        let mut put = |name: &str, value: String| event.facts.insert(name.to_owned(), value);
        match (&self.ours, word.audit_id.parse::<AuditId>()) {
            (Some(ours), Ok(id)) => {
                put("through", "hub".to_owned());
                event.audit_id = id;
                event.principal = ours.principal.clone();
                event.session.clone_from(&ours.session);
                event.source = ours.source;
            }
            (None, Ok(id)) if !self.is_taken => event.audit_id = id,
            (_, _) => {
                put("sent-audit-id", text(&word.audit_id, NAME));
            }
        }
        event
    }
}

fn explanation(word: &ServerWord) -> Explanation {
    let (reason, otherwise, next) = match word.weight() {
        ServerWeight::Unauthorized => (
            Reason::ApiServerRefused,
            "the api server's authorizers do not allow it",
            Some("see what the account may do: `kubectl auth can-i --list --as USER`"),
        ),
        ServerWeight::Noted => {
            (Reason::PolicyPassed, "a policy wants the audit to know of it", None)
        }
        ServerWeight::Refused | ServerWeight::Unspecified => {
            (Reason::PolicyRefused, "admission refuses it", None)
        }
    };
    let sentence = match word.sentence.as_str() {
        "" => otherwise.to_owned(),
        sentence => text(sentence, WORDS),
    };
    let rule = word.remarks.first().map(|remark| {
        let check = if remark.check.is_empty() { "" } else { " " };
        text(&format!("{}{check}{}", remark.policy, remark.check), NAME)
    });
    Explanation { reason, rule, sentence, next: next.map(str::to_owned) }
}

fn call(word: &ServerWord, now: Timestamp) -> KubeCall {
    let name = |of: &str| text(of, NAME);
    KubeCall {
        verb: name(&word.verb),
        request_uri: text(&word.path, WORDS),
        is_resource: !word.resource.is_empty(),
        api_group: name(&word.group),
        api_version: name(&word.version),
        resource: name(&word.resource),
        subresource: name(&word.subresource),
        namespace: name(&word.namespace),
        name: name(&word.name),
        user_agent: text(&word.user_agent, AGENT),
        code: u16::try_from(word.code).unwrap_or(0),
        received: received(word, now),
    }
}

fn received(word: &ServerWord, now: Timestamp) -> Timestamp {
    match Timestamp::from_microsecond(word.received_micros) {
        Ok(told) => told_time(told.as_millisecond(), now).max(told).min(now),
        Err(_) => now,
    }
}

fn facts(word: &ServerWord) -> Vec<(String, String)> {
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: &str, most: usize| {
        if !value.is_empty() {
            facts.push((name.to_owned(), text(value, most)));
        }
    };
    put("username", &word.username, NAME);
    put("groups", &word.groups.join(","), WORDS);
    put(IMPERSONATED, &word.impersonated, NAME);
    put(IMPERSONATED_GROUPS, &word.impersonated_groups.join(","), WORDS);
    put("pod", &word.pod, NAME);
    put("allowed-by", &word.allowed_by, NAME);
    put("dry-run", if word.dry_run { "yes" } else { "" }, NAME);
    facts.extend(decisions::remarks(&word.remarks));
    facts
}

/// A use of a permission of the cluster's own, as an API server told it; `count` is how often nobody has counted it yet.
pub(super) fn used(
    cluster: &ClusterName,
    told: &AdmissionUse,
    count: u64,
    people: &decisions::People,
    now: Timestamp,
) -> Option<Use> {
    let mut used = uses::of(cluster, told, people, now)?;
    used.count = used.count.min(count);
    if used.count == 0 {
        return None;
    }
    used.key.plane = Plane::Rbac;
    used.key.resource = match (told.group.as_str(), told.resource.as_str()) {
        // What is no resource goes by its path.
        (_, path) if path.starts_with('/') => text(path, NAME),
        ("", _) => text(&format!("core{}", used.key.resource), NAME),
        _ => used.key.resource,
    };
    if told.sample.parse::<AuditId>().is_err() {
        used.sample = new_audit_id();
    }
    Some(used)
}

fn text(of: &str, most: usize) -> String {
    display_safe(&cut(of, most)).into_owned()
}
