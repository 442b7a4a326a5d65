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
    pod_security::{LevelVersion, Relabel, Version, is_known, kept_level, owner_level},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{baselines::Gate, policies::Engines};

/// For so long after a level was raised again an API server may not have heard of it.
const LINGER: Duration = Duration::from_secs(120);
/// Exceptions and lingering end by time alone.
const LOOK: Duration = Duration::from_secs(5);
/// Several changes that come together are one.
const TOGETHER: Duration = Duration::from_millis(50);

/// What a replica says that enforces Pod Security where levels are lowered, whichever these are.
pub(super) const ENFORCES: &str = "enforces";

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
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) namespace: Arc<Value>,
    pub(super) wish: Wish,
    /// Whether its level is lowered, or may be.
    pub(super) is_marked: bool,
}

/// Of a namespace only this counts: who writes anything else of it wakes nobody.
impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        let of = |place: &Self| (place.wish, place.is_marked);
        let labels = |place: &Self| place.namespace.pointer("/metadata/labels").cloned();
        of(self) == of(other)
            && uid_of(&self.namespace) == uid_of(&other.namespace)
            && labels(self) == labels(other)
    }
}

impl Place {
    /// What a replica says it asks about: another namespace of the same name is another.
    pub(super) fn key(&self) -> String {
        format!("{} {}", text_of(&self.namespace, "name"), uid_of(&self.namespace))
    }
}

/// The uid of an object.
pub(super) fn uid_of(object: &Value) -> &str {
    text_of(object, "uid")
}

fn text_of<'o>(object: &'o Value, field: &str) -> &'o str {
    let text = object.get("metadata").and_then(|metadata| metadata.get(field));
    text.and_then(Value::as_str).unwrap_or_default()
}

/// Namespaces that this replica lowered, each with its uid and the version that it had then. A watch may be late: until it has come so
/// far, what it says of them is older.
pub(super) type LoweredHere = BTreeMap<String, (String, u64)>;

fn version_of(object: &Value) -> Option<u64> {
    text_of(object, "resourceVersion").parse().ok()
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
        let keys = keys.iter().map(String::as_str).chain([ENFORCES]);
        Asked::of(keys.map(|key| (POD_SECURITY, key)))
    }
}

/// The requests about which an API server must ask: those that its own Pod Security judges.
pub(super) fn rules() -> Vec<Value> {
    vec![json!({
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
        "resources": ["pods", "pods/*"], "scope": "Namespaced",
    })]
}

/// What this replica sees, for whoever follows it.
#[derive(Clone)]
pub(crate) struct Levels {
    engines: Engines,
    gate: Gate,
    seen: Arc<watch::Sender<Seen>>,
    lowered: Arc<watch::Sender<LoweredHere>>,
}

