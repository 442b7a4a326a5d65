//! Services that a cluster exports to others: how they are named between clusters, where its gateway leads to, and how somebody else's are
//! reached.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    str::FromStr,
    sync::Arc,
};

use nullius_model::{Namespace, SpiffeId};
use nullius_tunnel::is_metadata;

/// What names of exported Services end with (Multi-Cluster Services API).
const ZONE: &str = ".svc.clusterset.local";
/// The longest label of a name (RFC 1035).
const LABEL: usize = 63;

/// A port of a Service that a cluster exports: `NAME.NAMESPACE.svc.clusterset.local:PORT`, as a CONNECT names it at the gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exported {
    namespace: Namespace,
    name: Box<str>,
    port: u16,
}

/// What names no port of an exported Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write `NAME.NAMESPACE{ZONE}:PORT`, in lower case, with a port between 1 and 65535")]
pub struct NotExported;

impl Exported {
    /// A port of a Service.
    pub fn new(namespace: Namespace, name: &str, port: u16) -> Result<Self, NotExported> {
        match is_label(name) && is_label(namespace.as_str()) && port != 0 {
            true => Ok(Self { namespace, name: name.into(), port }),
            false => Err(NotExported),
        }
    }

    /// The namespace that it is exported from.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The Service's name there.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{ZONE}:{}", self.name, self.namespace, self.port)
    }
}

impl FromStr for Exported {
    type Err = NotExported;

    /// Reads the one form; no other spelling of it, and no address.
    fn from_str(text: &str) -> Result<Self, NotExported> {
        let (host, port) = text.rsplit_once(':').ok_or(NotExported)?;
        let (name, namespace) =
            host.strip_suffix(ZONE).and_then(|it| it.split_once('.')).ok_or(NotExported)?;
        let namespace = namespace.parse().map_err(|_| NotExported)?;
        let read = Self::new(namespace, name, port.parse().map_err(|_| NotExported)?)?;
        if read.to_string() == text { Ok(read) } else { Err(NotExported) }
    }
}

fn is_label(text: &str) -> bool {
    let is_legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let is_inside = !text.starts_with('-') && !text.ends_with('-');
    !text.is_empty() && text.len() <= LABEL && is_inside && text.bytes().all(is_legal)
}

/// Whether a gateway leads nobody to an address. Its own machine is one where its file says so.
fn is_nobody(at: SocketAddr) -> bool {
    let ip = at.ip().to_canonical();
    at.port() == 0 || ip.is_unspecified() || ip.is_multicast() || is_metadata(at)
}

/// What a gateway leads to, and for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exports {
    partners: BTreeSet<Box<str>>,
    routes: BTreeMap<Exported, Arc<[SocketAddr]>>,
}

impl Exports {
    /// For workloads of these trust domains, and for nobody else.
    pub fn new<'d>(partners: impl IntoIterator<Item = &'d str>) -> Self {
        let partners = partners.into_iter().map(Box::from).collect();
        Self { partners, routes: BTreeMap::new() }
    }

    /// Leads to these endpoints, which live, and to no others. What clouds tell machines is no endpoint.
    pub fn put(&mut self, exported: Exported, endpoints: impl IntoIterator<Item = SocketAddr>) {
        let endpoints = endpoints.into_iter().filter(|at| !is_nobody(*at)).collect();
        self.routes.insert(exported, endpoints);
    }

    /// Whether workloads of a trust domain may come in.
    pub(crate) fn is_partner(&self, trust_domain: &str) -> bool {
        self.partners.contains(trust_domain)
    }

    /// The endpoints of what is exported; none of what is not.
    pub(crate) fn endpoints(&self, exported: &Exported) -> Option<&Arc<[SocketAddr]>> {
        self.routes.get(exported)
    }
}

/// How a Service of another cluster is reached: through a gateway of that cluster, in which the call proves to be for its workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// What it is called there.
    pub service: Exported,
    /// Where gateways listen.
    pub gateways: Vec<SocketAddr>,
    /// Who may be a gateway.
    pub gateway_ids: Arc<[SpiffeId]>,
    /// Who may be behind the Service.
    pub expect: Arc<[SpiffeId]>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_port_of_an_exported_service_has_one_name_and_no_address_is_one() {
        let long = "o".repeat(63);
        for good in [
            "orders.shop.svc.clusterset.local:8080".to_owned(),
            "o-1.0.svc.clusterset.local:1".to_owned(),
            format!("{long}.shop.svc.clusterset.local:65535"),
        ] {
            assert_eq!(good.parse::<Exported>().map(|it| it.to_string()), Ok(good));
        }
        for bad in [
            "",
            "orders.shop.svc.clusterset.local",
            "orders.shop.svc.clusterset.local:",
            "orders.shop.svc.clusterset.local:0",
            "orders.shop.svc.clusterset.local:070",
            "orders.shop.svc.clusterset.local:+80",
            "orders.shop.svc.clusterset.local:70000",
            "orders.shop.svc.clusterset.local.:80",
            "orders.shop.svc.cluster.local:80",
            "Orders.shop.svc.clusterset.local:80",
            "orders.shop.svc.CLUSTERSET.local:80",
            "orders..svc.clusterset.local:80",
            ".shop.svc.clusterset.local:80",
            "a.orders.shop.svc.clusterset.local:80",
            "-orders.shop.svc.clusterset.local:80",
            "orders-.shop.svc.clusterset.local:80",
            "or_ders.shop.svc.clusterset.local:80",
            "user@orders.shop.svc.clusterset.local:80",
            "orders.shop.svc.clusterset.local:80:80",
            "orders.shop.svc.clusterset.local:80/",
            "orders.shop.svc.clusterset.local:80\r\n",
            "10.0.0.5:80",
            "127.0.0.1:80",
            "169.254.169.254:80",
            "[::1]:80",
            "[fd00:ec2::254]:80",
            "localhost:80",
            "clusterset.local:80",
            ".svc.clusterset.local:80",
        ] {
            assert_eq!(bad.parse::<Exported>(), Err(NotExported), "{bad:?}");
        }
        assert!(format!("{long}o.shop.svc.clusterset.local:80").parse::<Exported>().is_err());
    }

    #[test]
    fn who_is_not_named_and_what_is_not_named_gets_nothing() {
        let orders: Exported = "orders.shop.svc.clusterset.local:8080".parse().unwrap();
        let at = SocketAddr::from(([10, 0, 0, 7], 80));
        let mut exports = Exports::new(["bank.example"]);
        exports.put(orders.clone(), [at]);
        assert_eq!(exports.endpoints(&orders).map(|it| it.to_vec()), Some(vec![at]));
        let other = Exported::new("shop".parse().unwrap(), "orders", 8081).unwrap();
        assert_eq!(exports.endpoints(&other), None);
        assert!(exports.is_partner("bank.example"));
        for nobody in ["", "bank", "dev.example", "a.bank.example"] {
            assert!(!exports.is_partner(nobody), "{nobody:?}");
        }
        assert_eq!(Exports::default().endpoints(&orders), None);
        let odd = [
            "169.254.169.254:80",
            "[fd00:ec2::254]:80",
            "0.0.0.0:80",
            "224.0.0.1:80",
            "10.0.0.7:0",
        ];
        exports.put(orders.clone(), odd.map(|it| it.parse().unwrap()).into_iter().chain([at]));
        assert_eq!(exports.endpoints(&orders).map(|it| it.to_vec()), Some(vec![at]));
    }
}
