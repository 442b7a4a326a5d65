//! What nodes are told of the mesh: pure, and indexed so that a change of one pod costs what one pod and its Services cost.
//!
//! What is heard is kept as it is; what nodes are told is made of it, and only where that is another than before somebody is told.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    net::IpAddr,
    sync::Arc,
};

use nullius_intention::{Destination, Workload as Called};
use nullius_kube::{
    SYSTEM_NAMESPACE,
    identity::{NamespaceNews, News as Heard, ObjectNews, PodNews, ServiceNews, SliceNews},
};
use nullius_mesh::news::{
    IntentionObject, IssuerNews, News, PortProtocol, Service, ServiceName, Uid, Workload,
};
use nullius_model::TrustDomain;

use crate::svid::enrolment::{self, OfNamespace};

mod claims;
mod imports;
mod intentions;
mod pods;
mod services;

pub(super) type Name = Box<str>;

/// So many times as many of the namespace of the system.
const OF_SYSTEM: usize = 8;

/// Something that nodes are told of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    Workload(Uid),
    Service(Arc<ServiceName>),
    Intention(Uid),
    Issuer(Box<str>),
}

/// What is other than before, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Touched {
    /// For every node.
    pub(crate) all: BTreeSet<Key>,
    /// For single nodes.
    pub(crate) nodes: BTreeMap<Name, BTreeSet<Key>>,
    /// Whether intentions stand in another way, or are for other nodes.
    pub(crate) standing: bool,
}

impl Touched {
    fn node(&mut self, node: &str, key: Key) {
        self.nodes.entry(node.into()).or_default().insert(key);
    }
}

/// Everything that is known.
pub(crate) struct Book {
    domain: TrustDomain,
    /// What labels of namespaces say of the mesh.
    namespaces: HashMap<Name, OfNamespace>,
    pods: HashMap<Uid, Pod>,
    /// UIDs by namespace and name.
    names: HashMap<Name, HashMap<Name, Uid>>,
    /// Who says to have an address.
    addresses: HashMap<IpAddr, BTreeSet<Uid>>,
    /// Who of these is believed.
    holders: HashMap<IpAddr, Uid>,
    /// Addresses of Services, and how many have them: no pod has one.
    taken: BTreeMap<IpAddr, usize>,
    services: HashMap<Arc<ServiceName>, Known>,
    /// Services that are told, by namespace, and those for which there is no room.
    told_services: BTreeMap<Name, usize>,
    waiting_services: BTreeSet<Arc<ServiceName>>,
    /// By namespace and name.
    slices: HashMap<(Name, Name), SliceNews>,
    /// Slices that lead to an address.
    leading: HashMap<IpAddr, BTreeSet<(Name, Name)>>,
    intentions: HashMap<Uid, Standing>,
    /// How much is told of the intentions of a namespace.
    told_intentions: HashMap<Name, intentions::Taken>,
    /// What of these is not the system's.
    of_others: OfOthers,
    /// Namespaces with more than is told, of which that was said.
    crowded: BTreeSet<(&'static str, Name)>,
    /// Intentions by namespace.
    within: HashMap<Name, BTreeSet<Uid>>,
    /// Workloads in the mesh by namespace, and on which nodes how many pods of each are.
    groups: HashMap<Name, HashMap<Arc<Called>, BTreeMap<Name, usize>>>,
    /// Pods in the mesh, by namespace and node.
    enrolled: HashMap<Name, BTreeMap<Name, usize>>,
    /// Counts changes of these, and says with which one a namespace of the mesh has changed last.
    turn: u64,
    turns: HashMap<Name, u64>,
    /// Issuers of tokens, as nodes are told of them.
    issuers: BTreeMap<Box<str>, Arc<IssuerNews>>,
    listed: Listed,
}

/// How much nodes are told of all namespaces but the system's.
#[derive(Debug, Clone, Copy, Default)]
struct OfOthers {
    services: usize,
    intentions: usize,
}

/// What was listed once.
#[derive(Debug, Clone, Copy, Default)]
struct Listed {
    pods: bool,
    namespaces: bool,
    services: bool,
    slices: bool,
    intentions: bool,
}

struct Pod {
    news: PodNews,
    /// As other nodes are told of it, where it is in the mesh.
    remote: Option<Arc<Workload>>,
    /// As its own node is.
    local: Option<Arc<Workload>>,
    /// As intentions know it, where it is in the mesh.
    called: Option<Arc<Called>>,
    /// Addresses that it says to have.
    claims: Vec<IpAddr>,
}

#[derive(Default)]
struct Known {
    news: Option<ServiceNews>,
    slices: BTreeSet<(Name, Name)>,
    told: Option<Arc<Service>>,
}

/// An intention as it stands.
pub(crate) struct Standing {
    pub(crate) news: ObjectNews,
    told: Option<Arc<IntentionObject>>,
    /// What its expressions take at nodes.
    compiled: usize,
}

/// What has to be made anew.
#[derive(Default)]
struct Dirty {
    pods: BTreeSet<Uid>,
    services: BTreeSet<Arc<ServiceName>>,
}

impl Book {
    pub(crate) fn new(domain: TrustDomain) -> Self {
        Self {
            domain,
            namespaces: HashMap::new(),
            pods: HashMap::new(),
            names: HashMap::new(),
            addresses: HashMap::new(),
            holders: HashMap::new(),
            taken: BTreeMap::new(),
            told_services: BTreeMap::new(),
            waiting_services: BTreeSet::new(),
            told_intentions: HashMap::new(),
            of_others: OfOthers::default(),
            crowded: BTreeSet::new(),
            services: HashMap::new(),
            slices: HashMap::new(),
            leading: HashMap::new(),
            intentions: HashMap::new(),
            within: HashMap::new(),
            groups: HashMap::new(),
            enrolled: HashMap::new(),
            turn: 0,
            turns: HashMap::new(),
            issuers: BTreeMap::new(),
            listed: Listed::default(),
        }
    }

