//! Where others are: the endpoints of Services, and which pods are in the mesh, as whom.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
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
    /// what was there. An endpoint that stands for no pod's address, as loopback or what clouds tell machines, is none.
    pub fn put_service(&mut self, at: SocketAddr, name: Arc<str>, mut endpoints: Vec<SocketAddr>) {
        endpoints.retain(|endpoint| endpoint.port() != 0 && is_elsewhere(endpoint.ip()));
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

/// Where clouds give credentials of the machine to whoever asks.
const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether credentials of the machine are to be had there.
pub(crate) fn is_metadata(address: IpAddr) -> bool {
    METADATA.contains(&address)
}

/// Whether somebody else may be at an address.
fn is_elsewhere(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(four) => four.is_link_local() || four.is_broadcast(),
        IpAddr::V6(six) => six.is_unicast_link_local() || six.to_ipv4_mapped().is_some(),
    };
    let is_own = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    !is_own && !is_link_local && !is_metadata(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_service_leads_to_the_pod_itself_or_to_the_machine() {
        let at = SocketAddr::from(([10, 96, 0, 1], 80));
        let mut directory = Directory::default();
        let endpoints = [
            "127.0.0.1:15001",
            "[::1]:80",
            "0.0.0.0:80",
            "[::]:80",
            "169.254.169.254:80",
            "[fd00:ec2::254]:80",
            "[::ffff:169.254.169.254]:80",
            "169.254.1.1:80",
            "[fe80::1]:80",
            "224.0.0.1:80",
            "[ff02::1]:80",
            "255.255.255.255:80",
            "10.0.0.5:0",
            "10.0.0.5:80",
            "[fd77::5]:80",
        ];
        let read = |text: &str| text.parse().unwrap_or(at);
        directory.put_service(at, "shop/orders".into(), endpoints.into_iter().map(read).collect());
        let kept = directory.service(at).map(|it| it.endpoints.clone()).unwrap_or_default();
        assert_eq!(kept, [read("10.0.0.5:80"), read("[fd77::5]:80")]);
        directory.remove_service(at);
        assert!(directory.service(at).is_none());
    }
}
