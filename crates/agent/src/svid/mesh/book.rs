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
    AGENT_IDENTITY, IDENTITY, MESH_NODE, SYSTEM_NAMESPACE,
    identity::{
        NamespaceNews, News as Heard, ObjectNews, PodNews, ServiceNews, SliceEndpoint, SliceNews,
    },
};
use nullius_mesh::news::{
    ADDRESSES_MAX, ENDPOINTS_MAX, Endpoint, IntentionObject, IssuerNews, Local, Mode, News,
    PortProtocol, Service, ServiceName, ServicePort, Uid, Workload, is_address,
};
use nullius_model::{Namespace, SpiffeId, TrustDomain};

use super::protocols;
use crate::svid::enrolment::{self, OfNamespace};

mod claims;
mod intentions;

pub(super) type Name = Box<str>;

/// Services of one namespace that nodes are told of.
const SERVICES_OF_NAMESPACE: usize = 2_000;
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
    /// How many intentions of a namespace are told, and how long they are.
    told_intentions: HashMap<Name, (usize, usize)>,
    /// Namespaces with more than is told, of which that was said.
    crowded: BTreeSet<(&'static str, Name)>,
    /// Intentions by namespace.
    within: HashMap<Name, BTreeSet<Uid>>,
    /// Workloads in the mesh by namespace, and on which nodes how many pods of each are.
    groups: HashMap<Name, HashMap<Arc<Called>, BTreeMap<Name, usize>>>,
    /// Pods in the mesh, by namespace and node.
    enrolled: HashMap<Name, BTreeMap<Name, usize>>,
    /// Issuers of tokens, as nodes are told of them.
    issuers: BTreeMap<Box<str>, Arc<IssuerNews>>,
    listed: Listed,
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
            crowded: BTreeSet::new(),
            services: HashMap::new(),
            slices: HashMap::new(),
            leading: HashMap::new(),
            intentions: HashMap::new(),
            within: HashMap::new(),
            groups: HashMap::new(),
            enrolled: HashMap::new(),
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

    /// Nodes with pods in the mesh that a destination names.
    pub(crate) fn nodes_of(&self, namespace: &str, destination: &Destination) -> BTreeSet<Name> {
        // An intention of the system's namespace may name any.
        let own = self.groups.get(namespace).filter(|_| namespace != SYSTEM_NAMESPACE);
        let all = self.groups.values().filter(|_| namespace == SYSTEM_NAMESPACE);
        let groups = own.into_iter().chain(all).flatten();
        let selected = groups.filter(|(called, _)| destination.selects(called));
        selected.flat_map(|(_, nodes)| nodes.keys()).cloned().collect()
    }

    /// Whether a replica of `agent identity` runs under a name.
    pub(crate) fn has_replica(&self, name: &str) -> bool {
        let uid = self.names.get(SYSTEM_NAMESPACE).and_then(|names| names.get(name));
        let pod = uid.and_then(|uid| self.pods.get(uid));
        pod.is_some_and(|pod| is_replica(&pod.news) && !pod.news.is_ended)
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
                for intention in intentions {
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

    fn put_pod(&mut self, news: PodNews, dirty: &mut Dirty) {
        let uid = Uid::from(&*news.uid);
        let names = self.names.entry(news.namespace.clone()).or_default();
        let before = names.insert(news.name.clone(), uid.clone()).filter(|before| *before != uid);
        // Another pod has the name, and the end of the one before is not heard yet.
        if let Some(before) = before {
            self.drop_pod(&before, dirty);
        }
        match self.pods.get_mut(&uid) {
            Some(pod) if pod.news == news => return,
            Some(pod) => pod.news = news,
            None => {
                self.pods.insert(uid.clone(), Pod::new(news));
            }
        }
        dirty.pods.insert(uid);
    }

    fn drop_pod(&mut self, uid: &str, dirty: &mut Dirty) {
        let Some((uid, pod)) = self.pods.get_key_value(uid) else { return };
        let (uid, namespace, name) =
            (uid.clone(), pod.news.namespace.clone(), pod.news.name.clone());
        if let Some(names) = self.names.get_mut(&namespace) {
            if names.get(&name) == Some(&uid) {
                names.remove(&name);
            }
            if names.is_empty() {
                self.names.remove(&namespace);
            }
        }
        if let Some(pod) = self.pods.get_mut(&uid) {
            // What has ended is nothing to anybody; settling takes it away.
            pod.news.is_ended = true;
            pod.news.node = None;
        }
        dirty.pods.insert(uid);
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
            tracing::warn!(namespace = %name, "leave pods out of the mesh: the label `nullius.dev/mesh` is none of `node`, `sidecar` and `disabled`");
        }
        dirty.pods.extend(self.names.get(&name).into_iter().flat_map(HashMap::values).cloned());
        let services = self.services.keys().filter(|it| it.namespace.as_str() == &*name);
        dirty.services.extend(services.cloned());
    }

    fn put_service(&mut self, news: ServiceNews, dirty: &mut Dirty) {
        let Some(name) = service_name(&news.namespace, &news.name) else { return };
        let known = self.services.entry(Arc::clone(&name)).or_default();
        if known.news.as_ref() == Some(&news) {
            return;
        }
        let speaks_as_before = known.news.as_ref().is_some_and(|it| it.ports == news.ports);
        let now = news.addresses.clone();
        let before = known.news.replace(news).map(|it| it.addresses).unwrap_or_default();
        self.take(&before, &now, dirty);
        let Some(known) = self.services.get(&name) else { return };
        if !speaks_as_before {
            let slices = known.slices.clone();
            self.dirty_behind(&slices, dirty);
        }
        dirty.services.insert(name);
    }

    fn drop_service(&mut self, name: &Arc<ServiceName>, dirty: &mut Dirty) {
        let Some(known) = self.services.get_mut(name) else { return };
        if let Some(gone) = known.news.take() {
            let slices = known.slices.clone();
            self.dirty_behind(&slices, dirty);
            self.take(&gone.addresses, &[], dirty);
        }
        dirty.services.insert(Arc::clone(name));
    }

    fn change_slice(&mut self, key: (Name, Name), new: Option<SliceNews>, dirty: &mut Dirty) {
        let old = match new.clone() {
            Some(new) => self.slices.insert(key.clone(), new),
            None => self.slices.remove(&key),
        };
        if old == new {
            return;
        }
        let leads_to = |slice: &Option<SliceNews>| -> BTreeSet<IpAddr> {
            slice.iter().flat_map(|slice| &slice.endpoints).map(|it| it.address).collect()
        };
        let (before, now) = (leads_to(&old), leads_to(&new));
        for address in before.difference(&now) {
            leave(&mut self.leading, address, &key);
        }
        for address in now.difference(&before) {
            self.leading.entry(*address).or_default().insert(key.clone());
        }
        let of = |slice: &Option<SliceNews>| {
            slice.as_ref().and_then(|slice| service_name(&slice.namespace, &slice.service))
        };
        let (left, joined) = (of(&old), of(&new));
        if let Some(left) = left.clone().filter(|_| left != joined)
            && let Some(known) = self.services.get_mut(&left)
        {
            known.slices.remove(&key);
        }
        if let Some(joined) = &joined {
            self.services.entry(Arc::clone(joined)).or_default().slices.insert(key.clone());
        }
        // Pods that stay behind the same ports hear nothing new.
        let ports = |slice: &Option<SliceNews>| slice.as_ref().map(|slice| slice.ports.clone());
        let touched: Vec<IpAddr> = match left == joined && ports(&old) == ports(&new) {
            true => before.symmetric_difference(&now).copied().collect(),
            false => before.union(&now).copied().collect(),
        };
        for address in touched {
            dirty.pods.extend(self.addresses.get(&address).into_iter().flatten().cloned());
        }
        dirty.services.extend(left.into_iter().chain(joined));
    }

    /// Pods behind slices speak as their Services say.
    fn dirty_behind(&self, slices: &BTreeSet<(Name, Name)>, dirty: &mut Dirty) {
        let slices = slices.iter().filter_map(|key| self.slices.get(key));
        for endpoint in slices.flat_map(|slice| &slice.endpoints) {
            dirty.pods.extend(self.addresses.get(&endpoint.address).into_iter().flatten().cloned());
        }
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

    fn settle_pod(&mut self, uid: &Uid, dirty: &mut Dirty, touched: &mut Touched) {
        let Some(pod) = self.pods.get(uid) else { return };
        let key = Key::Workload(uid.clone());
        let before = pod.claims.clone();
        let claims = self.claims_of(&pod.news);
        for address in before.iter().filter(|it| !claims.contains(it)) {
            leave(&mut self.addresses, address, uid);
        }
        for address in &claims {
            self.addresses.entry(*address).or_default().insert(uid.clone());
        }
        for address in before.iter().chain(&claims) {
            self.settle_address(address, uid, dirty);
        }
        let Some(mut pod) = self.pods.remove(uid) else { return };
        let mut now = self.made_of(pod.news.clone(), claims);
        if now.called == pod.called {
            now.called.clone_from(&pod.called);
        }
        // Whether it is in the mesh is for the Services to say that lead to it.
        if pod.remote.is_some() != now.remote.is_some() {
            for address in before.iter().chain(&now.claims) {
                dirty.services.extend(self.leading_to(address));
            }
        }
        self.regroup(&pod, &now, touched);
        // What a replica said goes with it.
        touched.standing |= is_replica(&now.news);
        if pod.remote != now.remote {
            touched.all.insert(key.clone());
        }
        for (node, form) in [(pod.node(), &pod.local), (now.node(), &now.local)] {
            if let Some(node) = node.filter(|_| pod.local != now.local && form.is_some()) {
                touched.node(node, key.clone());
            }
        }
        pod = now;
        let is_gone = pod.news.is_ended && pod.news.node.is_none();
        if !is_gone {
            self.pods.insert(uid.clone(), pod);
        }
    }

    /// A pod with all that is told of it.
    fn made_of(&self, news: PodNews, claims: Vec<IpAddr>) -> Pod {
        let uid = Uid::from(&*news.uid);
        let mut pod = Pod { claims, ..Pod::new(news) };
        let news = &pod.news;
        let (Some(node), Ok(namespace), false) =
            (news.node.clone(), news.namespace.parse::<Namespace>(), news.is_ended)
        else {
            return pod;
        };
        // What the namespace says is not known yet: its node waits, rather than let the pod begin outside of the mesh.
        let Some(says) = self.namespaces.get(&news.namespace) else { return pod };
        let mode = enrolment::mode(news, says);
        let is_in_mesh = mode != Mode::None;
        let claims = pod.claims.iter();
        let addresses: Vec<IpAddr> = claims
            .filter(|it| !news.is_on_host && self.holders.get(*it) == Some(&uid))
            .copied()
            .collect();
        let id = SpiffeId::of_service_account(&self.domain, &namespace, &news.account);
        let workload = Workload {
            uid,
            namespace: namespace.clone(),
            name: news.name.clone(),
            service_account: news.account.clone(),
            node,
            addresses: addresses.clone(),
            spiffe_id: is_in_mesh.then_some(id),
            mode,
            local: None,
        };
        let local = Local {
            labels: news.parts.labels.clone(),
            ports: self.ports_of(news, &addresses),
            probe_ports: news.parts.probe_ports.iter().copied().collect(),
        };
        pod.called = is_in_mesh.then(|| {
            Arc::new(Called {
                namespace,
                service_account: news.account.to_string(),
                labels: news.parts.labels.clone(),
            })
        });
        pod.local = Some(Arc::new(Workload { local: Some(local), ..workload.clone() }));
        pod.remote = is_in_mesh.then(|| Arc::new(workload));
        pod
    }

    /// What is spoken at the ports of a pod. Services of other namespaces may lead to it, and say nothing of it.
    fn ports_of(&self, pod: &PodNews, addresses: &[IpAddr]) -> BTreeMap<u16, PortProtocol> {
        let mut ports: BTreeMap<u16, PortProtocol> =
            pod.parts.ports.iter().map(|port| (*port, PortProtocol::Auto)).collect();
        let slices = addresses.iter().filter_map(|address| self.leading.get(address)).flatten();
        for slice in slices.filter_map(|key| self.slices.get(key)) {
            if slice.namespace != pod.namespace {
                continue;
            }
            let name = service_name(&slice.namespace, &slice.service);
            let service = name.and_then(|name| self.services.get(&name)?.news.as_ref());
            for port in service.into_iter().flat_map(|service| &service.ports) {
                let said = protocols::of_port(port.app_protocol.as_deref(), &port.name);
                for led in slice.ports.iter().filter(|led| led.name == port.name) {
                    let spoken = ports.entry(led.port).or_insert(PortProtocol::Auto);
                    *spoken = protocols::both(*spoken, said);
                }
            }
        }
        ports
    }

    fn leading_to(&self, address: &IpAddr) -> impl Iterator<Item = Arc<ServiceName>> {
        let slices = self.leading.get(address).into_iter().flatten();
        let slices = slices.filter_map(|key| self.slices.get(key));
        slices.filter_map(|slice| service_name(&slice.namespace, &slice.service))
    }

    /// On which nodes which workloads are.
    fn regroup(&mut self, before: &Pod, now: &Pod, touched: &mut Touched) {
        // By what was made of it: what is heard of it is newer already.
        let place = |pod: &Pod| {
            let called = pod.called.clone()?;
            let namespace = Name::from(called.namespace.as_str());
            Some((called, namespace, Name::from(pod.node()?)))
        };
        let (before, now) = (place(before), place(now));
        if before == now {
            return;
        }
        touched.standing = true;
        let places: BTreeSet<(Name, Name)> = [&before, &now]
            .into_iter()
            .flatten()
            .map(|(_, namespace, node)| (namespace.clone(), node.clone()))
            .collect();
        let heard: Vec<bool> =
            places.iter().map(|(namespace, node)| self.hears_of(node, namespace)).collect();
        if let Some((called, namespace, node)) = before {
            self.leave_group(&called, &namespace, &node);
        }
        if let Some((called, namespace, node)) = now {
            let groups = self.groups.entry(namespace.clone()).or_default();
            *groups.entry(called).or_default().entry(node.clone()).or_default() += 1;
            *self.enrolled.entry(namespace).or_default().entry(node).or_default() += 1;
        }
        // The first pod of a namespace brings its intentions to a node, the last takes them away.
        for ((namespace, node), heard) in places.into_iter().zip(heard) {
            if self.hears_of(&node, &namespace) != heard {
                for uid in self.within.get(&namespace).into_iter().flatten() {
                    touched.node(&node, Key::Intention(uid.clone()));
                }
            }
        }
    }

    fn leave_group(&mut self, called: &Arc<Called>, namespace: &Name, node: &Name) {
        if let Some(groups) = self.groups.get_mut(namespace) {
            if let Some(nodes) = groups.get_mut(called) {
                count_down(nodes, node);
                if nodes.is_empty() {
                    groups.remove(called);
                }
            }
            if groups.is_empty() {
                self.groups.remove(namespace);
            }
        }
        if let Some(nodes) = self.enrolled.get_mut(namespace) {
            count_down(nodes, node);
            if nodes.is_empty() {
                self.enrolled.remove(namespace);
            }
        }
    }

    fn settle_service(
        &mut self,
        name: &Arc<ServiceName>,
        dirty: &mut Dirty,
        touched: &mut Touched,
    ) {
        let Some(known) = self.services.get(name) else { return };
        let was_told = known.told.is_some();
        let news = known.news.as_ref();
        let mut told = news.and_then(|news| self.told_of(name, news, &known.slices, was_told));
        let is_unknown = known.news.is_none() && known.slices.is_empty();
        let namespace = Name::from(name.namespace.as_str());
        if told.is_some() && !was_told {
            let count = self.told_services.entry(namespace.clone()).or_default();
            let times = if *namespace == *SYSTEM_NAMESPACE { OF_SYSTEM } else { 1 };
            if *count >= times * SERVICES_OF_NAMESPACE {
                told = None;
                self.waiting_services.insert(Arc::clone(name));
                self.crowd("Service", &namespace);
            } else {
                *count += 1;
                self.waiting_services.remove(name);
            }
        } else if told.is_none() {
            self.waiting_services.remove(name);
            if was_told {
                count_down(&mut self.told_services, &namespace);
                let mut next = self.waiting_services.iter();
                dirty.services.extend(next.find(|it| it.namespace == name.namespace).cloned());
            }
        }
        let Some(known) = self.services.get_mut(name) else { return };
        if known.told.as_deref() != told.as_ref() {
            touched.all.insert(Key::Service(Arc::clone(name)));
            known.told = told.map(Arc::new);
        }
        if is_unknown {
            self.services.remove(name);
        }
    }

    /// A Service, where it leads to the mesh, or is of a namespace of the mesh: one that leads to nobody at this moment is told too, so
    /// that who calls it is refused and not let out; and so is one that was told before, for as long as it stands.
    fn told_of(
        &self,
        name: &ServiceName,
        news: &ServiceNews,
        slices: &BTreeSet<(Name, Name)>,
        was_told: bool,
    ) -> Option<Service> {
        let slices: Vec<&SliceNews> =
            slices.iter().filter_map(|key| self.slices.get(key)).collect();
        let mut all = slices.iter().flat_map(|slice| &slice.endpoints);
        let label = self.namespaces.get(&news.namespace).and_then(|it| it.label.as_deref());
        if label != Some(MESH_NODE) && !was_told {
            all.find(|endpoint| self.in_mesh_at(&endpoint.address).is_some())?;
        }
        let mut ports = BTreeMap::new();
        let mut left = ENDPOINTS_MAX;
        for port in &news.ports {
            let mut endpoints = Vec::new();
            for slice in &slices {
                let Some(led) = slice.ports.iter().find(|led| led.name == port.name) else {
                    continue;
                };
                // Of a pod that is not known it is not known either whether it is in the mesh.
                let is_clear =
                    |it: &SliceEndpoint| !it.is_pod || self.holders.contains_key(&it.address);
                let ready = slice.endpoints.iter().filter(|it| it.is_ready && is_clear(it));
                endpoints.extend(ready.filter(|it| is_address(&it.address)).map(|it| Endpoint {
                    address: it.address,
                    port: led.port,
                    workload: self.in_mesh_at(&it.address).cloned(),
                }));
            }
            endpoints.sort_unstable();
            endpoints.dedup();
            endpoints.truncate(left);
            left -= endpoints.len();
            let protocol = protocols::of_port(port.app_protocol.as_deref(), &port.name);
            ports.insert(port.port, ServicePort { protocol, endpoints });
        }
        let addresses = news.addresses.iter().copied().filter(is_address);
        let addresses = addresses.collect::<BTreeSet<_>>().into_iter().take(ADDRESSES_MAX);
        Some(Service { name: name.clone(), addresses: addresses.collect(), ports })
    }

    /// The pod in the mesh that has an address.
    fn in_mesh_at(&self, address: &IpAddr) -> Option<&Uid> {
        let holder = self.holders.get(address)?;
        self.pods.get(holder)?.remote.as_ref().map(|_| holder)
    }
}

impl Pod {
    fn new(news: PodNews) -> Self {
        Self { news, remote: None, local: None, called: None, claims: Vec::new() }
    }

    fn node(&self) -> Option<&str> {
        self.local.as_ref().map(|workload| &*workload.node)
    }

    fn for_node(&self, node: &str) -> Option<&Arc<Workload>> {
        match self.node() {
            Some(own) if own == node => self.local.as_ref(),
            _ => self.remote.as_ref(),
        }
    }
}

/// Whether a pod is a replica of `agent identity`.
fn is_replica(pod: &PodNews) -> bool {
    &*pod.namespace == SYSTEM_NAMESPACE
        && &*pod.account == IDENTITY
        && pod.name.starts_with(AGENT_IDENTITY)
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