    /// Whether everything was listed once.
    pub(crate) fn is_complete(&self) -> bool {
        let Listed { pods, namespaces, services, slices, intentions } = self.listed;
        pods && namespaces && services && slices && intentions
    }

    /// All that a node is told of.
    pub(crate) fn keys_for(&self, node: &str) -> Vec<Key> {
        let pods = self.pods.iter().filter(|(_, pod)| pod.for_node(node).is_some());
        let pods = pods.map(|(uid, _)| Key::Workload(uid.clone()));
        let services = self.services.iter().filter(|(_, known)| known.told.is_some());
        let services = services.map(|(name, _)| Key::Service(Arc::clone(name)));
        let intentions = self.within.iter().filter(|(namespace, _)| self.hears_of(node, namespace));
        let intentions = intentions.flat_map(|(_, uids)| uids).cloned().map(Key::Intention);
        let issuers = self.issuers.keys().cloned().map(Key::Issuer);
        pods.chain(services).chain(intentions).chain(issuers).collect()
    }

    /// Tells a node how something stands now.
    pub(crate) fn tell(&self, node: &str, key: &Key, news: &mut News) {
        match key {
            Key::Workload(uid) => match self.pods.get(uid).and_then(|pod| pod.for_node(node)) {
                Some(workload) => news.put_workloads.push(Workload::clone(workload)),
                None => news.gone_workloads.push(uid.clone()),
            },
            Key::Service(name) => match self.services.get(name).and_then(|it| it.told.as_ref()) {
                Some(service) => news.put_services.push(Service::clone(service)),
                None => news.gone_services.push(ServiceName::clone(name)),
            },
            Key::Intention(uid) => {
                let found = self.intentions.get(uid);
                let found = found.filter(|it| self.hears_of(node, &it.news.namespace));
                match found.and_then(|it| it.told.as_ref()) {
                    Some(intention) => news.put_intentions.push(IntentionObject::clone(intention)),
                    None => news.gone_intentions.push(uid.clone()),
                }
            }
            Key::Issuer(name) => match self.issuers.get(name) {
                Some(issuer) => news.put_issuers.push(IssuerNews::clone(issuer)),
                None => news.gone_issuers.push(name.clone()),
            },
        }
    }

    /// Who speaks for the cluster's workloads.
    pub(crate) fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// All intentions.
    pub(crate) fn intentions(&self) -> impl Iterator<Item = (&Uid, &Standing)> {
        self.intentions.iter()
    }

    /// Nodes with pods in the mesh that a destination names. They are the same for as long as [`Self::turn_of`] is.
    pub(crate) fn nodes_of(&self, destination: &Destination) -> BTreeSet<Name> {
        let Some(namespace) = destination.namespace() else {
            return self.enrolled.values().flat_map(BTreeMap::keys).cloned().collect();
        };
        let groups = self.groups.get(namespace.as_str()).into_iter().flatten();
        let selected = groups.filter(|(called, _)| destination.selects(called));
        selected.flat_map(|(_, nodes)| nodes.keys()).cloned().collect()
    }

