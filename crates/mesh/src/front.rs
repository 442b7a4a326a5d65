//! What differs between a listener that somebody wrote and the one that a pod's connections are led to: what is spoken where, whom a
//! call is for, and what passes without proof.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use nullius_intention::Protocol;

use crate::{
    Here, Listener, Port, Ports, Wire,
    access_log::Why,
    tunnel::{ALPN_H2, ALPN_HBONE, ALPN_HTTP1, ALPN_TLS},
};

/// Where Istio's ambient proxies listen.
const ISTIO_PORT: u16 = 15_008;

/// A side on which a proxy is called.
pub(crate) enum Front {
    Listener(Listener),
    Pod(Pod),
}

/// A pod whose connections are led to the proxy.
pub(crate) struct Pod {
    /// `NAMESPACE/NAME`.
    pub(crate) name: Arc<str>,
    /// The ports to which they are led: nobody calls there by himself.
    pub(crate) own_ports: BTreeSet<u16>,
}

impl Front {
    pub(crate) fn name(&self) -> &Arc<str> {
        match self {
            Self::Listener(listener) => &listener.name,
            Self::Pod(pod) => &pod.name,
        }
    }

    /// The names of the protocols that are spoken at an address; without any, ALPN is not spoken.
    pub(crate) fn protocols(&self, at: SocketAddr) -> Vec<&'static [u8]> {
        let listener = match self {
            Self::Listener(listener) => listener,
            Self::Pod(_) if at.port() == ISTIO_PORT => return vec![ALPN_H2],
            Self::Pod(_) => return vec![ALPN_HBONE, ALPN_TLS],
        };
        let mut protocols: Vec<&[u8]> = Vec::new();
        for wire in &listener.wires {
            match (wire, &listener.ports) {
                (Wire::Hbone, _) => protocols.push(ALPN_HBONE),
                (Wire::Istio, _) => protocols.push(ALPN_H2),
                (Wire::Tls, Ports::Own(Port { protocol: Protocol::Http, .. })) => {
                    protocols.extend([ALPN_TLS, ALPN_H2, ALPN_HTTP1]);
                }
                (Wire::Tls, Ports::Own(_) | Ports::Named(_)) => {}
            }
        }
        // Where others have names, this one needs its own.
        if listener.wires.contains(&Wire::Tls) && protocols == [ALPN_HBONE] {
            protocols.push(ALPN_TLS);
        }
        protocols
    }

    /// Which wire an agreed protocol stands for; none where it is not spoken there.
    pub(crate) fn wire(&self, at: SocketAddr, alpn: Option<&[u8]>) -> Option<Wire> {
        match self {
            Self::Listener(listener) => {
                let wire = match alpn {
                    Some(ALPN_HBONE) => Wire::Hbone,
                    Some(ALPN_H2) if listener.wires.contains(&Wire::Istio) => Wire::Istio,
                    Some(_) | None => Wire::Tls,
                };
                listener.wires.contains(&wire).then_some(wire)
            }
            Self::Pod(_) => match (alpn?, at.port() == ISTIO_PORT) {
                (ALPN_H2, true) => Some(Wire::Istio),
                (ALPN_HBONE, false) => Some(Wire::Hbone),
                (ALPN_TLS, false) => Some(Wire::Tls),
                _ => None,
            },
        }
    }

    /// The port of the workload that a call is for, which has reached `at` and asks for `address`; none where that is not this workload's.
    pub(crate) fn port(&self, here: &Here, at: SocketAddr, address: SocketAddr) -> Option<Port> {
        if address.ip() != at.ip() {
            return None;
        }
        match self {
            Self::Listener(listener) => match &listener.ports {
                Ports::Own(port) => (address.port() == at.port()).then_some(*port),
                Ports::Named(ports) => ports.get(&address.port()).copied(),
            },
            Self::Pod(pod) => {
                let is_there = address.port() == at.port() || at.port() == ISTIO_PORT;
                let is_of_it = here.addresses.contains(&address.ip())
                    && address.port() != ISTIO_PORT
                    && !pod.own_ports.contains(&address.port());
                let protocol = here.protocol(address.port());
                (is_there && is_of_it).then_some(Port { forward: address, protocol })
            }
        }
    }

    /// How somebody who has connected goes on.
    pub(crate) fn meets(&self, here: &Here, client: IpAddr, at: SocketAddr) -> Meets {
        match self {
            Self::Listener(_) => Meets::Proof,
            Self::Pod(pod) if pod.own_ports.contains(&at.port()) => {
                Meets::Refusal(Why::ProxyItself)
            }
            Self::Pod(_) if !here.addresses.contains(&at.ip()) => {
                Meets::Refusal(Why::WrongDestination)
            }
            Self::Pod(_) if at.port() == ISTIO_PORT => Meets::Proof,
            Self::Pod(_) if here.is_probe(client, at) => Meets::Probe,
            Self::Pod(_) => Meets::Either,
        }
    }
}

