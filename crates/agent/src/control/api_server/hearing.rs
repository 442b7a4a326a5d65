//! From a list of the API server to what the hub is told: each answered request once, what the API server said of it as a word, and what
//! it used, merged.
//!
//! What sessions of the hub use, the hub itself has counted: their tokens never leave the agent, so that no request of theirs passes it by.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
};

use nullius_audit::api_server::{
    Answered, Authorized, NotAList, Weight, rbac_permission, rbac_source, read_list,
};
use nullius_kube::{PROVISIONER, ROLE_WRITER, SESSIONS_NAMESPACE, SYSTEM_NAMESPACE};
use nullius_model::ClusterName;
use nullius_proto::agent_v1::{
    AdmissionEffect, AdmissionRemark, AdmissionUse, ServerWeight, ServerWord,
};

use super::meters::{HearingMeters, ListOutcome};
use crate::report::{Heard, Reports};

/// Requests that are remembered, since their list may come again: an API server tries for some minutes.
const REMEMBERED: usize = 200_000;
/// Who sent what nobody was proven for.
const UNPROVEN: &str = "(unproven)";
/// Letters of names and of what is said.
const NAME: usize = 253;
const WORDS: usize = 2_000;
const REMARK_WORDS: usize = 1_000;
const GROUPS: usize = 32;
const REMARKS: usize = 16;

/// Hears lists.
pub(super) struct Hearing {
    cluster: ClusterName,
    reports: Reports,
    meters: HearingMeters,
    hasher: RandomState,
    known: Mutex<Known>,
}

/// Why a list was not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotTaken {
    #[error("there is no room now; try again")]
    NoRoom,
    #[error(transparent)]
    Unreadable(#[from] NotAList),
}

/// Requests that were told, the oldest first.
#[derive(Default)]
struct Known {
    order: VecDeque<u64>,
    all: HashSet<u64>,
}

impl Known {
    fn add(&mut self, mark: u64) {
        if !self.all.insert(mark) {
            return;
        }
        self.order.push_back(mark);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

impl Hearing {
    pub(super) fn new(cluster: ClusterName, reports: Reports, meters: HearingMeters) -> Self {
        let (hasher, known) = (RandomState::new(), Mutex::default());
        Self { cluster, reports, meters, hasher, known }
    }

    /// Counts somebody who did not get past TLS.
    pub(super) fn met_stranger(&self) {
        self.meters.strangers.add_one(());
    }

    /// Takes a list, all of it or nothing.
    pub(super) fn hear(&self, body: &[u8]) -> Result<(), NotTaken> {
        let taken = self.take(body);
        self.meters.lists.add_one(match taken {
            Ok(()) => ListOutcome::Taken,
            Err(NotTaken::NoRoom) => ListOutcome::TurnedAway,
            Err(NotTaken::Unreadable(_)) => ListOutcome::Unreadable,
        });
        taken
    }

    fn take(&self, body: &[u8]) -> Result<(), NotTaken> {
        let listed = read_list(body).inspect_err(|_| {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let mark = self.hasher.hash_one(body);
            // An API server tells again what was not taken: it is one loss.
            if !known.all.contains(&mark) {
                known.add(mark);
                self.reports.unreadable_list();
            }
        })?;
        // Two replicas of an API server may tell at once; the same list comes one after the other.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let unreadable = u64::try_from(listed.unreadable).unwrap_or(u64::MAX);
        let mut heard = Heard { unreadable, ..Heard::default() };
        let mut marks = Vec::new();
        let mut within = HashSet::new();
        for answered in &listed.answered {
            let mark = self.hasher.hash_one(mark_of(answered));
            if known.all.contains(&mark) || !within.insert(mark) {
                self.meters.repeated.add_one(());
                continue;
            }
            marks.push(mark);
            heard.uses.extend(uses(&self.cluster, answered));
            heard.words.extend(word(&self.cluster, answered));
        }
        self.reports.hear(heard).map_err(|_| NotTaken::NoRoom)?;
        for mark in marks {
            known.add(mark);
            self.meters.events.add_one(());
        }
        Ok(())
    }
}

/// What makes two events the same one. The Audit-ID alone does not: a caller may send the same one with each request.
fn mark_of(answered: &Answered) -> impl std::hash::Hash {
    (
        answered.audit_id.clone(),
        answered.stage.clone(),
        answered.received.as_nanosecond(),
        answered.at.as_nanosecond(),
        answered.username.clone(),
        answered.verb.clone(),
        answered.path.clone(),
    )
}

fn is_session(username: &str) -> bool {
    is_account_of(username, SESSIONS_NAMESPACE).is_some()
}

fn is_account_of<'a>(username: &'a str, namespace: &str) -> Option<&'a str> {
    username.strip_prefix("system:serviceaccount:")?.strip_prefix(namespace)?.strip_prefix(':')
}