    /// Ports that a destination names at which its pods speak what is not read, as their Services say.
    pub(crate) fn unread(&self, destination: &Destination) -> BTreeSet<u16> {
        let near = destination.namespace().map(|it| self.names.get(it.as_str()));
        let all = near.is_none().then(|| self.names.values()).into_iter().flatten();
        let pods = all.chain(near.flatten()).flat_map(HashMap::values);
        let pods = pods
            .filter_map(|uid| self.pods.get(uid))
            .filter(|pod| pod.called.as_ref().is_some_and(|called| destination.selects(called)));
        let ports =
            pods.filter_map(|pod| pod.local.as_ref()?.local.as_ref()).flat_map(|it| &it.ports);
        ports
            .filter(|(port, spoken)| **spoken == PortProtocol::Tcp && destination.covers(**port))
            .map(|(port, _)| *port)
            .collect()
    }

    /// Grows whenever pods that a destination may name come, go or change.
    pub(crate) fn turn_of(&self, destination: &Destination) -> u64 {
        match destination.namespace() {
            Some(namespace) => self.turns.get(namespace.as_str()).copied().unwrap_or(0),
            None => self.turn,
        }
    }

    /// The names under which replicas of `agent identity` run.
    pub(crate) fn replicas(&self) -> BTreeSet<Name> {
        let all = self.names.get(SYSTEM_NAMESPACE).into_iter().flatten();
        all.filter(|(_, uid)| {
            let pod = self.pods.get(*uid);
            pod.is_some_and(|pod| pods::is_replica(&pod.news) && !pod.news.is_ended)
        })
        .map(|(name, _)| name.clone())
        .collect()
    }

    pub(crate) fn hear_pods(&mut self, heard: Heard<PodNews>) -> Touched {
        let mut dirty = Dirty::default();
        match heard {
            Heard::Put(pod) => self.put_pod(pod, &mut dirty),
            Heard::Gone(pod) => self.drop_pod(&pod.uid, &mut dirty),
            Heard::All(pods) => {
                self.listed.pods = true;
                let stay: BTreeSet<&str> = pods.iter().map(|pod| &*pod.uid).collect();
                let gone = self.pods.keys().filter(|uid| !stay.contains(&***uid));
                for uid in gone.cloned().collect::<Vec<_>>() {
                    self.drop_pod(&uid, &mut dirty);
                }
                pods.into_iter().for_each(|pod| self.put_pod(pod, &mut dirty));
            }
        }
        self.settle(dirty)
    }

    pub(crate) fn hear_namespaces(&mut self, heard: Heard<NamespaceNews>) -> Touched {
        let mut dirty = Dirty::default();
        match heard {
            Heard::Put(namespace) => self.say(namespace, &mut dirty),
            Heard::Gone(namespace) => self.label(namespace.name, None, &mut dirty),
            Heard::All(namespaces) => {
                self.listed.namespaces = true;
                let stay: BTreeSet<&str> = namespaces.iter().map(|it| &*it.name).collect();
                let gone = self.namespaces.keys().filter(|name| !stay.contains(&***name));
                for name in gone.cloned().collect::<Vec<_>>() {
                    self.label(name, None, &mut dirty);
                }
                namespaces.into_iter().for_each(|namespace| self.say(namespace, &mut dirty));
            }
        }
        self.settle(dirty)
    }

    pub(crate) fn hear_services(&mut self, heard: Heard<ServiceNews>) -> Touched {
        let mut dirty = Dirty::default();
        match heard {
            Heard::Put(service) => self.put_service(service, &mut dirty),
            Heard::Gone(service) => {
                let name = service_name(&service.namespace, &service.name);
                name.into_iter().for_each(|name| self.drop_service(&name, &mut dirty));
            }
            Heard::All(services) => {
                self.listed.services = true;
                let stay: BTreeSet<Arc<ServiceName>> = services
                    .iter()
                    .filter_map(|it| service_name(&it.namespace, &it.name))
                    .collect();
                let gone = self.services.keys().filter(|name| !stay.contains(*name));
                for name in gone.cloned().collect::<Vec<_>>() {
                    self.drop_service(&name, &mut dirty);
                }
                services.into_iter().for_each(|service| self.put_service(service, &mut dirty));
            }
        }
        self.settle(dirty)
    }

