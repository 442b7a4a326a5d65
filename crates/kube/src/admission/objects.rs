//! A cache of objects of a kind, kept by a watch: what is known, whether it is all, and whether it is still true.
//!
//! A cache says nothing that it does not know: before it is complete, when the API server has not been heard for a while, and about a
//! namespace of which it had no room for everything.

mod held;

use std::{
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, pin_mut};
use http::Request;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    client::Body,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use self::held::Held;
use crate::{ApiServer, ConnectError, Credential};

/// A watch is begun anew after so long. The client ends one that is silent for 15 s, as an error, and each error is waited out for
/// longer: where nothing happens a watch must end before that by itself, or what happens next is seen half a minute late.
pub(crate) const WATCH_SECONDS: u32 = 10;
/// A watch that was last begun with success so long ago may have missed something: that is two in a row that failed, and their pauses.
const DEAF_AFTER: Duration = Duration::from_secs(90);
/// Where there was too much to be known, everything is listed anew this often.
const RELIST: Duration = Duration::from_secs(120);
/// Objects of one page: each may be more than a mebibyte long, and a page is in memory at once.
const PAGE: u32 = 50;

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
    /// How much of memory they may take, where not only administrators make them.
    pub room: Option<Room>,
}

/// How much of memory the objects of a cache may take, in bytes; clones share it, and it may change.
#[derive(Debug, Clone, Default)]
pub struct Room(Arc<AtomicUsize>);

impl Room {
    /// From now on so many bytes.
    pub fn set(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

impl PartialEq for Room {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Room {}

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
            room: None,
        }
    }
}

/// The objects of a kind as the cluster has them.
#[derive(Clone)]
pub struct Objects {
    held: Arc<RwLock<Held>>,
    heard: Arc<Heard>,
    state: watch::Receiver<State>,
}

/// When the API server last did what it was asked; a review looks at it, so that it takes no lock.
pub(crate) struct Heard {
    began: Instant,
    /// Since then, in milliseconds; 0 for never.
    after: AtomicU64,
}

impl Heard {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), after: AtomicU64::new(0) }
    }

    fn note(&self) {
        let after = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.after.store(after.max(1), Ordering::Release);
    }

    pub(crate) fn is_recent(&self) -> bool {
        let after = self.after.load(Ordering::Acquire);
        let since = self.began.elapsed().saturating_sub(Duration::from_millis(after));
        after > 0 && since < DEAF_AFTER
    }
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
        Ok(Self::of(server.client(credential)?, what))
    }

    fn of(client: Client, what: &Watched) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (group, version) =
            what.api_version.split_once('/').unwrap_or(("", what.api_version.as_str()));
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: what.api_version.clone(),
            kind: what.kind.clone(),
            plural: what.plural.clone(),
        };
        let (told, state) = watch::channel(State::default());
        let held = Arc::new(RwLock::new(Held::new(what.room.clone())));
        let objects = Self { held, heard: Arc::new(Heard::new()), state };
        let client = listening(client, Arc::clone(&objects.heard));
        let api: Api<DynamicObject> = match &what.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let mut config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
        config.label_selector.clone_from(&what.labels);
        config.field_selector = what.name.as_ref().map(|name| format!("metadata.name={name}"));
        let keeping = keep(Arc::clone(&objects.held), told, api, config, what.clone());
        (objects, keeping)
    }

    /// One of them as the cluster has it now; `None` where that is not known.
    pub fn find_current(&self, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.find(namespace, name).filter(|_| self.heard.is_recent())
    }

    /// One of them, as it was known last; `None` where it is not known.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.read().find(namespace, name)
    }

    /// All of them, sorted by namespace and name.
    pub fn list(&self) -> Vec<Arc<Value>> {
        self.read().list()
    }

    /// Those of a namespace, or of none.
    ///
    /// # Errors
    ///
    /// Why nobody can say whether that is all.
    pub fn all_of(&self, namespace: &str) -> Result<Vec<Arc<Value>>, String> {
        self.is_current()?;
        self.read().all_of(namespace)
    }

    /// Whether what is known is all and still true, but for namespaces of which there is too much; otherwise what is in the way.
    ///
    /// # Errors
    ///
    /// What is in the way.
    pub fn is_current(&self) -> Result<(), String> {
        let state = self.state.borrow();
        let why = |otherwise: &str| state.wrong.clone().unwrap_or_else(|| otherwise.to_owned());
        if !state.complete {
            return Err(why("they are still being read"));
        }
        match self.heard.is_recent() {
            true => Ok(()),
            false => Err(why("the API server has not been heard for a while")),
        }
    }

    /// What there is too much of to be known: namespaces, each with how many bytes that are.
    pub fn too_much(&self) -> Vec<(String, usize)> {
        self.read().too_much()
    }

    /// Waits until everything was listed once.
    pub async fn completed(&mut self) {
        // Whoever keeps it lives as long as the agent.
        let _ = self.state.wait_for(|state| state.complete).await;
    }

    /// Waits until everything was listed once, or something is in the way of it.
    pub async fn tried(&mut self) {
        let _ = self.state.wait_for(|state| state.complete || state.wrong.is_some()).await;
    }

    /// Waits for a change since this was last waited for: none is missed that comes while somebody looks.
    pub async fn changed(&mut self) {
        let _ = self.state.changed().await;
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        read(&self.held)
    }
}