impl Levels {
    pub(crate) fn new(engines: Engines, gate: Gate) -> Self {
        let (seen, lowered) = (Arc::default(), Arc::default());
        Self { engines, gate, seen, lowered }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    pub(super) fn changes(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Remembers that this replica lowered the level of a namespace, which is so now.
    pub(super) fn note_lowered(&self, name: &str, namespace: &Value) {
        let Some(version) = version_of(namespace) else { return };
        let uid = uid_of(namespace).to_owned();
        self.lowered.send_modify(|lowered| {
            lowered.insert(name.to_owned(), (uid, version));
        });
    }

    #[cfg(test)]
    pub(super) fn has_noted(&self, name: &str) -> bool {
        self.lowered.borrow().contains_key(name)
    }

    /// Looks whenever something changes.
    pub(crate) async fn follow(self) {
        let mut namespaces = self.engines.sources().namespaces;
        let mut changes = self.engines.changes();
        let mut baselines = self.gate.changes();
        let mut lowered = self.lowered.subscribe();
        let mut gone: BTreeMap<String, Instant> = BTreeMap::new();
        loop {
            // While nobody can say which namespaces there are, those of a moment ago are asked about.
            let standing = self.engines.standing().filter(|_| namespaces.is_current().is_ok());
            if let Some(standing) = standing {
                let all = namespaces.list();
                self.lowered.send_if_modified(|lowered| forget_seen(lowered, &all));
                let known = Known {
                    exceptions: &standing.exceptions,
                    unreadable: &standing.unreadable,
                    are_all: standing.exceptions_known,
                    namespaces: &all,
                    lowered: &self.lowered.borrow().clone(),
                    server: standing.server,
                };
                let level = |namespace: &Value| self.gate.level_of(namespace);
                let (places, coming) = look(&known, level, Timestamp::now());
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
                _ = lowered.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            tokio::time::sleep(TOGETHER).await;
        }
    }
}

/// Forgets what the watch has come to see itself; true where there was any.
fn forget_seen(lowered: &mut LoweredHere, namespaces: &[Arc<Value>]) -> bool {
    let before = lowered.len();
    lowered.retain(|name, (uid, version)| {
        let mut all = namespaces.iter();
        let found = all.find(|namespace| text_of(namespace, "name") == name);
        found.is_some_and(|found| {
            uid_of(found) == uid && version_of(found).is_none_or(|seen| seen < *version)
        })
    });
    lowered.len() != before
}

/// What is known of the cluster.
struct Known<'k> {
    exceptions: &'k [Arc<Value>],
    /// Those that cannot be read, each with why.
    unreadable: &'k [(Arc<Value>, String)],
    /// Whether these are all that there are.
    are_all: bool,
    namespaces: &'k [Arc<Value>],
    lowered: &'k LoweredHere,
    /// The minor version of the API server, where it says one.
    server: Option<u16>,
}

/// Which levels are to change, and what exceptions come to.
fn look(
    known: &Known<'_>,
    level_of_baseline: impl Fn(&Value) -> Option<String>,
    now: Timestamp,
) -> (BTreeMap<String, Place>, Vec<Coming>) {
    let read = known.exceptions.iter().filter_map(|object| {
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
    for namespace in known.namespaces {
        let name = text_of(namespace, "name");
        let level = owner_level(namespace);
        let why = cannot(name, level, level_of_baseline(namespace).as_deref())
            .or_else(|| unknown(kept_level(namespace)?, known.server));
        let mut is_excepted = false;
        for (exception, coming) in &mut all {
            if !exception.holds_at(now) || !exception.is_above_baseline(name) {
                continue;
            }
            match &why {
                // Where nothing is enforced there is nothing to be excepted from; whoever names such a namespace may not know it.
                _ if matches!(level, None | Some("privileged")) => {
                    if exception.spec().scope.namespaces.contains(name) {
                        let told = "its label enforces no level, so that there is nothing to be excepted from";
                        coming.places.insert(name.to_owned(), Some(told.to_owned()));
                    }
                }
                Some(why) => {
                    coming.places.insert(name.to_owned(), Some(why.clone()));
                }
                None => {
                    coming.places.insert(name.to_owned(), None);
                    is_excepted = true;
                }
            }
        }
        let is_marked =
            Relabel::to_restore(namespace).is_some() || known.lowered.contains_key(name);
        let wish = match (is_excepted, is_marked, known.are_all) {
            (true, _, _) => Wish::Lower,
            (false, true, true) => Wish::Restore,
            (false, true, false) => Wish::Stay,
            (false, false, _) => continue,
        };
        let namespace = Arc::clone(namespace);
        places.insert(name.to_owned(), Place { namespace, wish, is_marked });
    }
    let unreadable = known.unreadable.iter().filter(|(object, _)| names_pod_security(object));
    let unreadable = unreadable.map(|(object, told)| Coming {
        exception: format!("{}/{}", text_of(object, "namespace"), text_of(object, "name")),
        object: Arc::clone(object),
        nowhere: Some(format!("it counts nowhere, since it cannot be read: {told}")),
        places: BTreeMap::new(),
    });
    let coming = all.into_iter().map(|(_, coming)| coming).chain(unreadable).collect();
    (places, coming)
}

fn names_pod_security(exception: &Value) -> bool {
    let rules = exception.pointer("/spec/rules").and_then(Value::as_array);
    rules.into_iter().flatten().any(|rule| rule["policy"] == POD_SECURITY)
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

/// Why what its owner wants cannot be enforced here: the API server knows checks that are not known here.
fn unknown(policy: LevelVersion, server: Option<u16>) -> Option<String> {
    let server = server.map(u64::from);
    (!is_known(policy, server)).then(|| {
        let which = server.map_or("not known".to_owned(), |minor| format!("1.{minor}"));
        let newest = Version::NEWEST_KNOWN;
        format!(
            "the version of the API server is {which}, and its checks are known here up to v1.{newest}: update Nullius, or let the label \
            `pod-security.kubernetes.io/enforce-version` say `v1.{newest}` or an older version"
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