    pub(crate) fn hear_slices(&mut self, heard: Heard<SliceNews>) -> Touched {
        let mut dirty = Dirty::default();
        let key = |slice: &SliceNews| (slice.namespace.clone(), slice.name.clone());
        match heard {
            Heard::Put(slice) => self.change_slice(key(&slice), Some(slice), &mut dirty),
            Heard::Gone(slice) => self.change_slice(key(&slice), None, &mut dirty),
            Heard::All(slices) => {
                self.listed.slices = true;
                let stay: BTreeSet<(Name, Name)> = slices.iter().map(key).collect();
                let gone = self.slices.keys().filter(|key| !stay.contains(*key));
                for key in gone.cloned().collect::<Vec<_>>() {
                    self.change_slice(key, None, &mut dirty);
                }
                for slice in slices {
                    self.change_slice(key(&slice), Some(slice), &mut dirty);
                }
            }
        }
        self.settle(dirty)
    }

    pub(crate) fn hear_intentions(&mut self, heard: Heard<ObjectNews>) -> Touched {
        let mut touched = Touched { standing: true, ..Touched::default() };
        match heard {
            Heard::Put(intention) => self.put_intention(intention, &mut touched),
            Heard::Gone(intention) => self.drop_intention(&intention.uid, &mut touched),
            Heard::All(intentions) => {
                self.listed.intentions = true;
                let stay: BTreeSet<&str> = intentions.iter().map(|it| &*it.uid).collect();
                let gone = self.intentions.keys().filter(|uid| !stay.contains(&***uid));
                for uid in gone.cloned().collect::<Vec<_>>() {
                    self.drop_intention(&uid, &mut touched);
                }
                for intention in intentions::in_order(intentions) {
                    self.put_intention(intention, &mut touched);
                }
            }
        }
        touched
    }

    /// Takes all issuers as they stand now.
    pub(crate) fn hear_issuers(&mut self, now: BTreeMap<Box<str>, IssuerNews>) -> Touched {
        let mut touched = Touched::default();
        let all: BTreeSet<Box<str>> = self.issuers.keys().chain(now.keys()).cloned().collect();
        touched.all = all
            .into_iter()
            .filter(|name| self.issuers.get(name).map(|it| &**it) != now.get(name))
            .map(Key::Issuer)
            .collect();
        self.issuers = now.into_iter().map(|(name, news)| (name, Arc::new(news))).collect();
        touched
    }

    /// Whether somebody declares an issuer.
    pub(crate) fn has_issuer(&self, name: &str) -> bool {
        self.issuers.contains_key(name)
    }

    /// Whether intentions of a namespace can be for pods of a node.
    fn hears_of(&self, node: &str, namespace: &str) -> bool {
        namespace == SYSTEM_NAMESPACE
            || self.enrolled.get(namespace).is_some_and(|nodes| nodes.contains_key(node))
    }

    fn say(&mut self, news: NamespaceNews, dirty: &mut Dirty) {
        let says = OfNamespace { label: news.mesh, exempt: news.exempt };
        self.label(news.name, Some(says), dirty);
    }

    /// What a namespace says, or that there is none of the name.
    fn label(&mut self, name: Name, says: Option<OfNamespace>, dirty: &mut Dirty) {
        let before = match says.clone() {
            Some(says) => self.namespaces.insert(name.clone(), says),
            None => self.namespaces.remove(&name),
        };
        if before == says {
            return;
        }
        if enrolment::is_odd(says.and_then(|it| it.label).as_deref()) {
            tracing::warn!(namespace = %name, "take pods of a namespace for the mesh's: the label `nullius.dev/mesh` is none of `node`, `sidecar` and `disabled`");
        }
        dirty.pods.extend(self.names.get(&name).into_iter().flat_map(HashMap::values).cloned());
        let services = self.services.keys().filter(|it| it.namespace.as_str() == &*name);
        dirty.services.extend(services.cloned());
    }

    /// Makes anew what has to be, and says what is other than before.
    fn settle(&mut self, mut dirty: Dirty) -> Touched {
        let mut touched = Touched::default();
        while let Some(uid) = dirty.pods.pop_first() {
            self.settle_pod(&uid, &mut dirty, &mut touched);
        }
        while let Some(name) = dirty.services.pop_first() {
            self.settle_service(&name, &mut dirty, &mut touched);
        }
        touched
    }
}

fn service_name(namespace: &str, name: &str) -> Option<Arc<ServiceName>> {
    let namespace = namespace.parse().ok()?;
    (!name.is_empty()).then(|| Arc::new(ServiceName { namespace, name: name.into() }))
}

fn leave<K: Eq + Hash, V: Ord>(index: &mut HashMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(all) = index.get_mut(key) {
        all.remove(value);
        if all.is_empty() {
            index.remove(key);
        }
    }
}

fn count_down<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
