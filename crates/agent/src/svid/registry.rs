//! Which pod has which identity, and on which node: pure, and indexed by node, so that a change of one pod costs what one pod costs.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use nullius_kube::{
    IDENTITY_DISABLED, IDENTITY_ENABLED, NODE, NODE_NAMESPACE, SYSTEM_NAMESPACE,
    identity::{NamespaceNews, News, NodeNews, ObjectNews, PodNews, Reviewed},
};
use nullius_model::TrustDomain;
use nullius_registration::WorkloadIdentity;
use nullius_workload::{
    Entry,
    wire::{ENTRIES_MAX, PodName},
};

use super::enrolment::{self, OfNamespace};

mod declared;
mod entries;
mod machines;

use declared::Declared;
pub(crate) use machines::{JoinedBy, Means, is_over, is_token, name_among_nodes};
use machines::{Machines, is_machine};

/// Odd labels that are remembered, so that each is told once.
const ODD_MAX: usize = 1_000;
/// Entries of one namespace that a node is told of.
const OF_NAMESPACE: usize = 1_024;

type Name = Box<str>;

/// Nodes on which something changed.
pub(crate) type Touched = BTreeSet<Name>;

/// Everything that is known of pods.
pub(crate) struct Registry {
    domain: TrustDomain,
    /// Labels of namespaces.
    namespaces: HashMap<Name, Labels>,
    /// By namespace and name.
    pods: HashMap<Name, HashMap<Name, PodNews>>,
    /// UIDs of nodes.
    nodes: HashMap<Name, Name>,
    /// What people declare of identities.
    declared: Declared,
    /// Machines outside of the cluster.
    machines: Machines,
    /// What is registered on each node and machine, by the id of the entry.
    registered: HashMap<Name, BTreeMap<Name, Registered>>,
    odd: BTreeSet<String>,
    /// Which of the four was listed once.
    listed: [bool; 4],
}

/// What a namespace says of its pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Labels {
    identity: Option<Name>,
    mesh: OfNamespace,
}

impl From<NamespaceNews> for Labels {
    fn from(news: NamespaceNews) -> Self {
        let mesh = OfNamespace { label: news.mesh, exempt: news.exempt };
        Self { identity: news.label, mesh }
    }
}

/// An entry, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) entry: Arc<Entry>,
    pub(crate) namespace: Name,
    /// The pod, where it is one's.
    pub(crate) pod: Option<PodName>,
}

/// A node or machine that has proven itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProvenNode {
    pub(crate) name: Name,
    pub(crate) uid: Name,
}

impl ProvenNode {
    /// The name of the machine, where it is one.
    pub(crate) fn machine(&self) -> Option<&str> {
        machines::name_of(&self.name)
    }
}

/// Why a token is no node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotANode {
    #[error("the token is not for this audience")]
    Audience,
    #[error("the token is of another account than `nullius-node/nullius-node`")]
    Account,
    #[error("the token is bound to no pod")]
    NoPod,
    #[error("the pod that the token is bound to is not there")]
    PodGone,
    #[error("the pod that the token is bound to is on no node")]
    NotScheduled,
    #[error("the node of the token is not the one of its pod")]
    OtherNode,
    #[error("the node is not known")]
    UnknownNode,
}

impl NotANode {
    /// Whether it may be that the pod or the node is only not known yet.
    pub(crate) fn may_be_news(self) -> bool {
        match self {
            Self::PodGone | Self::NotScheduled | Self::UnknownNode | Self::OtherNode => true,
            Self::Audience | Self::Account | Self::NoPod => false,
        }
    }
}

impl Registry {
    pub(crate) fn new(domain: TrustDomain) -> Self {
        Self {
            domain,
            namespaces: HashMap::new(),
            pods: HashMap::new(),
            nodes: HashMap::new(),
            declared: Declared::default(),
            machines: Machines::default(),
            registered: HashMap::new(),
            odd: BTreeSet::new(),
            listed: [false; 4],
        }
    }

    /// Whether pods, namespaces, nodes and what is declared of identities were all listed once.
    pub(crate) fn is_complete(&self) -> bool {
        self.listed == [true; 4]
    }

