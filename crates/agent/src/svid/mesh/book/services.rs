//! Services, and where they lead.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use nullius_kube::{
    SYSTEM_NAMESPACE,
    identity::{ServiceNews, SliceEndpoint, SliceNews},
};
use nullius_mesh::news::{
    ADDRESSES_MAX, ENDPOINTS_MAX, Endpoint, SERVICES_MAX, Service, ServiceName, ServicePort, Uid,
    is_address,
};

use super::{Book, Dirty, Key, Name, OF_SYSTEM, Touched, count_down, imports, leave, service_name};
use crate::svid::{enrolment::OfNamespace, mesh::protocols};

/// Services of one namespace that nodes are told of.
pub(super) const SERVICES_OF_NAMESPACE: usize = 2_000;
/// Of all but the system's: what is that one's stays free, and nodes take no more in all.
pub(super) const SERVICES_OF_OTHERS: usize = SERVICES_MAX - OF_SYSTEM * SERVICES_OF_NAMESPACE;
/// Ports of a Service of another cluster: each costs every node what is said of its gateways.
const PORTS_OF_IMPORT: usize = 64;

impl Book {
    pub(super) fn put_service(&mut self, news: ServiceNews, dirty: &mut Dirty) {
        let Some(name) = service_name(&news.namespace, &news.name) else { return };
        let known = self.services.entry(Arc::clone(&name)).or_default();
        if known.news.as_ref() == Some(&news) {
            return;
        }
        if let Err(why) = imports::read(&news.import, &self.domain)
            && known.news.as_ref().is_none_or(|before| before.import != news.import)
        {
            tracing::warn!(service = %name, why, "lead a Service nowhere that stands for one of another cluster");
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

    pub(super) fn drop_service(&mut self, name: &Arc<ServiceName>, dirty: &mut Dirty) {
        let Some(known) = self.services.get_mut(name) else { return };
        if let Some(gone) = known.news.take() {
            let slices = known.slices.clone();
            self.dirty_behind(&slices, dirty);
            self.take(&gone.addresses, &[], dirty);
        }
        dirty.services.insert(Arc::clone(name));
    }

    pub(super) fn change_slice(
        &mut self,
        key: (Name, Name),
        new: Option<SliceNews>,
        dirty: &mut Dirty,
    ) {
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
    pub(super) fn dirty_behind(&self, slices: &BTreeSet<(Name, Name)>, dirty: &mut Dirty) {
        let slices = slices.iter().filter_map(|key| self.slices.get(key));
        for endpoint in slices.flat_map(|slice| &slice.endpoints) {
            dirty.pods.extend(self.addresses.get(&endpoint.address).into_iter().flatten().cloned());
        }
    }

    pub(super) fn leading_to(&self, address: &IpAddr) -> impl Iterator<Item = Arc<ServiceName>> {
        let slices = self.leading.get(address).into_iter().flatten();
        let slices = slices.filter_map(|key| self.slices.get(key));
        slices.filter_map(|slice| service_name(&slice.namespace, &slice.service))
    }

    pub(super) fn settle_service(
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
            if self.has_room(&namespace) {
                *self.told_services.entry(namespace.clone()).or_default() += 1;
                self.of_others.services += usize::from(*namespace != *SYSTEM_NAMESPACE);
                self.waiting_services.remove(name);
            } else {
                told = None;
                self.waiting_services.insert(Arc::clone(name));
                self.crowd("Service", &namespace);
            }
        } else if told.is_none() {
            self.waiting_services.remove(name);
            if was_told {
                count_down(&mut self.told_services, &namespace);
                self.of_others.services -= usize::from(*namespace != *SYSTEM_NAMESPACE);
                let mut waiting = self.waiting_services.iter();
                let next = waiting.find(|it| self.has_room(it.namespace.as_str())).cloned();
                dirty.services.extend(next);
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

    /// Whether nodes may be told of another Service of a namespace.
    fn has_room(&self, namespace: &str) -> bool {
        let count = self.told_services.get(namespace).copied().unwrap_or(0);
        match namespace == SYSTEM_NAMESPACE {
            true => count < OF_SYSTEM * SERVICES_OF_NAMESPACE,
            false => count < SERVICES_OF_NAMESPACE && self.of_others.services < SERVICES_OF_OTHERS,
        }
    }

    /// A Service, where it leads to the mesh, or is of a namespace of the mesh: one that leads to nobody at this moment is told too, so
    /// that who calls it is refused and not let out; and so is one that was told before, for as long as it stands.
    pub(super) fn told_of(
        &self,
        name: &ServiceName,
        news: &ServiceNews,
        slices: &BTreeSet<(Name, Name)>,
        was_told: bool,
    ) -> Option<Service> {
        let slices: Vec<&SliceNews> =
            slices.iter().filter_map(|key| self.slices.get(key)).collect();
        let mut all = slices.iter().flat_map(|slice| &slice.endpoints);
        let is_in_mesh = self.namespaces.get(&news.namespace).is_some_and(OfNamespace::is_in_mesh);
        let import = imports::read(&news.import, &self.domain).unwrap_or_else(|_| {
            // It was meant for another cluster: nobody of this one stands in for that.
            Some(imports::nowhere(name))
        });
        // Without an address nobody calls it by one: then it costs nodes next to nothing.
        let has_address = !news.addresses.is_empty();
        let import = import.map(|it| if has_address { it } else { imports::nowhere(name) });
        if !is_in_mesh && !was_told && import.is_none() {
            all.find(|endpoint| self.in_mesh_at(&endpoint.address).is_some())?;
        }
        let mut ports = BTreeMap::new();
        let mut left = ENDPOINTS_MAX;
        let most = if import.is_some() { PORTS_OF_IMPORT } else { usize::MAX };
        for port in news.ports.iter().take(most) {
            let mut endpoints = Vec::new();
            for slice in slices.iter().filter(|_| import.is_none()) {
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
        Some(Service { name: name.clone(), addresses: addresses.collect(), ports, import })
    }

    /// The pod in the mesh that has an address.
    pub(super) fn in_mesh_at(&self, address: &IpAddr) -> Option<&Uid> {
        let holder = self.holders.get(address)?;
        self.pods.get(holder)?.remote.as_ref().map(|_| holder)
    }
}