/// How somebody who has connected goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meets {
    /// He proves who he is.
    Proof,
    /// He does, or he does not: his first bytes tell.
    Either,
    /// He need not, if it is the node: it asks whether the pod lives.
    Probe,
    /// It may have been the node, and has closed again: nothing is said to the pod.
    Nobody,
    /// Not at all.
    Refusal(Why),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Front {
        Front::Pod(Pod { name: "shop/orders-1".into(), own_ports: [15_001, 15_006].into() })
    }

    fn here() -> Here {
        let ports = [(5432, crate::PortProtocol::Tcp)].into();
        Here {
            addresses: [[10, 0, 0, 5].into(), IpAddr::from([0xfd, 0, 0, 0, 0, 0, 0, 5_u16])].into(),
            ports,
            probe_ports: [8081].into(),
            node_addresses: [[10, 9, 0, 1].into()].into(),
        }
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 5], port))
    }

    #[test]
    fn a_pods_ports_are_its_own_but_for_those_of_the_proxy() {
        let (pod, here) = (pod(), here());
        let port = |at, address| pod.port(&here, at, address);
        let own = Port { forward: at(8080), protocol: Protocol::Http };
        assert_eq!(port(at(8080), at(8080)), Some(own));
        assert_eq!(port(at(5432), at(5432)).map(|it| it.protocol), Some(Protocol::Tcp));
        assert_eq!(port(at(8080), at(8081)), None, "another port than that which was reached");
        assert_eq!(port(at(8080), ([10, 0, 0, 6], 8080).into()), None);
        assert_eq!(port(at(ISTIO_PORT), at(8080)), Some(own));
        for proxys in [15_001, 15_006, ISTIO_PORT] {
            assert_eq!(port(at(ISTIO_PORT), at(proxys)), None);
            assert_eq!(port(at(proxys), at(proxys)), None);
        }
        let foreign = SocketAddr::from(([127, 0, 0, 1], 8080));
        assert_eq!(port(foreign, foreign), None);
    }

    #[test]
    fn only_the_node_asks_without_proof_and_only_where_probes_are() {
        let (pod, here) = (pod(), here());
        let meets = |client: [u8; 4], at| pod.meets(&here, client.into(), at);
        assert_eq!(meets([10, 9, 0, 1], at(8081)), Meets::Probe);
        assert_eq!(meets([10, 9, 0, 1], at(8080)), Meets::Either);
        assert_eq!(meets([10, 0, 0, 9], at(8081)), Meets::Either);
        assert_eq!(meets([10, 9, 0, 1], at(15_006)), Meets::Refusal(Why::ProxyItself));
        assert_eq!(meets([10, 0, 0, 9], at(ISTIO_PORT)), Meets::Proof);
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 8081));
        assert_eq!(meets([10, 9, 0, 1], elsewhere), Meets::Refusal(Why::WrongDestination));
    }

    #[test]
    fn a_wire_is_spoken_where_it_belongs() {
        let pod = pod();
        assert_eq!(pod.wire(at(8080), Some(ALPN_HBONE)), Some(Wire::Hbone));
        assert_eq!(pod.wire(at(8080), Some(ALPN_TLS)), Some(Wire::Tls));
        assert_eq!(pod.wire(at(ISTIO_PORT), Some(ALPN_H2)), Some(Wire::Istio));
        for (port, alpn) in [
            (8080, Some(ALPN_H2)),
            (8080, Some(ALPN_HTTP1)),
            (8080, None),
            (ISTIO_PORT, Some(ALPN_HBONE)),
            (ISTIO_PORT, None),
        ] {
            assert_eq!(pod.wire(at(port), alpn), None, "{port} {alpn:?}");
        }
    }
}
