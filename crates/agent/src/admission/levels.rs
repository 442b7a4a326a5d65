//! Where exceptions from the Pod Security Standards count: namespaces whose level the replica that leads lowers, and in which the
//! webhook enforces what their owner wants, with the exceptions.
//!
//! The webhook is asked about such a namespace before its level is lowered, as long as it is, and a while after: an API server may
//! hear late of either. What it enforces there it reads of the namespace itself, not of what stands here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use nullius_kube::admission::{Asked, EXCLUDED_NAMESPACES};
use nullius_model::{Namespace, Timestamp};
use nullius_policy::{
    exception::{Exception, POD_SECURITY},
    pod_security::{Relabel, UNJUDGED, owner_level},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{baselines::Gate, policies::Engines};

/// For so long after a level was raised again an API server may not have heard of it.
const LINGER: Duration = Duration::from_secs(120);
/// Exceptions and lingering end by time alone.
const LOOK: Duration = Duration::from_secs(5);

/// What is to become of the level of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Exceptions are to count there.
    Lower,
    /// It is to be as its owner wants it.
    Restore,
    /// Nobody knows now which exceptions there are.
    Stay,
}

/// A namespace about whose pods the webhook is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    pub(super) namespace: Arc<Value>,
    pub(super) wish: Wish,
}

impl Place {
    /// What a replica says it asks about: another namespace of the same name is another.
    pub(super) fn key(&self) -> String {
        let text = |field: &str| self.namespace.pointer(field).and_then(Value::as_str);
        let (name, uid) = (text("/metadata/name"), text("/metadata/uid"));
        format!("{} {}", name.unwrap_or_default(), uid.unwrap_or_default())
    }
}

/// What an exception comes to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Coming {
    /// `namespace/name`.
    pub(super) exception: String,
    /// As the cluster has it.
    pub(super) object: Arc<Value>,
    /// What of it counts nowhere, and why.
    pub(super) nowhere: Option<String>,
    /// Namespaces that it is for, each with why it cannot count there.
    pub(super) places: BTreeMap<String, Option<String>>,
}

/// What a replica sees.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) places: BTreeMap<String, Place>,
    /// Namespaces that were places a moment ago.
    lingering: BTreeSet<String>,
    pub(super) coming: Vec<Coming>,
}

impl Seen {
    /// The namespaces about whose pods an API server must ask.
    pub(super) fn asked_about(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self.places.keys().chain(&self.lingering).collect();
        names.into_iter().cloned().collect()
    }

    /// What this replica says of itself.
    pub(super) fn asked(&self) -> Asked {
        let keys: Vec<String> = self.places.values().map(Place::key).collect();
        Asked::of(keys.iter().map(|key| (POD_SECURITY, key.as_str())))
    }
}

/// The requests about which an API server must ask: those that its own Pod Security judges.
pub(super) fn rules() -> Vec<Value> {
    vec![json!({
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
        "resources": ["pods", "pods/*"], "scope": "Namespaced",
    })]
}

/// And the condition without which kubelets would have to ask about each status.
pub(super) fn condition() -> (&'static str, String) {
    let unjudged = UNJUDGED.map(|subresource| format!("'{subresource}'")).join(", ");
    ("judged", format!("!has(request.subResource) || !(request.subResource in [{unjudged}])"))
}

/// What this replica sees, for whoever follows it.
#[derive(Clone)]
pub(crate) struct Levels {
    engines: Engines,
    gate: Gate,
    seen: Arc<watch::Sender<Seen>>,
}

