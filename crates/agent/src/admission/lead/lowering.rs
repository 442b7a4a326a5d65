//! Levels of Pod Security: lowered where exceptions are to count and every replica asks about the namespace, raised again at once
//! where none does any more; and what exceptions say of it in their status.

use std::collections::BTreeMap;

use nullius_kube::{
    ApiServer, Credential, KubeError,
    admission::{ExceptionStatuses, NamespaceLevels, ReplicaStore},
};
use nullius_model::{KEPT_LEVEL_LABEL, Timestamp};
use nullius_policy::{
    exception::POD_SECURITY,
    pod_security::{ENFORCE_LABEL, Relabel, is_lowered},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{silent, written::Written};
use crate::{
    AgentError,
    admission::{
        authority::SETTLE,
        levels::{Coming, Place, Seen, Wish},
    },
};

/// So many namespaces are told of an exception.
const MOST_TOLD: usize = 20;
/// What is written for a level that is lowered.
const LOWERED: &str = "baseline";

/// What the replica that leads does about levels.
pub(super) struct Lowering {
    levels: NamespaceLevels,
    statuses: ExceptionStatuses,
    /// Namespaces that are to be lowered, and since when the webhook is asked about them.
    asked: BTreeMap<String, (String, Instant)>,
    /// Why a namespace is not lowered yet.
    waiting: BTreeMap<String, String>,
    /// What was lowered, and raised by somebody else.
    written: Written,
}

impl Lowering {
    pub(super) fn new(api: &ApiServer, account: &Credential) -> Result<Self, AgentError> {
        Ok(Self {
            levels: NamespaceLevels::new(api, account.clone())?,
            statuses: ExceptionStatuses::new(api, account.clone())?,
            asked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            written: Written::default(),
        })
    }

    /// Raises the levels of namespaces in which no exception counts any more. Waits for nothing.
    pub(super) async fn restore(&mut self, seen: &Seen) {
        for (name, place) in &seen.places {
            if place.wish == Wish::Restore
                && let Some(relabel) = Relabel::to_restore(&place.namespace)
            {
                self.relabel(name, place, relabel).await;
            }
        }
    }

    /// Raises all levels, for whoever goes and is followed by nobody.
    pub(super) async fn leave(&mut self, seen: &Seen) {
        for (name, place) in &seen.places {
            if let Some(relabel) = Relabel::to_restore(&place.namespace) {
                self.relabel(name, place, relabel).await;
            }
        }
    }

    /// Lowers levels, where API servers have asked the webhook about the namespace for a while and every replica says that it
    /// knows: an API server asks whichever it likes.
    pub(super) async fn lower(&mut self, seen: &Seen, replicas: &ReplicaStore) {
        self.waiting.clear();
        let key = |name: &String| {
            let place = seen.places.get(name).filter(|place| place.wish == Wish::Lower);
            place.map(Place::key)
        };
        self.asked.retain(|name, (known, _)| key(name).as_ref() == Some(known));
        self.written.retain(|name| seen.places.contains_key(name));
        let mut said = None;
        for (name, place) in &seen.places {
            if place.wish != Wish::Lower {
                continue;
            }
            let now = Instant::now();
            let (_, since) = self.asked.entry(name.clone()).or_insert_with(|| (place.key(), now));
            let since = *since;
            let Some(relabel) = Relabel::to_lower(&place.namespace) else { continue };
            if relabel != Relabel::Lower {
                self.relabel(name, place, relabel).await;
                continue;
            }
            if since.elapsed() < SETTLE {
                let told = "when API servers have asked the webhook for a moment";
                self.waiting.insert(name.clone(), told.to_owned());
                continue;
            }
            if said.is_none() {
                match replicas.said().await {
                    Ok(all) => said = Some(all),
                    Err(error) => {
                        tracing::warn!(%error, "cannot ask whether every replica knows of a namespace");
                        return;
                    }
                }
            }
            if let Some(silent) = silent(said.as_ref(), POD_SECURITY, &place.key()) {
                self.waiting.insert(name.clone(), format!("when {silent} has heard of it"));
                continue;
            }
            if self.written.is_due(name, Some(LOWERED), Instant::now()) {
                self.relabel(name, place, relabel).await;
            } else {
                let told = "later: somebody else raises the level again";
                self.waiting.insert(name.clone(), told.to_owned());
            }
        }
    }

    /// One patch does it all, and none where the namespace is another by now.
    async fn relabel(&mut self, name: &str, place: &Place, relabel: Relabel) {
        let labels = match relabel {
            Relabel::Lower => json!({ ENFORCE_LABEL: LOWERED, KEPT_LEVEL_LABEL: "restricted" }),
            Relabel::Restore => json!({ ENFORCE_LABEL: "restricted", KEPT_LEVEL_LABEL: null }),
            Relabel::Forget => json!({ KEPT_LEVEL_LABEL: null }),
        };
        match self.levels.write(&place.namespace, &labels).await {
            Ok(true) => {
                tracing::info!(namespace = name, ?relabel, "changed the level of Pod Security");
                if relabel == Relabel::Lower {
                    self.written.note(name, Some(LOWERED), Instant::now());
                }
            }
            // Whoever wrote it is heard of, and the next round looks again.
            Ok(false) => {}
            Err(error @ KubeError::Unreachable { .. }) => {
                tracing::debug!(%error, namespace = name, "cannot change the level of Pod Security");
            }
            Err(error) => {
                tracing::warn!(%error, namespace = name, "cannot change the level of Pod Security");
                self.waiting.insert(name.to_owned(), format!("when this is right: {error}"));
            }
        }
    }

    /// Why an exception does not count in a namespace; `None` where it does.
    fn why(&self, seen: &Seen, name: &str, cannot: Option<&String>) -> Option<String> {
        if let Some(cannot) = cannot {
            return Some(cannot.clone());
        }
        let is_in_force = seen.places.get(name).is_some_and(|place| is_lowered(&place.namespace));
        let told = || match self.waiting.get(name) {
            Some(when) => format!("it counts {when}"),
            None => "it counts in a moment".to_owned(),
        };
        (!is_in_force).then(told)
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
        told
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