    /// What is registered on a node.
    pub(crate) fn of_node(&self, node: &str) -> impl Iterator<Item = (&Name, &Registered)> {
        self.registered.get(node).into_iter().flatten()
    }

    /// What a node is told: not more of one namespace than it may be that a node has, since who may make pods may say that they are on
    /// any node, and a node hears nothing at all where it is too much.
    pub(crate) fn told(&self, node: &str) -> Vec<(&Name, &Registered)> {
        let mut of_namespaces: HashMap<&str, usize> = HashMap::new();
        let mut told = Vec::new();
        for (id, registered) in self.of_node(node) {
            let count = of_namespaces.entry(&registered.namespace).or_default();
            *count += 1;
            if *count <= OF_NAMESPACE && told.len() < ENTRIES_MAX {
                told.push((id, registered));
            }
        }
        told
    }

    /// One entry of a node.
    pub(crate) fn find(&self, node: &str, id: &str) -> Option<&Registered> {
        self.registered.get(node)?.get(id)
    }

    /// How many entries there are.
    pub(crate) fn count(&self) -> usize {
        self.registered.values().map(BTreeMap::len).sum()
    }

    /// Whose a token is that the API server knows.
    pub(crate) fn judge(&self, token: &Reviewed, audience: &str) -> Result<ProvenNode, NotANode> {
        let pod = self.pods.get(NODE_NAMESPACE);
        let pod = pod.zip(token.pod_name.as_deref()).and_then(|(pods, name)| pods.get(name));
        let node = pod.and_then(|pod| pod.node.as_deref());
        let uid = node.and_then(|node| self.nodes.get(node));
        judge(token, audience, pod, uid.map(AsRef::as_ref))
    }

    pub(crate) fn hear_pods(&mut self, news: News<PodNews>) -> Touched {
        let mut touched = Touched::new();
        match news {
            News::Put(pod) => self.put(pod, &mut touched),
            News::Gone(pod) => self.remove(&pod, &mut touched),
            News::All(pods) => {
                self.listed[0] = true;
                let mut gone = std::mem::take(&mut self.pods);
                // What stands and stays is no change for its node.
                for pod in pods {
                    let before = gone.get_mut(&pod.namespace).and_then(|of| of.remove(&pod.name));
                    if let Some(before) = before {
                        self.keep(before);
                    }
                    self.put(pod, &mut touched);
                }
                for pod in gone.into_values().flat_map(HashMap::into_values) {
                    self.unregister(&pod, &mut touched);
                }
            }
        }
        touched
    }

    pub(crate) fn hear_namespaces(&mut self, news: News<NamespaceNews>) -> Touched {
        let mut touched = Touched::new();
        match news {
            News::Put(namespace) => {
                self.label(namespace.name.clone(), Some(namespace.into()), &mut touched);
            }
            News::Gone(namespace) => self.label(namespace.name, None, &mut touched),
            News::All(namespaces) => {
                self.listed[1] = true;
                let names: BTreeSet<Name> =
                    namespaces.iter().map(|namespace| namespace.name.clone()).collect();
                let gone: Vec<Name> =
                    self.namespaces.keys().filter(|name| !names.contains(*name)).cloned().collect();
                for name in gone {
                    self.label(name, None, &mut touched);
                }
                for namespace in namespaces {
                    self.label(namespace.name.clone(), Some(namespace.into()), &mut touched);
                }
            }
        }
        touched
    }

    pub(crate) fn hear_nodes(&mut self, news: News<NodeNews>) -> Touched {
        match news {
            News::Put(node) => match self.nodes.insert(node.name.clone(), node.uid.clone()) {
                Some(before) if before == node.uid => Touched::new(),
                Some(_) | None => Touched::from([node.name]),
            },
            News::Gone(node) => {
                self.nodes.remove(&node.name);
                Touched::from([node.name])
            }
            News::All(nodes) => {
                self.listed[2] = true;
                let now: HashMap<Name, Name> =
                    nodes.into_iter().map(|node| (node.name, node.uid)).collect();
                let before = std::mem::replace(&mut self.nodes, now);
                let all = before.keys().chain(self.nodes.keys());
                let changed = all.filter(|name| before.get(*name) != self.nodes.get(*name));
                changed.cloned().collect()
            }
        }
    }

