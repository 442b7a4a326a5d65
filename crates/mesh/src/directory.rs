//! Where others are: the endpoints of Services, and which pods are in the mesh, as whom.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use nullius_model::SpiffeId;
use nullius_tunnel::is_elsewhere;

use crate::{SharedMap, Via};

/// How long an address stays that of the pod of the mesh that had it: others still call it there, while the cluster may give it to
/// somebody outside of the mesh.
pub const GONE: Duration = Duration::from_secs(300);

/// Services and pods by address. An address has the identity of the pod that has it, and of nothing else: what an EndpointSlice
/// says gives nobody one.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// Usually one at an address and port.
    services: SharedMap<SocketAddr, Vec<Arc<ServicePort>>>,
    pods: SharedMap<IpAddr, Told>,
    /// When which address is to be forgotten, unless somebody has it again by then.
    gone: SharedMap<(Instant, IpAddr), ()>,
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

/// Who says to have an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim<'a> {
    /// One pod of the mesh, and nobody else: its ID.
    One(&'a SpiffeId),
    /// More than one, and one of them is of the mesh.
    Many,
    /// Nobody of the mesh.
    Nobody,
}

/// A port of a Service at one of its addresses.
#[derive(Debug)]
pub(crate) struct ServicePort {
    pub(crate) name: Arc<str>,
    /// Those that are ready.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// Where it is a Service of another cluster: how it is reached.
    pub(crate) via: Option<Arc<Via>>,
}

impl ServicePort {
    /// A Service of another cluster, by the name that it has between clusters.
    pub(crate) fn far(via: &Arc<Via>) -> Self {
        let name = via.service.to_string().into();
        Self { name, endpoints: Vec::new(), via: Some(Arc::clone(via)) }
    }
}

impl Directory {
    /// A Service (`NAMESPACE/NAME`) has an address and a port, and behind it these endpoints that are ready; it stands in place of
    /// what was there of its name. An endpoint that stands for no pod's address, as loopback or what clouds tell machines, is none.
    pub fn put_service(&mut self, at: SocketAddr, name: Arc<str>, mut endpoints: Vec<SocketAddr>) {
        endpoints.retain(is_somebody);
        self.put(at, ServicePort { name, endpoints, via: None });
    }

    /// A Service has an address and a port, and stands for one of another cluster, which is reached through a gateway there. Nothing of
    /// this cluster is behind it.
    pub fn put_import(&mut self, at: SocketAddr, name: Arc<str>, mut via: Via) {
        via.gateways.retain(is_somebody);
        self.put(at, ServicePort { name, endpoints: Vec::new(), via: Some(Arc::new(via)) });
    }

    fn put(&mut self, at: SocketAddr, service: ServicePort) {
        let mut all = self.services.get(&at).cloned().unwrap_or_default();
        let service = Arc::new(service);
        all.retain(|it| it.name != service.name);
        all.push(service);
        all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        self.services.insert(at, all);
    }

    /// A Service has an address and a port no more.
    pub fn remove_service(&mut self, at: SocketAddr, name: &str) {
        let Some(mut all) = self.services.get(&at).cloned() else { return };
        all.retain(|it| *it.name != *name);
        match all.is_empty() {
            true => self.services.remove(&at),
            false => self.services.insert(at, all),
        };
    }

    /// Whether that is what is told of an address already.
    pub fn is_told(&self, address: IpAddr, claim: Claim<'_>) -> bool {
        match (self.pods.get(&address), claim) {
            (Some(Told::Pod(id)), Claim::One(now)) => **id == [now.clone()],
            (Some(Told::Claimed), Claim::Many) => true,
            (Some(Told::Gone { .. }) | None, Claim::Nobody) => true,
            _ => false,
        }
    }

    /// Tells who says to have an address. Where that is nobody of the mesh any more, it is unclear for [`GONE`] who is there.
    pub fn tell(&mut self, address: IpAddr, claim: Claim<'_>, now: Instant) {
        match claim {
            Claim::One(id) => drop(self.pods.insert(address, Told::Pod([id.clone()].into()))),
            Claim::Many => drop(self.pods.insert(address, Told::Claimed)),
            Claim::Nobody => {
                if let Some(Told::Pod(_) | Told::Claimed) = self.pods.get(&address) {
                    let until = now + GONE;
                    self.pods.insert(address, Told::Gone { until });
                    self.gone.insert((until, address), ());
                }
            }
        }
    }

