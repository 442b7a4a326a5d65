//! What stands in a cluster, read gently: the kinds that it serves, pages of their objects, and news of changes without content.

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams},
    core::PartialObjectMeta,
    discovery::{Discovery, Scope, verbs},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde_json::Value;

use crate::{ApiServer, ConnectError, Credential, KubeError, Step};

/// Objects of one page.
const PAGE: u32 = 200;
/// A watch is begun anew after so long; one that a dead connection holds is noticed then.
const WATCH_SECONDS: u32 = 280;

/// A kind that a cluster serves, in the version that it prefers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServedKind {
    /// Empty for core.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// `Deployment`.
    pub kind: String,
    /// `deployments`.
    pub plural: String,
}

/// Some objects of a kind.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObjectPage {
    /// The objects.
    pub objects: Vec<Value>,
    /// What to ask for the next page with; none at the end.
    pub next: Option<String>,
}

/// News of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectNews {
    /// It is there, in a version.
    Stands { namespace: String, name: String, uid: String, version: String },
    /// It is gone.
    Gone { uid: String },
}

/// Reads what stands in a cluster.
#[derive(Clone)]
pub struct Inventory {
    client: Client,
}

impl Inventory {
    /// With a credential that may read.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        Ok(Self { client: server.client(credential)? })
    }

    /// The kinds of which objects can be listed and watched.
    pub async fn kinds(&self) -> Result<Vec<ServedKind>, KubeError> {
        let found = Discovery::new(self.client.clone()).run().await;
        let found = found.map_err(KubeError::at(Step::List("the kinds of the cluster")))?;
        let mut kinds = Vec::new();
        for group in found.groups() {
            for (resource, capabilities) in group.recommended_resources() {
                let whole = matches!(capabilities.scope, Scope::Cluster | Scope::Namespaced);
                let served = |verb| capabilities.supports_operation(verb);
                if whole && served(verbs::LIST) && served(verbs::WATCH) {
                    let ApiResource { group, version, kind, plural, .. } = resource;
                    kinds.push(ServedKind { group, version, kind, plural });
                }
            }
        }
        kinds.sort();
        Ok(kinds)
    }

    /// A page of objects in all namespaces.
    pub async fn page(
        &self,
        kind: &ServedKind,
        next: Option<String>,
    ) -> Result<ObjectPage, KubeError> {
        let list = ListParams { continue_token: next, ..ListParams::default().limit(PAGE) };
        let page = self.objects(kind).list(&list).await;
        let page = page.map_err(KubeError::at(Step::List("objects")))?;
        let next = page.metadata.continue_.clone().filter(|token| !token.is_empty());
        let objects = page.items.into_iter().map(|object| whole(object, kind)).collect();
        Ok(ObjectPage { objects, next })
    }

    /// One object; none where it is gone.
    pub async fn read(
        &self,
        kind: &ServedKind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, KubeError> {
        let resource = resource_of(kind);
        let api: Api<DynamicObject> = match namespace {
            "" => Api::all_with(self.client.clone(), &resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &resource),
        };
        let found = api.get_opt(name).await.map_err(KubeError::at(Step::List("an object")))?;
        Ok(found.map(|object| whole(object, kind)))
    }

    /// News of all objects of a kind, those that stand first. It goes on for ever; what is in the way is tried again.
    pub fn news(&self, kind: &ServedKind) -> Pin<Box<dyn Stream<Item = ObjectNews> + Send>> {
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::all_with(self.client.clone(), &resource_of(kind));
        let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
        let name = kind.kind.clone();
        let events = watcher::watcher(api, config).default_backoff();
        Box::pin(events.filter_map(move |event| {
            let news = match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => stands(object),
                Ok(Event::Delete(object)) => {
                    object.metadata.uid.map(|uid| ObjectNews::Gone { uid })
                }
                Ok(Event::Init | Event::InitDone) => None,
                Err(error) => {
                    tracing::debug!(kind = name, %error, "cannot watch, try again");
                    None
                }
            };
            std::future::ready(news)
        }))
    }

    fn objects(&self, kind: &ServedKind) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource_of(kind))
    }
}

impl ServedKind {
    /// `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }
}

fn stands(object: PartialObjectMeta<DynamicObject>) -> Option<ObjectNews> {
    let metadata = object.metadata;
    Some(ObjectNews::Stands {
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name?,
        uid: metadata.uid?,
        version: metadata.resource_version?,
    })
}

fn resource_of(kind: &ServedKind) -> ApiResource {
    ApiResource {
        group: kind.group.clone(),
        version: kind.version.clone(),
        api_version: kind.api_version(),
        kind: kind.kind.clone(),
        plural: kind.plural.clone(),
    }
}

/// The object as it stands, without who wrote which field: that is as long as the object.
fn whole(mut object: DynamicObject, kind: &ServedKind) -> Value {
    object.metadata.managed_fields = None;
    let mut value = object.data;
    if let Value::Object(fields) = &mut value {
        let metadata = serde_json::to_value(&object.metadata).unwrap_or_default();
        fields.insert("metadata".to_owned(), metadata);
        fields.insert("apiVersion".to_owned(), Value::from(kind.api_version()));
        fields.insert("kind".to_owned(), Value::from(kind.kind.as_str()));
    }
    value
}
