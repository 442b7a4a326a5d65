//! Objects as they change, each cut down to what identities and the mesh are made of: of ten thousand pods little is held.

use std::{collections::HashMap, fmt::Debug, future::ready, sync::Arc};

use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::DynamicObject,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;

use super::{
    declared::{INTENTION, MACHINE, ObjectNews, WORKLOAD_IDENTITY, resource},
    mesh::{PodParts, ServiceNews, SliceNews},
};
use crate::{
    ApiServer, ConnectError, Credential, IDENTITY_LABEL, MESH_EXEMPT, MESH_LABEL, SYSTEM_NAMESPACE,
    admission::{Heard, WATCH_SECONDS, listening},
};

/// Objects in one page: an object may be as long as 1.5 MiB, and a page is in memory at once.
const PAGE: u32 = 50;
/// Objects of our kinds in one page: each may be long, and a page is in memory at once.
const DECLARED_PAGE: u32 = 50;
/// Objects of one namespace of which what they say is kept while all are listed, and bytes of that: of more only that they are there.
const OBJECTS_OF_NAMESPACE: usize = 1_000;
const BYTES_OF_NAMESPACE: usize = 4 * 1024 * 1024;
/// So many times as much for the namespace of the system.
const OF_SYSTEM: usize = 8;

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNews {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its UID.
    pub uid: Box<str>,
    /// Where it is scheduled to.
    pub node: Option<Box<str>>,
    /// Its ServiceAccount.
    pub account: Box<str>,
    /// What its label says of its identity.
    pub label: Option<Box<str>>,
    /// What its label says of the mesh.
    pub mesh: Option<Box<str>>,
    /// Whether all of its containers have ended for good.
    pub is_ended: bool,
    /// Whether it has the network of its node.
    pub is_on_host: bool,
    /// What the mesh needs beside that.
    pub parts: Arc<PodParts>,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceNews {
    /// Its name.
    pub name: Box<str>,
    /// What its label says of the identity of its pods.
    pub label: Option<Box<str>>,
    /// What its label says of the mesh.
    pub mesh: Option<Box<str>>,
    /// ServiceAccounts whose pods it leaves out of the mesh.
    pub exempt: Box<[Box<str>]>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeNews {
    /// Its name.
    pub name: Box<str>,
    /// Its UID.
    pub uid: Box<str>,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News<T> {
    /// These are all that there are.
    All(Vec<T>),
    /// This one is new, or other than before.
    Put(T),
    /// This one is gone.
    Gone(T),
}

/// Changes of one kind, one after the other.
pub struct Follower<T> {
    news: BoxStream<'static, News<T>>,
    heard: Arc<Heard>,
}

impl<T> Follower<T> {
    /// The next change; waits until there is one.
    pub async fn next(&mut self) -> Option<News<T>> {
        self.news.next().await
    }

    /// Says for as long as it is asked whether the API server is heard, so that what is known is true.
    pub fn hearing(&self) -> impl Fn() -> bool + Clone + Send + Sync + use<T> + 'static {
        let heard = Arc::clone(&self.heard);
        move || heard.is_recent()
    }
}

/// Reads pods, namespaces and nodes.
#[derive(Clone)]
pub struct Fleet {
    client: Client,
}

impl Fleet {
    /// With the credential of `agent identity`.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        Ok(Self { client: server.client(credential)? })
    }

    /// All pods.
    pub fn pods(&self) -> Follower<PodNews> {
        self.follow(pod_news)
    }

    /// All namespaces.
    pub fn namespaces(&self) -> Follower<NamespaceNews> {
        self.follow(|namespace: Namespace| NamespaceNews {
            name: namespace.name_any().into(),
            label: label(&namespace, IDENTITY_LABEL),
            mesh: label(&namespace, MESH_LABEL),
            exempt: exempt(&namespace),
        })
    }

    /// All Services.
    pub fn services(&self) -> Follower<ServiceNews> {
        self.follow(ServiceNews::of)
    }

    /// Where all Services lead.
    pub fn slices(&self) -> Follower<SliceNews> {
        self.follow(SliceNews::of)
    }

    /// All intentions.
    pub fn intentions(&self) -> Follower<ObjectNews> {
        self.declared(INTENTION, ObjectNews::intention)
    }

    /// All that is declared of identities.
    pub fn workload_identities(&self) -> Follower<ObjectNews> {
        self.declared(WORKLOAD_IDENTITY, ObjectNews::workload_identity)
    }

    /// All machines outside of the cluster.
    pub fn machines(&self) -> Follower<ObjectNews> {
        self.declared(MACHINE, ObjectNews::machine)
    }

    fn declared(
        &self,
        kind: &str,
        reduce: fn(DynamicObject) -> ObjectNews,
    ) -> Follower<ObjectNews> {
        let kind = resource(kind);
        let api = |client| Api::<DynamicObject>::all_with(client, &kind);
        let mut held: HashMap<Box<str>, (usize, usize)> = HashMap::new();
        let list = move |listing: &mut Vec<ObjectNews>, mut object: ObjectNews| {
            if listing.is_empty() {
                held.clear();
            }
            let (count, bytes) = held.entry(object.namespace.clone()).or_default();
            // What belongs to the cluster only its administrators write.
            let is_of_system = ["", SYSTEM_NAMESPACE].contains(&&*object.namespace);
            let times = if is_of_system { OF_SYSTEM } else { 1 };
            if *count >= times * OBJECTS_OF_NAMESPACE
                || *bytes + object.json.len() > times * BYTES_OF_NAMESPACE
            {
                object.leave_out();
            } else {
                *count += 1;
                *bytes += object.json.len();
            }
            listing.push(object);
        };
        self.follow_as(api, DECLARED_PAGE, reduce, list)
    }

    /// All nodes.
    pub fn nodes(&self) -> Follower<NodeNews> {
        self.follow(node_news)
    }

    fn follow<K, T>(&self, reduce: fn(K) -> T) -> Follower<T>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
        T: Send + 'static,
    {
        self.follow_as(Api::all, PAGE, reduce, Vec::push)
    }

    fn follow_as<K, T>(
        &self,
        api: impl FnOnce(Client) -> Api<K>,
        page: u32,
        reduce: fn(K) -> T,
        mut list: impl FnMut(&mut Vec<T>, T) + Send + 'static,
    ) -> Follower<T>
    where
        K: Resource + DeserializeOwned + Clone + Debug + Send + 'static,
        T: Send + 'static,
    {
        let heard = Arc::new(Heard::new());
        let api = api(listening(self.client.clone(), Arc::clone(&heard)));
        let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(page);
        let mut listing = Vec::new();
        let news = watcher::watcher(api, config).default_backoff().filter_map(move |event| {
            ready(match event {
                Ok(Event::Init) => {
                    listing.clear();
                    None
                }
                Ok(Event::InitApply(object)) => {
                    list(&mut listing, reduce(object));
                    None
                }
                Ok(Event::InitDone) => Some(News::All(std::mem::take(&mut listing))),
                Ok(Event::Apply(object)) => Some(News::Put(reduce(object))),
                Ok(Event::Delete(object)) => Some(News::Gone(reduce(object))),
                // A kind that the cluster does not have has no objects.
                Err(watcher::Error::InitialListFailed(kube::Error::Api(status)))
                    if status.is_not_found() =>
                {
                    Some(News::All(Vec::new()))
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot watch, try again");
                    None
                }
            })
        });
        Follower { news: news.boxed(), heard }
    }
}

fn label(object: &impl Resource, key: &str) -> Option<Box<str>> {
    object.meta().labels.as_ref()?.get(key).map(|value| value.as_str().into())
}

/// Names behind one another, with commas between them.
fn exempt(namespace: &Namespace) -> Box<[Box<str>]> {
    let said = namespace.annotations().get(MESH_EXEMPT).map(String::as_str).unwrap_or_default();
    said.split(',').map(str::trim).filter(|name| !name.is_empty()).map(Into::into).collect()
}

fn pod_news(pod: Pod) -> PodNews {
    let (identity, mesh) = (label(&pod, IDENTITY_LABEL), label(&pod, MESH_LABEL));
    let parts = Arc::new(PodParts::of(&pod));
    let metadata = pod.metadata;
    let spec = pod.spec.unwrap_or_default();
    let phase = pod.status.and_then(|status| status.phase).unwrap_or_default();
    let boxed = |text: Option<String>| text.unwrap_or_default().into_boxed_str();
    PodNews {
        namespace: boxed(metadata.namespace),
        name: boxed(metadata.name),
        uid: boxed(metadata.uid),
        node: spec.node_name.filter(|node| !node.is_empty()).map(String::into_boxed_str),
        account: boxed(spec.service_account_name),
        label: identity,
        mesh,
        is_ended: matches!(phase.as_str(), "Succeeded" | "Failed"),
        is_on_host: spec.host_network == Some(true),
        parts,
    }
}

fn node_news(node: Node) -> NodeNews {
    NodeNews {
        name: node.name_any().into(),
        uid: node.metadata.uid.unwrap_or_default().into_boxed_str(),
    }
}
