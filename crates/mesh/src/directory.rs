//! Where others are: the endpoints of Services, and which pods are in the mesh, as whom.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use nullius_model::SpiffeId;

/// How long an address stays that of the pod of the mesh that had it: others still call it there, while the cluster may give it to
/// somebody outside of the mesh.
pub const GONE: Duration = Duration::from_secs(300);

/// Services and pods by address. An address has the identity of the pod that has it, and of nothing else: what an EndpointSlice
/// says gives nobody one.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    services: HashMap<SocketAddr, Arc<ServicePort>>,
    pods: HashMap<IpAddr, Told>,
}

/// What is told of an address of the mesh.
#[derive(Debug, Clone)]
enum Told {
    /// One pod has it: its ID, in the form in which it is asked for.
    Pod(Arc<[SpiffeId]>),
    /// More than one says to have it.
    Claimed,
    /// A pod of the mesh had it until a moment ago.
    Gone { until: Instant },
}

/// Who is at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who<'a> {
    /// The pod of the mesh that has this ID.
    Pod(&'a Arc<[SpiffeId]>),
    /// Nobody of the mesh.
    Outside,
    /// Perhaps somebody of the mesh: it is not known who.
    Unclear,
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

    /// A pod of the mesh has an address, in place of the pod that had it.
    pub fn put_pod(&mut self, address: IpAddr, id: SpiffeId) {
        self.pods.insert(address, Told::Pod([id].into()));
    }

    /// More than one says to have an address, and one of them is of the mesh: it is not known who is there.
    pub fn put_claimed(&mut self, address: IpAddr) {
        self.pods.insert(address, Told::Claimed);
    }

    /// Keeps addresses that pods of the mesh had in a directory of before, and that nobody of the mesh has now, for [`GONE`].
    pub fn keep_gone(&mut self, before: &Self, now: Instant) {
        for (address, told) in &before.pods {
            let until = match told {
                Told::Pod(_) | Told::Claimed => now + GONE,
                Told::Gone { until } => *until,
            };
            if until > now {
                self.pods.entry(*address).or_insert(Told::Gone { until });
            }
        }
    }

    /// No pod of the mesh has an address any more.
    pub fn remove_pod(&mut self, address: IpAddr) {
        self.pods.remove(&address);
    }

    pub(crate) fn service(&self, at: SocketAddr) -> Option<&Arc<ServicePort>> {
        self.services.get(&at)
    }

    /// Who is at an address.
    pub fn who(&self, address: IpAddr, now: Instant) -> Who<'_> {
        match self.pods.get(&address) {
            Some(Told::Pod(id)) => Who::Pod(id),
            Some(Told::Claimed) => Who::Unclear,
            Some(Told::Gone { until }) if now < *until => Who::Unclear,
            Some(Told::Gone { .. }) | None => Who::Outside,
        }
    }

    /// Whom to expect at an address, in the form in which it is asked for; none where that is not known, or nobody of the mesh.
    pub(crate) fn expected(&self, address: IpAddr) -> Option<&Arc<[SpiffeId]>> {
        match self.pods.get(&address)? {
            Told::Pod(id) => Some(id),
            Told::Claimed | Told::Gone { .. } => None,
        }
    }

    /// Whether a pod of the mesh has an address, or says so: whoever calls from there can prove who it is.
    pub(crate) fn is_of_mesh(&self, address: IpAddr) -> bool {
        matches!(self.pods.get(&address), Some(Told::Pod(_) | Told::Claimed))
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
pub(crate) fn is_elsewhere(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(four) => four.is_link_local() || four.is_broadcast(),
        IpAddr::V6(six) => six.is_unicast_link_local() || six.to_ipv4_mapped().is_some(),
    };
    let is_own = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    !is_own && !is_link_local && !is_metadata(address)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]

    use super::*;

    #[test]
    fn an_address_of_a_pod_that_is_gone_is_unclear_for_some_minutes_and_then_outside() {
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let id = |account: &str| -> SpiffeId {
            format!("spiffe://dev.example/ns/shop/sa/{account}").parse().unwrap()
        };
        let begun = Instant::now();
        let mut first = Directory::default();
        first.put_pod(address(1), id("front"));
        first.put_pod(address(2), id("orders"));
        first.put_claimed(address(3));
        assert_eq!(first.who(address(1), begun), Who::Pod(&[id("front")].into()));
        assert_eq!(first.who(address(3), begun), Who::Unclear);
        assert_eq!(first.expected(address(3)), None);
        assert_eq!(first.who(address(4), begun), Who::Outside);

        let mut second = Directory::default();
        second.put_pod(address(2), id("bank"));
        second.keep_gone(&first, begun);
        let of_mesh =
            |directory: &Directory| [1, 2, 3, 4].map(|it| directory.is_of_mesh(address(it)));
        assert_eq!(of_mesh(&first), [true, true, true, false]);
        assert_eq!(of_mesh(&second), [false, true, false, false]);
        // Another one that is told with an identity is known at once.
        assert_eq!(second.who(address(2), begun), Who::Pod(&[id("bank")].into()));
        let (soon, late) = (begun + GONE / 2, begun + GONE);
        // The time does not begin anew with each news.
        let mut third = Directory::default();
        third.keep_gone(&second, soon);
        for gone in [1, 3] {
            assert_eq!(second.who(address(gone), begun), Who::Unclear);
            assert_eq!(third.who(address(gone), soon), Who::Unclear);
            assert_eq!(third.who(address(gone), late), Who::Outside);
        }
        assert_eq!(third.who(address(2), late), Who::Unclear);
        let mut fourth = Directory::default();
        fourth.keep_gone(&third, late);
        assert_eq!(fourth.pods.len(), 1, "what is over is forgotten");
    }

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
    }
}