fn read(held: &RwLock<Held>) -> RwLockReadGuard<'_, Held> {
    held.read().unwrap_or_else(PoisonError::into_inner)
}

/// A client that notes when the API server last did what it was asked: each watch is begun by such an answer.
pub(crate) fn listening(client: Client, heard: Arc<Heard>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, heard) = (client.clone(), Arc::clone(&heard));
        async move {
            let answer = client.send(request).await;
            if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
                heard.note();
            }
            answer
        }
    });
    Client::new(service, namespace)
}

async fn keep(
    held: Arc<RwLock<Held>>,
    told: watch::Sender<State>,
    api: Api<DynamicObject>,
    config: watcher::Config,
    what: Watched,
) {
    loop {
        let events = watcher::watcher(api.clone(), config.clone()).default_backoff();
        pin_mut!(events);
        let mut listing = Held::new(what.room.clone());
        let mut relist = tokio::time::interval(RELIST);
        relist.reset();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                // What there was too much of is known again once it is less.
                _ = relist.tick() => match read(&held).too_much().is_empty() {
                    true => continue,
                    false => break,
                },
            };
            let Some(event) = event else { break };
            take(event, &held, &mut listing, &told, &what);
        }
    }
}

fn take(
    event: Result<Event<DynamicObject>, watcher::Error>,
    held: &RwLock<Held>,
    listing: &mut Held,
    told: &watch::Sender<State>,
    what: &Watched,
) {
    let mut into = held.write().unwrap_or_else(PoisonError::into_inner);
    let done = match event {
        Ok(Event::Init) => {
            *listing = Held::new(what.room.clone());
            return;
        }
        Ok(Event::InitApply(object)) => {
            let (key, object) = entry(object, what);
            listing.insert(key, object);
            return;
        }
        Ok(Event::InitDone) => {
            *into = std::mem::replace(listing, Held::new(what.room.clone()));
            true
        }
        Ok(Event::Apply(object)) => {
            let (key, object) = entry(object, what);
            into.insert(key, object);
            false
        }
        Ok(Event::Delete(object)) => {
            into.remove(&entry(object, what).0);
            false
        }
        Err(error) => {
            drop(into);
            let wrong = chain(&error);
            tracing::debug!(kind = what.kind, %wrong, "cannot watch, try again");
            // Who follows it hears that something is wrong, not how often it was tried.
            told.send_if_modified(|state| state.wrong.replace(wrong).is_none());
            return;
        }
    };
    drop(into);
    told.send_modify(|state| {
        state.complete |= done;
        state.wrong = None;
    });
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

#[cfg(test)]
mod tests;