    pub(crate) fn hear_declared(&mut self, news: News<ObjectNews>) -> Touched {
        if let News::All(_) = &news {
            self.listed[3] = true;
        }
        let mut touched = Touched::new();
        for namespace in self.declared.hear(news) {
            self.register_all(&namespace, &mut touched);
        }
        touched
    }

    /// How what is declared stands: each object, and of how many pods or machines it says something; or why it cannot be read, or says
    /// nothing of a machine that it names.
    pub(crate) fn declared(&self) -> Vec<(ObjectNews, Result<usize, String>)> {
        let of_pods = |namespace: &str, object: &WorkloadIdentity| {
            let pods = self.pods.get(namespace).into_iter().flat_map(HashMap::values);
            pods.filter(|pod| {
                let node = pod.node.as_deref().and_then(|node| self.registered.get(node));
                node.is_some_and(|on_node| entries::gives(on_node, pod, object))
            })
            .count()
        };
        let all = self.declared.all();
        let standing = all.map(|(news, read)| {
            let counted = read.map_err(str::to_owned).and_then(|object| match object.machines() {
                Some(machines) => self.on_machines(object, machines),
                None => Ok(of_pods(&news.namespace, object)),
            });
            (news.clone(), counted)
        });
        standing.collect()
    }

    fn keep(&mut self, pod: PodNews) {
        self.pods.entry(pod.namespace.clone()).or_default().insert(pod.name.clone(), pod);
    }

    fn put(&mut self, pod: PodNews, touched: &mut Touched) {
        let before = self.pods.get(&pod.namespace).and_then(|pods| pods.get(&pod.name)).cloned();
        if before.as_ref() == Some(&pod) {
            return;
        }
        if let Some(before) = before
            && (before.uid != pod.uid || before.node != pod.node)
        {
            self.unregister(&before, touched);
        }
        self.keep(pod.clone());
        self.register(&pod, touched);
    }

    fn remove(&mut self, pod: &PodNews, touched: &mut Touched) {
        let Some(pods) = self.pods.get_mut(&pod.namespace) else { return };
        // Another pod may have the name by now.
        if pods.get(&pod.name).is_none_or(|known| known.uid != pod.uid) {
            return;
        }
        let known = pods.remove(&pod.name);
        if pods.is_empty() {
            self.pods.remove(&pod.namespace);
        }
        if let Some(known) = known {
            self.unregister(&known, touched);
        }
    }

    /// The labels of a namespace, or none where there is no such namespace any more.
    fn label(&mut self, name: Name, labels: Option<Labels>, touched: &mut Touched) {
        let before = match labels.clone() {
            Some(labels) => self.namespaces.insert(name.clone(), labels),
            None => self.namespaces.remove(&name),
        };
        if before == labels {
            return;
        }
        self.register_all(&name, touched);
    }

    fn register_all(&mut self, namespace: &str, touched: &mut Touched) {
        let pods: Vec<PodNews> =
            self.pods.get(namespace).into_iter().flat_map(HashMap::values).cloned().collect();
        for pod in pods {
            self.register(&pod, touched);
        }
        self.register_machines_of(namespace, touched);
    }

    /// Registers a pod as it is now, which may be not at all.
    fn register(&mut self, pod: &PodNews, touched: &mut Touched) {
        let now = self.entries_of(pod);
        self.replace(pod, now, touched);
    }

    fn unregister(&mut self, pod: &PodNews, touched: &mut Touched) {
        self.replace(pod, BTreeMap::new(), touched);
    }