impl Levels {
    pub(crate) fn new(engines: Engines, gate: Gate) -> Self {
        Self { engines, gate, seen: Arc::new(watch::Sender::new(Seen::default())) }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    pub(super) fn changes(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Looks whenever something changes.
    pub(crate) async fn follow(self) {
        let mut namespaces = self.engines.sources().namespaces;
        let mut changes = self.engines.changes();
        let mut baselines = self.gate.changes();
        let mut gone: BTreeMap<String, Instant> = BTreeMap::new();
        loop {
            if let Some(standing) = self.engines.standing() {
                let (places, coming) = look(
                    &standing.exceptions,
                    standing.exceptions_known,
                    &namespaces.list(),
                    |namespace| self.gate.level_of(namespace),
                    Timestamp::now(),
                );
                let now = Instant::now();
                let before = self.seen.borrow().asked_about();
                for name in before.into_iter().filter(|name| !places.contains_key(name)) {
                    gone.entry(name).or_insert(now);
                }
                gone.retain(|name, since| {
                    !places.contains_key(name) && now.duration_since(*since) < LINGER
                });
                let seen = Seen { places, lingering: gone.keys().cloned().collect(), coming };
                self.seen.send_if_modified(|known| {
                    let is_new = *known != seen;
                    *known = seen;
                    is_new
                });
            }
            tokio::select! {
                () = namespaces.changed() => {}
                () = changes.next() => {}
                _ = baselines.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

/// Which levels are to change, and what exceptions come to.
fn look(
    exceptions: &[Arc<Value>],
    are_known: bool,
    namespaces: &[Arc<Value>],
    level_of_baseline: impl Fn(&Value) -> Option<String>,
    now: Timestamp,
) -> (BTreeMap<String, Place>, Vec<Coming>) {
    let read = exceptions.iter().filter_map(|object| {
        let exception = Exception::read(object, now).ok()?;
        exception.is_from(POD_SECURITY).then_some((exception, object))
    });
    let mut all: Vec<(Exception, Coming)> = read
        .map(|(exception, object)| {
            let coming = Coming {
                exception: exception.name().to_owned(),
                object: Arc::clone(object),
                nowhere: nowhere(&exception, now),
                places: BTreeMap::new(),
            };
            (exception, coming)
        })
        .collect();
    let mut places = BTreeMap::new();
    for namespace in namespaces {
        let name = namespace.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let level = owner_level(namespace);
        let why = cannot(name, level, level_of_baseline(namespace).as_deref());
        let mut is_excepted = false;
        for (exception, coming) in &mut all {
            if !exception.holds_at(now) || !exception.is_above_baseline(name) {
                continue;
            }
            match &why {
                // Where nothing is enforced there is nothing to be excepted from.
                _ if matches!(level, None | Some("privileged")) => {}
                Some(why) => {
                    coming.places.insert(name.to_owned(), Some(why.clone()));
                }
                None => {
                    coming.places.insert(name.to_owned(), None);
                    is_excepted = true;
                }
            }
        }
        let is_marked = Relabel::to_restore(namespace).is_some();
        let wish = match (is_excepted, is_marked, are_known) {
            (true, _, _) => Wish::Lower,
            (false, true, true) => Wish::Restore,
            (false, true, false) => Wish::Stay,
            (false, false, _) => continue,
        };
        places.insert(name.to_owned(), Place { namespace: Arc::clone(namespace), wish });
    }
    (places, all.into_iter().map(|(_, coming)| coming).collect())
}

/// What of an exception counts in no namespace.
fn nowhere(exception: &Exception, now: Timestamp) -> Option<String> {
    if !exception.holds_at(now) {
        return Some("it has ended".to_owned());
    }
    let kinds = &exception.spec().scope.kinds;
    if !kinds.is_empty() && !kinds.contains("Pod") {
        return Some(
            "Pod Security refuses pods alone: name `Pod` among the `kinds` of the scope".to_owned(),
        );
    }
    let checks = exception.checks_of_baseline();
    (!checks.is_empty()).then(|| {
        format!(
            "the level `baseline` is never lowered, so that its checks `{}` are refused whatever is excepted",
            checks.join("`, `")
        )
    })
}

/// Why no exception can count in a namespace.
fn cannot(name: &str, level: Option<&str>, of_baseline: Option<&str>) -> Option<String> {
    if EXCLUDED_NAMESPACES.contains(&name) {
        return Some("the webhook is not asked about this namespace".to_owned());
    }
    if name.parse::<Namespace>().is_err() {
        return Some("it has no name of a namespace".to_owned());
    }
    let told = |level: &str, who: &str| {
        format!("{who} `{level}`, and only what `restricted` has beyond `baseline` can be excepted")
    };
    match (level, of_baseline) {
        (Some("restricted"), None | Some("restricted")) => None,
        (_, Some(level)) if level != "restricted" => {
            Some(told(level, "its NamespaceBaseline says"))
        }
        (level, _) => Some(told(level.unwrap_or("privileged"), "its label says")),
    }
}

#[cfg(test)]
mod tests;