    /// A pod of the mesh has an address, in place of the pod that had it.
    pub fn put_pod(&mut self, address: IpAddr, id: SpiffeId) {
        self.pods.insert(address, Told::Pod([id].into()));
    }

    /// Whether there is something to forget.
    pub fn has_gone(&self, now: Instant) -> bool {
        self.gone.first_key().is_some_and(|(until, _)| *until <= now)
    }

    /// Forgets addresses that were left long ago.
    pub fn forget_gone(&mut self, now: Instant) {
        while let Some((until, address)) = self.gone.first_key().copied()
            && until <= now
        {
            self.gone.remove(&(until, address));
            if matches!(self.pods.get(&address), Some(Told::Gone { until: told }) if *told == until)
            {
                self.pods.remove(&address);
            }
        }
    }

    /// The Service that has an address and a port. Where two say so, it leads nowhere: which one is meant is not known.
    pub(crate) fn service(&self, at: SocketAddr) -> Option<Arc<ServicePort>> {
        match self.services.get(&at)?.as_slice() {
            [] => None,
            [one] => Some(Arc::clone(one)),
            [first, second, ..] => {
                let name = format!("{} and {}", first.name, second.name).into();
                Some(Arc::new(ServicePort { name, endpoints: Vec::new(), via: None }))
            }
        }
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

/// Whether somebody can be there who is neither this machine nor what clouds tell machines.
fn is_somebody(at: &SocketAddr) -> bool {
    at.port() != 0 && is_elsewhere(at.ip())
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
        first.tell(address(3), Claim::Many, begun);
        assert_eq!(first.who(address(1), begun), Who::Pod(&[id("front")].into()));
        assert_eq!(first.who(address(3), begun), Who::Unclear);
        assert_eq!(first.expected(address(3)), None);
        assert_eq!(first.who(address(4), begun), Who::Outside);

        let mut second = first.clone();
        for gone in [1, 3] {
            second.tell(address(gone), Claim::Nobody, begun);
        }
        second.put_pod(address(2), id("bank"));
        let of_mesh =
            |directory: &Directory| [1, 2, 3, 4].map(|it| directory.is_of_mesh(address(it)));
        assert_eq!(of_mesh(&first), [true, true, true, false]);
        assert_eq!(of_mesh(&second), [false, true, false, false]);
        // Another one that is told with an identity is known at once.
        assert_eq!(second.who(address(2), begun), Who::Pod(&[id("bank")].into()));
        let (soon, late) = (begun + GONE / 2, begun + GONE);
        // The time does not begin anew with each news.
        let mut third = second.clone();
        for gone in [1, 2, 3, 4] {
            third.tell(address(gone), Claim::Nobody, soon);
        }
        for gone in [1, 3] {
            assert_eq!(second.who(address(gone), begun), Who::Unclear);
            assert_eq!(third.who(address(gone), soon), Who::Unclear);
            assert_eq!(third.who(address(gone), late), Who::Outside);
        }
        assert_eq!(third.who(address(2), late), Who::Unclear);
        assert_eq!(third.who(address(4), soon), Who::Outside);
        third.forget_gone(late);
        assert_eq!((third.pods.len(), third.gone.len()), (1, 1), "what is over is forgotten");
    }

    #[test]
    fn where_two_services_say_to_have_an_address_neither_is_dialled() {
        let at = SocketAddr::from(([10, 96, 0, 1], 80));
        let end = |last: u8| SocketAddr::from(([10, 0, 0, last], 80));
        let mut directory = Directory::default();
        directory.put_service(at, "shop/orders".into(), vec![end(1)]);
        directory.put_service(at, "bank/ledger".into(), vec![end(2)]);
        let there = |directory: &Directory| {
            let found = directory.service(at).unwrap();
            (found.name.to_string(), found.endpoints.clone())
        };
        assert_eq!(there(&directory), ("bank/ledger and shop/orders".to_owned(), Vec::new()));
        directory.remove_service(at, "bank/ledger");
        assert_eq!(there(&directory), ("shop/orders".to_owned(), vec![end(1)]));
        directory.put_service(at, "shop/orders".into(), vec![end(3)]);
        assert_eq!(there(&directory), ("shop/orders".to_owned(), vec![end(3)]));
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
        directory.remove_service(at, "shop/orders");
        assert!(directory.service(at).is_none());
    }
}