    /// What is registered of a pod on its node from now on.
    fn replace(&mut self, pod: &PodNews, now: BTreeMap<Name, Registered>, touched: &mut Touched) {
        let Some(node) = &pod.node else { return };
        if &*pod.namespace == NODE_NAMESPACE {
            touched.insert(node.clone());
        }
        if now.is_empty() && !self.registered.contains_key(node) {
            return;
        }
        let on_node = self.registered.entry(node.clone()).or_default();
        let before: Vec<Name> = entries::ids_of(on_node, &pod.uid).cloned().collect();
        for gone in before.iter().filter(|id| !now.contains_key(*id)) {
            on_node.remove(gone);
            touched.insert(node.clone());
        }
        for (id, registered) in now {
            if on_node.get(&id) != Some(&registered) {
                on_node.insert(id, registered);
                touched.insert(node.clone());
            }
        }
        if on_node.is_empty() {
            self.registered.remove(node);
        }
    }

    /// The identities of a pod, where it has some.
    fn entries_of(&mut self, pod: &PodNews) -> BTreeMap<Name, Registered> {
        if [SYSTEM_NAMESPACE, NODE_NAMESPACE].contains(&&*pod.namespace)
            || pod.is_ended
            || pod.node.as_deref().is_none_or(is_machine)
            || pod.account.is_empty()
            || !self.is_enrolled(pod)
        {
            return BTreeMap::new();
        }
        let odd = &mut self.odd;
        let is_new = |place| odd.len() < ODD_MAX && odd.insert(place);
        entries::entries_of(pod, &self.domain, self.declared.of(&pod.namespace), is_new)
    }

    /// The pod's own label decides where it has one, unless the namespace says no: who may make pods does not overrule who may label
    /// namespaces. A word that nobody knows is no identity. Who is in the mesh is somebody there.
    fn is_enrolled(&mut self, pod: &PodNews) -> bool {
        // What the namespace says is not known yet: it may say no.
        let Some(labels) = self.namespaces.get(&pod.namespace) else { return false };
        let Labels { identity: of_namespace, mesh } = labels.clone();
        let is_refused = of_namespace.as_deref() == Some(IDENTITY_DISABLED);
        if is_refused && !mesh.is_in_mesh() {
            return false;
        }
        if enrolment::is_in_mesh(pod, &mesh) {
            return true;
        }
        let (label, place) = match &pod.label {
            Some(label) => (Some(label.clone()), format!("Pod/{}/{}", pod.namespace, pod.name)),
            None => (of_namespace, format!("Namespace/{}", pod.namespace)),
        };
        match label.as_deref() {
            Some(IDENTITY_ENABLED) => true,
            Some(IDENTITY_DISABLED) | None => false,
            Some(_) => {
                if self.odd.len() < ODD_MAX && self.odd.insert(place.clone()) {
                    tracing::warn!(object = %place, "give no identity: the label `nullius.dev/identity` is neither `enabled` nor `disabled`");
                }
                false
            }
        }
    }
}

/// Whose a token is, by what is known of its pod and the UID of that pod's node.
pub(crate) fn judge(
    token: &Reviewed,
    audience: &str,
    pod: Option<&PodNews>,
    node_uid: Option<&str>,
) -> Result<ProvenNode, NotANode> {
    if !token.audiences.iter().any(|name| name == audience) {
        return Err(NotANode::Audience);
    }
    if token.username != format!("system:serviceaccount:{NODE_NAMESPACE}:{NODE}") {
        return Err(NotANode::Account);
    }
    let (Some(name), Some(uid)) = (&token.pod_name, &token.pod_uid) else {
        return Err(NotANode::NoPod);
    };
    let is_it = |pod: &&PodNews| {
        &*pod.namespace == NODE_NAMESPACE
            && *pod.name == **name
            && *pod.uid == **uid
            && &*pod.account == NODE
            && !pod.is_ended
    };
    let pod = pod.filter(is_it).ok_or(NotANode::PodGone)?;
    let node = pod.node.clone().ok_or(NotANode::NotScheduled)?;
    let node_uid = node_uid.filter(|uid| !uid.is_empty()).ok_or(NotANode::UnknownNode)?;
    let differs = |said: &Option<String>, known: &str| said.as_ref().is_some_and(|it| it != known);
    if differs(&token.node_name, &node) || differs(&token.node_uid, node_uid) {
        return Err(NotANode::OtherNode);
    }
    Ok(ProvenNode { name: node, uid: node_uid.into() })
}

#[cfg(test)]
mod tests;
