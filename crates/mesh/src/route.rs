//! Where a connection of this workload goes: to whom, by what, and to whom else if nobody answers there.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use nullius_model::SpiffeId;
use nullius_tunnel::is_metadata;

use crate::{
    At, Reached, Upstream, Via, Wire, World,
    access_log::{PLAIN, Why},
    directory::{ServicePort, Who},
    gateway::GATEWAY,
    reach::random,
};

/// Endpoints of one Service that are dialled for one connection.
pub(crate) const DIALS: usize = 3;

/// One place that a connection may go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hop {
    /// The destination as it is known to itself.
    pub(crate) destination: SocketAddr,
    /// Where it is dialled.
    pub(crate) dial: SocketAddr,
    /// The address to dial from.
    pub(crate) from: Option<IpAddr>,
    pub(crate) over: Over,
}

/// What a connection goes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Over {
    /// To whoever proves one of these IDs.
    Mesh(Wire, Arc<[SpiffeId]>),
    /// Through a gateway, to a Service of another cluster; with the address that was called, where that was one.
    Gateway(Arc<Via>, Option<SocketAddr>),
    /// Bytes as they are: nobody there is in the mesh.
    Plain,
    /// Nothing: somebody there may be of the mesh, and it is not known who.
    Unclear,
}

impl Over {
    /// What is expected at an address by what is known of who has it. What a pod says to itself leaves it for nobody.
    pub(crate) fn to(address: IpAddr, world: &World) -> Self {
        if world.here.addresses.contains(&address) {
            return Self::Plain;
        }
        match world.directory.who(address, Instant::now()) {
            Who::Pod(expected) => Self::Mesh(Wire::Hbone, Arc::clone(expected)),
            Who::Outside => Self::Plain,
            Who::Unclear => Self::Unclear,
        }
    }

    /// The word of it; none where nothing is sent.
    pub(crate) fn as_str(&self) -> Option<&'static str> {
        match self {
            Self::Mesh(wire, _) => Some(wire.as_str()),
            Self::Gateway(..) => Some(GATEWAY),
            Self::Plain => Some(PLAIN),
            Self::Unclear => None,
        }
    }
}

impl Hop {
    fn of(workload: &At) -> Self {
        let At { destination, dial, wire, source, .. } = *workload;
        let over = Over::Mesh(wire, Arc::clone(&workload.expect));
        Self { destination, dial, from: source, over }
    }

    /// An address, by what is known of who has it.
    fn to(address: SocketAddr, world: &World) -> Self {
        let over = Over::to(address.ip(), world);
        Self { destination: address, dial: address, from: None, over }
    }
}

/// Places for one connection, one after the other.
#[derive(Debug)]
pub(crate) struct Route {
    /// The Service that was called.
    service: Option<Arc<ServicePort>>,
    /// The address that was called, where a pod has begun the connection.
    called: Option<SocketAddr>,
    tried: Vec<SocketAddr>,
    next: Option<Hop>,
}

impl Route {
    /// The one place that somebody wrote.
    pub(crate) fn of(upstream: &Upstream) -> Self {
        let (service, next) = match &upstream.to {
            Reached::Workload(workload) => (None, Some(Hop::of(workload))),
            Reached::Service(via) => (Some(Arc::new(ServicePort::far(via))), None),
        };
        Self { service, called: None, tried: Vec::new(), next }
    }

    /// Where a connection goes that a pod has begun; none where it may not begin.
    pub(crate) fn led(
        to: SocketAddr,
        world: &World,
        own_ports: &BTreeSet<u16>,
    ) -> Result<Self, Why> {
        let here = &world.here.addresses;
        let is_here = to.ip().is_loopback() || here.contains(&to.ip()) || to.ip().is_unspecified();
        if is_here && own_ports.contains(&to.port()) {
            return Err(Why::ProxyItself);
        }
        if is_metadata(to) {
            return Err(Why::MetadataAddress);
        }
        let service = world.directory.service(to);
        let next = service.is_none().then(|| Hop::to(to, world));
        Ok(Self { service, called: Some(to), tried: Vec::new(), next })
    }

    /// The Service that was called.
    pub(crate) fn service(&self) -> Option<&Arc<str>> {
        self.service.as_ref().map(|service| &service.name)
    }