/// What was used: by whom it was sent or, where somebody was impersonated, by whom it was sent as.
fn uses(cluster: &ClusterName, answered: &Answered) -> Vec<AdmissionUse> {
    let Some(decision) = answered.decision() else { return Vec::new() };
    if is_session(&answered.username) {
        return Vec::new();
    }
    let mark = answered.mark();
    let permission = rbac_permission(cluster, &answered.reason);
    let permission = permission.map(|id| id.to_string()).unwrap_or_default();
    let millis = answered.received.as_millisecond();
    let sender = match answered.username.as_str() {
        "" => UNPROVEN,
        name => name,
    };
    let acting = answered.impersonated.as_deref().unwrap_or(sender);
    let object = answered.object.clone().unwrap_or_default();
    let resource = match answered.object {
        Some(_) => cut(&object.resource, NAME),
        None => cut(&answered.path, NAME),
    };
    let one = AdmissionUse {
        username: cut(acting, NAME),
        operation: cut(&answered.verb, NAME),
        group: cut(&object.group, NAME),
        resource,
        subresource: cut(&object.subresource, NAME),
        namespace: cut(&object.namespace, NAME),
        allowed: decision == Authorized::Allow,
        permission,
        first_millis: millis,
        last_millis: millis,
        count: 1,
        sample: cut(&answered.audit_id, NAME),
        marks: vec![mark],
    };
    let impersonation = |allowed| AdmissionUse {
        username: cut(sender, NAME),
        operation: "impersonate".to_owned(),
        resource: "users".to_owned(),
        group: String::new(),
        subresource: String::new(),
        namespace: String::new(),
        allowed,
        permission: String::new(),
        marks: vec![!mark],
        ..one.clone()
    };
    // Of what they would have done nobody has decided.
    if answered.is_refused_impersonation() {
        return vec![impersonation(false)];
    }
    let acted = answered.impersonated.as_ref().map(|_| impersonation(true));
    std::iter::once(one.clone()).chain(acted).collect()
}

/// What the API server said of a request, where it said something.
fn word(cluster: &ClusterName, answered: &Answered) -> Option<ServerWord> {
    // How the agent sees that its guards stand: it is refused every few seconds, and changes nothing.
    let own = is_account_of(&answered.username, SYSTEM_NAMESPACE);
    if answered.dry_run && own.is_some_and(|name| [PROVISIONER, ROLE_WRITER].contains(&name)) {
        return None;
    }
    let said = answered.said()?;
    let (weight, effect) = match said.weight {
        Weight::Unauthorized => (ServerWeight::Unauthorized, AdmissionEffect::Denied),
        Weight::Refused => (ServerWeight::Refused, AdmissionEffect::Denied),
        Weight::Noted => (ServerWeight::Noted, AdmissionEffect::Audited),
    };
    let remarks = said.remarks.iter().take(REMARKS).enumerate().map(|(number, remark)| {
        // Behind the refusal stand notes.
        let effect = if number == 0 { effect } else { AdmissionEffect::Audited };
        AdmissionRemark {
            effect: effect.into(),
            policy: cut(&remark.policy, NAME),
            binding: cut(&remark.binding, NAME),
            check: cut(&remark.check, NAME),
            message: cut(&remark.message, REMARK_WORDS),
            ..AdmissionRemark::default()
        }
    });
    let object = answered.object.clone().unwrap_or_default();
    let permission = rbac_permission(cluster, &answered.reason);
    Some(ServerWord {
        audit_id: cut(&answered.audit_id, NAME),
        received_micros: answered.received.as_microsecond(),
        username: cut(&answered.username, NAME),
        groups: names(&answered.groups),
        impersonated: cut(answered.impersonated.as_deref().unwrap_or_default(), NAME),
        impersonated_groups: names(&answered.impersonated_groups),
        pod: cut(answered.pod.as_deref().unwrap_or_default(), NAME),
        source: answered.source.map(|source| source.to_string()).unwrap_or_default(),
        user_agent: cut(&answered.user_agent, NAME),
        verb: cut(&answered.verb, NAME),
        path: cut(&answered.path, WORDS),
        resource: cut(&object.resource, NAME),
        group: cut(&object.group, NAME),
        version: cut(&object.version, NAME),
        subresource: cut(&object.subresource, NAME),
        namespace: cut(&object.namespace, NAME),
        name: cut(&object.name, NAME),
        dry_run: answered.dry_run,
        code: u32::from(answered.code),
        weight: weight.into(),
        sentence: cut(&said.sentence, WORDS),
        remarks: remarks.collect(),
        allowed_by: cut(rbac_source(&answered.reason).unwrap_or_default(), NAME),
        permission: permission.map(|id| id.to_string()).unwrap_or_default(),
    })
}

fn names(groups: &[String]) -> Vec<String> {
    groups.iter().take(GROUPS).map(|group| cut(group, NAME)).collect()
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => text[..at].to_owned(),
    }
}
