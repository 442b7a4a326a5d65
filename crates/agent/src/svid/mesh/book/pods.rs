//! Pods: in the mesh or not, at which addresses, and in which group of workloads.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use nullius_intention::{Labels, Rest, Workload as Called};
use nullius_kube::{AGENT_IDENTITY, IDENTITY, SYSTEM_NAMESPACE, identity::PodNews};
use nullius_mesh::news::{Local, Mode, PortProtocol, Uid, Workload};
use nullius_model::{Namespace, SpiffeId};

use super::{Book, Dirty, Key, Name, Pod, Touched, count_down, leave, service_name};
use crate::svid::{enrolment, mesh::protocols};

impl Book {
    pub(super) fn put_pod(&mut self, news: PodNews, dirty: &mut Dirty) {
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

    pub(super) fn drop_pod(&mut self, uid: &str, dirty: &mut Dirty) {
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

    pub(super) fn settle_pod(&mut self, uid: &Uid, dirty: &mut Dirty, touched: &mut Touched) {
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
    pub(super) fn made_of(&self, news: PodNews, claims: Vec<IpAddr>) -> Pod {
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
        let rest = if news.parts.has_more_labels { Rest::Unknown } else { Rest::None };
        let labels = Labels::new(news.parts.labels.clone(), rest);
        let local = Local {
            labels: labels.clone(),
            ports: self.ports_of(news, &addresses),
            probe_ports: news.parts.probe_ports.iter().copied().collect(),
        };
        pod.called = is_in_mesh.then(|| {
            Arc::new(Called { namespace, service_account: news.account.to_string(), labels })
        });
        pod.local = Some(Arc::new(Workload { local: Some(local), ..workload.clone() }));
        pod.remote = is_in_mesh.then(|| Arc::new(workload));
        pod
    }

    /// What is spoken at the ports of a pod. Services of other namespaces may lead to it, and say nothing of it.
    pub(super) fn ports_of(
        &self,
        pod: &PodNews,
        addresses: &[IpAddr],
    ) -> BTreeMap<u16, PortProtocol> {
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

    /// On which nodes which workloads are.
    pub(super) fn regroup(&mut self, before: &Pod, now: &Pod, touched: &mut Touched) {
        // By what was made of it: what is heard of it is newer already.
        let place = |pod: &Pod| {
            let called = pod.called.clone()?;
            let namespace = Name::from(called.namespace.as_str());
            Some((called, namespace, Name::from(pod.node()?)))
        };
        let ports = |pod: &Pod| {
            let local = pod.called.as_ref().and(pod.local.as_ref());
            local.and_then(|it| it.local.as_ref()).map(|it| it.ports.clone())
        };
        let (spoken, speaks) = (ports(before), ports(now));
        let (before, now) = (place(before), place(now));
        if before == now && spoken == speaks {
            return;
        }
        touched.standing = true;
        self.turn += 1;
        for (_, namespace, _) in [&before, &now].into_iter().flatten() {
            self.turns.insert(namespace.clone(), self.turn);
        }
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

    pub(super) fn leave_group(&mut self, called: &Arc<Called>, namespace: &Name, node: &Name) {
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
                self.turns.remove(namespace);
            }
        }
    }
}

impl Pod {
    pub(super) fn new(news: PodNews) -> Self {
        Self { news, remote: None, local: None, called: None, claims: Vec::new() }
    }

    pub(super) fn node(&self) -> Option<&str> {
        self.local.as_ref().map(|workload| &*workload.node)
    }

    pub(super) fn for_node(&self, node: &str) -> Option<&Arc<Workload>> {
        match self.node() {
            Some(own) if own == node => self.local.as_ref(),
            _ => self.remote.as_ref(),
        }
    }
}

/// Whether a pod is a replica of `agent identity`.
pub(super) fn is_replica(pod: &PodNews) -> bool {
    &*pod.namespace == SYSTEM_NAMESPACE
        && &*pod.account == IDENTITY
        && pod.name.starts_with(AGENT_IDENTITY)
}