    /// The next place, where there is one.
    pub(crate) fn next(&mut self, world: &World, calls: &Calls) -> Option<Hop> {
        if let Some(hop) = self.next.take() {
            return Some(hop);
        }
        let service = self.service.as_ref()?;
        let via = service.via.as_ref();
        let endpoints = via.map_or(&service.endpoints, |via| &via.gateways);
        if self.tried.len() >= DIALS {
            return None;
        }
        let random = |below| usize::try_from(random()).unwrap_or_default() % below;
        let chosen = choose(endpoints, &self.tried, |at| calls.count(at), random)?;
        self.tried.push(chosen);
        let Some(via) = via else { return Some(Hop::to(chosen, world)) };
        let over = Over::Gateway(Arc::clone(via), self.called);
        Some(Hop { destination: chosen, dial: chosen, from: None, over })
    }
}

/// The less busy of two that are drawn, of those that were not tried yet.
pub(crate) fn choose(
    endpoints: &[SocketAddr],
    tried: &[SocketAddr],
    busy: impl Fn(SocketAddr) -> usize,
    mut random: impl FnMut(usize) -> usize,
) -> Option<SocketAddr> {
    // Few were tried: from any place the next that was not is near.
    let mut draw = |but: Option<SocketAddr>| {
        let from = if endpoints.is_empty() { 0 } else { random(endpoints.len()) };
        let (before, behind) = endpoints.split_at_checked(from)?;
        let mut round = behind.iter().chain(before);
        round.find(|at| !tried.contains(at) && Some(**at) != but).copied()
    };
    let first = draw(None)?;
    let Some(second) = draw(Some(first)) else { return Some(first) };
    Some(if busy(second) < busy(first) { second } else { first })
}

/// How many calls are open to each endpoint.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<HashMap<SocketAddr, usize>>);

impl Calls {
    pub(crate) fn count(&self, at: SocketAddr) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&at).copied().unwrap_or_default()
    }

    /// One more is open, until what comes back is dropped.
    pub(crate) fn begin(self: &Arc<Self>, at: SocketAddr) -> OpenCall {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(at).or_default() += 1;
        OpenCall { calls: Arc::clone(self), at }
    }
}

/// A call that is open.
#[derive(Debug)]
pub(crate) struct OpenCall {
    calls: Arc<Calls>,
    at: SocketAddr,
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let mut open = self.calls.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 8080))
    }

    /// Says these, one after the other.
    fn says(mut these: Vec<usize>) -> impl FnMut(usize) -> usize {
        these.reverse();
        move |below| these.pop().unwrap_or_default() % below
    }

    #[test]
    fn of_two_that_are_drawn_the_less_busy_is_chosen_and_none_twice() {
        let all = [at(1), at(2), at(3)];
        let busy = |it: SocketAddr| if it == at(1) { 5 } else { 0 };
        assert_eq!(choose(&all, &[], busy, says(vec![0, 1])), Some(at(2)));
        assert_eq!(choose(&all, &[], busy, says(vec![1, 0])), Some(at(2)));
        // The same is drawn twice: the next stands for it.
        assert_eq!(choose(&all, &[], busy, says(vec![0, 0])), Some(at(2)));
        assert_eq!(choose(&all, &[at(2)], busy, says(vec![0, 1])), Some(at(3)));
        assert_eq!(choose(&all, &[at(2), at(3)], busy, says(vec![2, 2])), Some(at(1)));
        assert_eq!(choose(&all, &all, busy, says(vec![1])), None);
        assert_eq!(choose(&[], &[], busy, says(vec![])), None);
    }

    #[test]
    fn busy_endpoints_get_less_and_none_gets_nothing() {
        let endpoints: Vec<SocketAddr> = (0..10).map(at).collect();
        let calls = Arc::new(Calls::default());
        let mut seed = 7_usize;
        let mut random = |below: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut open = Vec::new();
        for _ in 0..1_000 {
            let chosen = choose(&endpoints, &[], |at| calls.count(at), &mut random);
            open.extend(chosen.map(|at| calls.begin(at)));
        }
        for endpoint in endpoints {
            let count = calls.count(endpoint);
            assert!((95..=105).contains(&count), "{endpoint}: {count}");
        }
        drop(open);
        assert!(calls.0.lock().is_ok_and(|open| open.is_empty()));
    }
}
