//! Levels of Pod Security: lowered where exceptions are to count and every replica asks about the namespace, raised again at once
//! where none does any more; and what exceptions say of it in their status.
//!
//! Each namespace is written by itself, several at once: one that cannot be written is tried more and more seldom, and is in the way of
//! no other.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use nullius_kube::{
    ApiServer, Credential, KubeError,
    admission::{Asked, ExceptionStatuses, Labels, NamespaceLevels, ReplicaStore},
};
use nullius_model::{KEPT_LEVEL_LABEL, Timestamp};
use nullius_policy::{
    exception::POD_SECURITY,
    pod_security::{ENFORCE_LABEL, Relabel, is_lowered, kept_level},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{silent, written::Written};
use crate::{
    AgentError,
    admission::{
        authority::SETTLE,
        levels::{Coming, ENFORCES, Levels, Place, Seen, Wish, uid_of},
    },
};

/// So many namespaces are told of an exception.
const MOST_TOLD: usize = 20;
/// What is written for a level that is lowered.
const LOWERED: &str = "baseline";
/// And instead of it.
const RESTRICTED: &str = "restricted";
/// So many namespaces are written at once.
const AT_ONCE: usize = 16;
/// One is written within so long, or is tried again.
const WRITE_WITHIN: Duration = Duration::from_secs(1);
/// What replicas say is read within so long.
const SAID_WITHIN: Duration = Duration::from_millis(600);
/// A replica that is ready and does not say for so long that it enforces Pod Security is one of a version that does not.
const SILENT_FOR: Duration = Duration::from_secs(45);
/// Pauses between tries of a namespace that cannot be written.
const AGAIN: Duration = Duration::from_secs(2);
const AGAIN_AT_LAST: Duration = Duration::from_secs(120);
/// And of a replica that goes: nobody comes after it.
const AGAIN_WHEN_GOING: Duration = Duration::from_millis(200);

/// What the replica that leads does about levels.
pub(super) struct Lowering {
    levels: NamespaceLevels,
    statuses: ExceptionStatuses,
    places: Levels,
    /// Namespaces that are to be lowered, and since when the webhook is asked about them.
    asked: BTreeMap<String, (String, Instant)>,
    /// Why a namespace is not lowered yet.
    waiting: BTreeMap<String, String>,
    /// Namespaces that cannot be written.
    failed: Failed,
    /// Replicas that do not say that they enforce Pod Security, and since when.
    strangers: Strangers,
    /// What was lowered, and raised by somebody else.
    written: Written,
}

/// Namespaces that could not be written.
#[derive(Debug, Default)]
struct Failed(BTreeMap<String, Failure>);

#[derive(Debug)]
struct Failure {
    times: u32,
    at: Instant,
    why: String,
}

impl Failed {
    fn is_due(&self, name: &str, now: Instant) -> bool {
        let pause = |times: u32| AGAIN.saturating_mul(1 << (times - 1).min(10)).min(AGAIN_AT_LAST);
        let last = self.0.get(name);
        last.is_none_or(|last| now.duration_since(last.at) >= pause(last.times))
    }

    /// Notes it; true where it is another reason than before.
    fn note(&mut self, name: &str, why: String, now: Instant) -> bool {
        let times = self.0.get(name).map_or(0, |last| last.times) + 1;
        let before = self.0.insert(name.to_owned(), Failure { times, at: now, why: why.clone() });
        before.is_none_or(|before| before.why != why)
    }
}

/// Replicas that an API server may come to, and that do not say that they enforce Pod Security.
#[derive(Debug, Default)]
struct Strangers(BTreeMap<String, Instant>);

impl Strangers {
    fn look(&mut self, said: &BTreeMap<String, Asked>, now: Instant) {
        let is_silent = |asked: &Asked| !asked.asks(POD_SECURITY, ENFORCES);
        self.0.retain(|pod, _| said.get(pod).is_some_and(is_silent));
        for (pod, _) in said.iter().filter(|(_, asked)| is_silent(asked)) {
            self.0.entry(pod.clone()).or_insert(now);
        }
    }

    /// One that has had its time to say it.
    fn one(&self, now: Instant) -> Option<&str> {
        let mut late = self.0.iter().filter(|(_, since)| now.duration_since(**since) >= SILENT_FOR);
        late.next().map(|(pod, _)| pod.as_str())
    }
}

impl Lowering {
    pub(super) fn new(
        api: &ApiServer,
        account: &Credential,
        places: Levels,
    ) -> Result<Self, AgentError> {
        Ok(Self {
            levels: NamespaceLevels::new(api, account.clone())?,
            statuses: ExceptionStatuses::new(api, account.clone())?,
            places,
            asked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            failed: Failed::default(),
            strangers: Strangers::default(),
            written: Written::default(),
        })
    }

    /// What API servers were told a while ago does not count any more: they may have been told something else since.
    pub(super) fn begin_anew(&mut self) {
        self.asked.clear();
    }

    /// Raises the levels of namespaces in which no exception counts any more, and of all as long as there is a replica that would not
    /// enforce them. Waits for nothing.
    pub(super) async fn restore(&mut self, seen: &Seen, replicas: &ReplicaStore) {
        let now = Instant::now();
        if !seen.places.is_empty() {
            match tokio::time::timeout(SAID_WITHIN, replicas.said()).await {
                Ok(Ok(said)) => self.strangers.look(&said, now),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "cannot ask whether every replica enforces Pod Security");
                }
                Err(_) => tracing::debug!("nobody says in time what replicas do"),
            }
        } else {
            self.strangers = Strangers::default();
        }
        let all = self.strangers.one(now).is_some();
        self.failed.0.retain(|name, _| seen.places.contains_key(name));
        let due = seen.places.iter().filter(|(name, place)| {
            place.is_marked && (all || place.wish == Wish::Restore) && self.failed.is_due(name, now)
        });
        let due: Vec<(&String, &Place)> = due.take(AT_ONCE).collect();
        self.relabel(&due, Relabel::to_restore).await;
    }

    /// Raises all levels, for whoever goes and is followed by nobody. Also those of which it is not known that they are lowered: a
    /// moment ago they may have been.
    pub(super) async fn leave(&mut self, seen: &Seen) {
        let mut left: Vec<(&String, &Place)> = seen.places.iter().collect();
        while !left.is_empty() {
            for several in left.chunks(AT_ONCE) {
                self.relabel(several, Relabel::to_restore).await;
            }
            left.retain(|(name, _)| self.failed.0.contains_key(*name));
            if !left.is_empty() {
                tokio::time::sleep(AGAIN_WHEN_GOING).await;
            }
        }
    }

    /// Lowers levels, where API servers have asked the webhook about the namespace for a while and every replica says that it
    /// knows: an API server asks whichever it likes.
    pub(super) async fn lower(&mut self, seen: &Seen, replicas: &ReplicaStore) {
        self.waiting.clear();
        let now = Instant::now();
        let key = |name: &String| {
            let place = seen.places.get(name).filter(|place| place.wish == Wish::Lower);
            place.map(Place::key)
        };
        self.asked.retain(|name, (known, _)| key(name).as_ref() == Some(known));
        self.written.retain(|name| seen.places.contains_key(name));
        let mut said = None;
        let mut due = Vec::new();
        for (name, place) in &seen.places {
            if place.wish != Wish::Lower {
                continue;
            }
            let (_, since) = self.asked.entry(name.clone()).or_insert_with(|| (place.key(), now));
            let since = *since;
            let Some(relabel) = Relabel::to_lower(&place.namespace) else { continue };
            if !self.failed.is_due(name, now) || due.len() == AT_ONCE {
                continue;
            }
            if relabel != Relabel::Lower {
                due.push((name, place));
                continue;
            }
            if since.elapsed() < SETTLE {
                let told = "when API servers have asked the webhook for a moment";
                self.waiting.insert(name.clone(), told.to_owned());
                continue;
            }
            if said.is_none() {
                match tokio::time::timeout(SAID_WITHIN, replicas.said()).await {
                    Ok(Ok(all)) => said = Some(all),
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "cannot ask whether every replica knows of a namespace");
                        return;
                    }
                    Err(_) => return,
                }
            }
            let is_silent = |what: &str| silent(said.as_ref(), POD_SECURITY, what);
            if let Some(silent) = is_silent(&place.key()).or_else(|| is_silent(ENFORCES)) {
                self.waiting.insert(name.clone(), format!("when {silent} has heard of it"));
                continue;
            }
            if self.written.is_due(name, Some(LOWERED), now) {
                due.push((name, place));
            } else {
                let told = "later: somebody else raises the level again";
                self.waiting.insert(name.clone(), told.to_owned());
            }
        }
        self.relabel(&due, Relabel::to_lower).await;
    }

    /// Writes several namespaces at once, each by one patch that does it all, and none that is another by now.
    async fn relabel(
        &mut self,
        places: &[(&String, &Place)],
        relabel: fn(&Value) -> Option<Relabel>,
    ) {
        let writes = places.iter().map(|(name, place)| {
            let write = self.one(name, place, relabel);
            async move { (*name, tokio::time::timeout(WRITE_WITHIN, write).await) }
        });
        for (name, outcome) in join_all(writes).await {
            let why = match outcome {
                Ok(Ok(written)) => {
                    self.failed.0.remove(name);
                    if let Some(written) = written {
                        self.note(name, &written);
                    }
                    continue;
                }
                Ok(Err(error)) => crate::error::chain(&error),
                Err(_) => "the API server does not answer in time".to_owned(),
            };
            if self.failed.note(name, why.clone(), Instant::now()) {
                tracing::warn!(namespace = name, why, "cannot change the level of Pod Security");
            }
        }
    }

    fn note(&mut self, name: &str, written: &Value) {
        let is_lowered = is_lowered(written);
        tracing::info!(namespace = name, is_lowered, "changed the level of Pod Security");
        if is_lowered {
            self.places.note_lowered(name, written);
            self.written.note(name, Some(LOWERED), Instant::now());
        }
    }

    async fn one(
        &self,
        name: &str,
        place: &Place,
        relabel: fn(&Value) -> Option<Relabel>,
    ) -> Result<Option<Value>, KubeError> {
        let change = |found: &Value| -> Option<Labels> {
            let (level, mark) = match relabel(found)? {
                // What was weighed is what is lowered: another level or version is weighed again.
                Relabel::Lower if kept_level(found) != kept_level(&place.namespace) => return None,
                Relabel::Lower => (Some(LOWERED), Some(RESTRICTED)),
                Relabel::Restore => (Some(RESTRICTED), None),
                Relabel::Forget => (found["metadata"]["labels"][ENFORCE_LABEL].as_str(), None),
            };
            let labels = [(ENFORCE_LABEL, level), (KEPT_LEVEL_LABEL, mark)];
            Some(labels.map(|(key, value)| (key, value.map(str::to_owned))).into())
        };
        self.levels.change(name, uid_of(&place.namespace), change).await
    }

    /// Why an exception does not count in a namespace; `None` where it does.
    fn why(&self, seen: &Seen, name: &str, cannot: Option<&String>) -> Option<String> {
        if let Some(cannot) = cannot {
            return Some(cannot.clone());
        }
        if let Some(stranger) = self.strangers.one(Instant::now()) {
            return Some(format!("it counts when `{stranger}` enforces Pod Security, or is gone"));
        }
        if seen.places.get(name).is_some_and(|place| is_lowered(&place.namespace)) {
            return None;
        }
        Some(match (self.failed.0.get(name), self.waiting.get(name)) {
            (Some(Failure { why, .. }), _) => format!("it counts when this is right: {why}"),
            (None, Some(when)) => format!("it counts {when}"),
            (None, None) => "it counts in a moment".to_owned(),
        })
    }

    /// Tells in exceptions where they count.
    pub(super) async fn tell(&self, seen: &Seen, now: Timestamp) {
        for coming in &seen.coming {
            let status = self.status(seen, coming, now);
            if coming.object.get("status") == Some(&status) {
                continue;
            }
            let Some((home, name)) = coming.exception.split_once('/') else { continue };
            if let Err(error) = self.statuses.tell(home, name, &whole(&status, coming)).await {
                tracing::debug!(%error, exception = coming.exception, "cannot tell where an exception counts");
            }
        }
    }

    fn status(&self, seen: &Seen, coming: &Coming, now: Timestamp) -> Value {
        let known = coming.object.pointer("/status/podSecurity").and_then(Value::as_array);
        let since = |name: &str| {
            let mut known = known.into_iter().flatten();
            known.find(|place| place["namespace"] == name)?.get("inForceSince").cloned()
        };
        let places = coming.places.iter().take(MOST_TOLD).map(|(name, cannot)| {
            match self.why(seen, name, cannot.as_ref()) {
                Some(why) => json!({ "namespace": name, "message": why }),
                None => {
                    let since = since(name).unwrap_or_else(|| json!(seconds(now)));
                    json!({ "namespace": name, "inForceSince": since })
                }
            }
        });
        let mut status = json!({ "podSecurity": places.collect::<Vec<_>>() });
        if let Some(generation) = coming.object.pointer("/metadata/generation") {
            status["observedGeneration"] = generation.clone();
        }
        if let Some(nowhere) = &coming.nowhere {
            status["message"] = json!(nowhere);
        }
        status
    }

    /// What people read of exceptions that do not count everywhere.
    pub(super) fn troubles(&self, seen: &Seen) -> Vec<String> {
        let mut told = Vec::new();
        for Coming { exception, nowhere, places, .. } in &seen.coming {
            let whole = nowhere.iter().map(ToString::to_string);
            let each = places.iter().filter_map(|(name, cannot)| {
                let why = self.why(seen, name, cannot.as_ref())?;
                Some(format!("in `{name}`: {why}"))
            });
            told.extend(
                whole
                    .chain(each.take(MOST_TOLD))
                    .map(|told| format!("PolicyException/{exception}: Pod Security: {told}")),
            );
        }
        let quarrels = self.written.quarrels().map(|name| {
            format!("Namespace/{name}: somebody else raises its level of Pod Security again and again; take the exceptions away, or leave the label to the agent")
        });
        told.extend(quarrels);
        // Of what cannot be lowered exceptions speak.
        let raised = seen.places.iter().filter(|(_, place)| place.wish == Wish::Restore);
        told.extend(raised.filter_map(|(name, _)| {
            let why = &self.failed.0.get(name)?.why;
            Some(format!(
                "Namespace/{name}: its level of Pod Security cannot be raised, and no exception counts there: {why}"
            ))
        }));
        told
    }
}

#[cfg(test)]
impl Lowering {
    /// As if all replicas that are silent had been for long.
    pub(super) fn age_strangers(&mut self) {
        self.strangers.0.values_mut().for_each(|since| *since -= SILENT_FOR);
    }

    /// As if API servers had asked for long.
    pub(super) fn age_asked(&mut self) {
        self.asked.values_mut().for_each(|(_, since)| *since -= SETTLE);
    }
}

/// What is patched: what was said before and is not any more goes.
fn whole(status: &Value, coming: &Coming) -> Value {
    let mut whole = status.clone();
    let before = coming.object.get("status").and_then(Value::as_object);
    for key in before.into_iter().flat_map(|before| before.keys()) {
        if whole.get(key).is_none() {
            whole[key] = Value::Null;
        }
    }
    whole
}

/// As Kubernetes writes times.
fn seconds(now: Timestamp) -> String {
    let text = now.to_string();
    match text.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => text,
    }
}
