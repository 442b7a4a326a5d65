//! A cache of all objects of a kind, kept by a watch: what is known, and whether it is all.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use futures::{StreamExt as _, pin_mut};
use kube::{
    Api,
    api::{ApiResource, DynamicObject},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde_json::Value;
use tokio::sync::watch;

use crate::{ApiServer, ConnectError, Credential};

/// A watch is begun anew after so long; one that a dead connection holds is noticed then.
const WATCH_SECONDS: u32 = 30;

/// Which objects are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// `deployments`.
    pub plural: String,
    /// The one namespace to look at; none for all.
    pub namespace: Option<String>,
    /// Labels that they must have.
    pub labels: Option<String>,
    /// The one name to look at.
    pub name: Option<String>,
}

impl Watched {
    /// All objects of a kind, in all namespaces.
    pub fn all(api_version: &str, kind: &str, plural: &str) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            namespace: None,
            labels: None,
            name: None,
        }
    }
}

/// By namespace and name.
type All = BTreeMap<(String, String), Arc<Value>>;

/// The objects of a kind as the cluster has them.
#[derive(Clone)]
pub struct Objects {
    all: Arc<RwLock<All>>,
    state: watch::Receiver<State>,
}

/// Whether it is all, and what is wrong; whoever follows it hears of each change of the objects.
#[derive(Debug, Clone, Default)]
struct State {
    /// Everything was listed once.
    complete: bool,
    wrong: Option<String>,
}

impl Objects {
    /// Begins to watch; what keeps the cache is to be run for as long as it is used.
    pub fn watch(
        server: &ApiServer,
        credential: Credential,
        what: &Watched,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), ConnectError> {
        let (group, version) =
            what.api_version.split_once('/').unwrap_or(("", what.api_version.as_str()));
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: what.api_version.clone(),
            kind: what.kind.clone(),
            plural: what.plural.clone(),
        };
        let client = server.client(credential)?;
        let api: Api<DynamicObject> = match &what.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
        config.label_selector.clone_from(&what.labels);
        config.field_selector = what.name.as_ref().map(|name| format!("metadata.name={name}"));
        let (told, state) = watch::channel(State::default());
        let objects = Self { all: Arc::default(), state };
        let keeping = keep(Arc::clone(&objects.all), told, api, config, what.clone());
        Ok((objects, keeping))
    }

    /// One of them; `None` where it is not known.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.read().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All of them, sorted by namespace and name.
    pub fn list(&self) -> Vec<Arc<Value>> {
        self.read().values().cloned().collect()
    }

    /// Whether everything was listed once, and otherwise what is in the way.
    pub fn is_complete(&self) -> Result<(), String> {
        let state = self.state.borrow();
        match (state.complete, &state.wrong) {
            (true, _) => Ok(()),
            (false, Some(wrong)) => Err(wrong.clone()),
            (false, None) => Err("they are still being read".to_owned()),
        }
    }

    /// Waits until everything was listed once.
    pub async fn completed(&mut self) {
        // Whoever keeps it lives as long as the agent.
        let _ = self.state.wait_for(|state| state.complete).await;
    }

    /// Waits for a change since this was last waited for: none is missed that comes while somebody looks.
    pub async fn changed(&mut self) {
        let _ = self.state.changed().await;
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, All> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn keep(
    all: Arc<RwLock<All>>,
    told: watch::Sender<State>,
    api: Api<DynamicObject>,
    config: watcher::Config,
    what: Watched,
) {
    let events = watcher::watcher(api, config).default_backoff();
    pin_mut!(events);
    let mut listing = All::new();
    while let Some(event) = events.next().await {
        let mut into = all.write().unwrap_or_else(PoisonError::into_inner);
        let done = match event {
            Ok(Event::Init) => {
                listing.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                let (key, object) = entry(object, &what);
                listing.insert(key, object);
                continue;
            }
            Ok(Event::InitDone) => {
                *into = std::mem::take(&mut listing);
                true
            }
            Ok(Event::Apply(object)) => {
                let (key, object) = entry(object, &what);
                into.insert(key, object);
                false
            }
            Ok(Event::Delete(object)) => {
                into.remove(&entry(object, &what).0);
                false
            }
            Err(error) => {
                drop(into);
                let wrong = chain(&error);
                tracing::debug!(kind = what.kind, %wrong, "cannot watch, try again");
                told.send_if_modified(|state| {
                    state.wrong = Some(wrong);
                    false
                });
                continue;
            }
        };
        drop(into);
        told.send_modify(|state| {
            state.complete |= done;
            state.wrong = None;
        });
    }
}

fn entry(mut object: DynamicObject, what: &Watched) -> ((String, String), Arc<Value>) {
    // Who wrote which field is as long as the object, and nothing here looks at it.
    object.metadata.managed_fields = None;
    let metadata = &object.metadata;
    let key =
        (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
    let mut value = object.data;
    if let Value::Object(fields) = &mut value {
        let metadata = serde_json::to_value(&object.metadata).unwrap_or_default();
        fields.insert("metadata".to_owned(), metadata);
        fields.insert("apiVersion".to_owned(), Value::from(what.api_version.as_str()));
        fields.insert("kind".to_owned(), Value::from(what.kind.as_str()));
    }
    (key, Arc::new(value))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
