//! Where others are: the endpoints of Services, and which pods are in the mesh, as whom.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use nullius_model::SpiffeId;

/// Services and pods by address. An address has the identity of the pod that has it, and of nothing else: what an EndpointSlice
/// says gives nobody one.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    services: HashMap<SocketAddr, Arc<ServicePort>>,
    pods: HashMap<IpAddr, Arc<[SpiffeId]>>,
}

/// A port of a Service at one of its addresses.
#[derive(Debug)]
pub(crate) struct ServicePort {
    pub(crate) name: Arc<str>,
    /// Those that are ready.
    pub(crate) endpoints: Vec<SocketAddr>,
}

impl Directory {
    /// A Service (`NAMESPACE/NAME`) has an address and a port, and behind it these endpoints that are ready; it stands in place of
    /// what was there.
    pub fn put_service(&mut self, at: SocketAddr, name: Arc<str>, endpoints: Vec<SocketAddr>) {
        self.services.insert(at, Arc::new(ServicePort { name, endpoints }));
    }

    /// No Service has an address and a port any more.
    pub fn remove_service(&mut self, at: SocketAddr) {
        self.services.remove(&at);
    }

    /// A pod of the mesh has an address, in place of the pod that had it.
    pub fn put_pod(&mut self, address: IpAddr, id: SpiffeId) {
        self.pods.insert(address, [id].into());
    }

    /// No pod of the mesh has an address any more.
    pub fn remove_pod(&mut self, address: IpAddr) {
        self.pods.remove(&address);
    }

    pub(crate) fn service(&self, at: SocketAddr) -> Option<&Arc<ServicePort>> {
        self.services.get(&at)
    }

    /// Whom to expect at an address, in the form in which it is asked for; none where no pod of the mesh is.
    pub(crate) fn expected(&self, address: IpAddr) -> Option<&Arc<[SpiffeId]>> {
        self.pods.get(&address)
    }
}
