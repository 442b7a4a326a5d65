//! Messages on the one side, what a node is told on the other. Reading is strict: where one thing is wrong, the whole message is refused.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use nullius_intention::{Labels, Origin, Rest};
use nullius_model::{Namespace, ParseSpiffeError, SpiffeId, Timestamp};
use nullius_pki::JWKS_MAX;
use nullius_proto::node_v1;

use super::{
    ADDRESSES_MAX, ENDPOINTS_MAX, Endpoint, IMPORT_MAX, INTENTION_MAX, Import, IntentionObject,
    IssuerNews, Local, Mode, News, PortProtocol, Service, ServiceName, ServicePort, Uid, Workload,
};

/// The longest UID or name of a stream, in bytes.
const UID_MAX: usize = 128;
/// The longest name of an issuer, in bytes.
const ISSUER_MAX: usize = 2_048;
/// The longest name, in bytes.
const NAME_MAX: usize = 253;

/// A message that is refused.
#[derive(Debug, thiserror::Error)]
pub enum NewsError {
    /// No name of a stream.
    #[error("the name of the stream is refused")]
    Stream(#[source] ItemError),
    /// A pod.
    #[error("the pod `{id}` is refused")]
    Workload {
        /// Which one, cut and escaped.
        id: String,
        /// Why.
        #[source]
        source: ItemError,
    },
    /// A Service.
    #[error("the Service `{id}` is refused")]
    Service {
        /// Which one, cut and escaped.
        id: String,
        /// Why.
        #[source]
        source: ItemError,
    },
    /// An issuer of tokens.
    #[error("the issuer `{id}` is refused")]
    Issuer {
        /// Which one, cut and escaped.
        id: String,
        /// Why.
        #[source]
        source: ItemError,
    },
    /// An intention.
    #[error("the intention `{id}` is refused")]
    Intention {
        /// Which one, cut and escaped.
        id: String,
        /// Why.
        #[source]
        source: ItemError,
    },
}

/// What is wrong with one thing that was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// A UID that is none.
    #[error("a UID has 1 to 128 printable characters of ASCII without spaces")]
    Uid,
    /// A namespace that is none.
    #[error("`{0}` is no namespace")]
    Namespace(String),
    /// A name that is none.
    #[error("{0} has 1 to 253 printable characters of ASCII without spaces and `/`")]
    Name(&'static str),
    /// A Service that is named in another way.
    #[error("a Service is named as `NAMESPACE/NAME`")]
    ServiceName,
    /// An address that is none, or not in its one form.
    #[error("`{0}` is no address of a pod or a Service in its one form")]
    Address(String),
    /// A SPIFFE ID that is none.
    #[error("the SPIFFE ID is refused: {0}")]
    Spiffe(ParseSpiffeError),
    /// In the mesh, and nobody.
    #[error("it is in the mesh and has no SPIFFE ID")]
    Nobody,
    /// A word that this version does not know.
    #[error("{field} is {value}, which this version does not know")]
    Unknown {
        /// Of which field.
        field: &'static str,
        /// Its number.
        value: i32,
    },
    /// A port that is none.
    #[error("{0} is no port: 1 to 65535 are")]
    Port(u32),
    /// Something that stands twice.
    #[error("one of its {0} stands twice")]
    Doubled(&'static str),
    /// Too many of something.
    #[error("it has {count} {what}, and at most {most} are taken")]
    Many {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many may be.
        most: usize,
    },
    /// A name of an issuer that is none, or the source of its keys.
    #[error("its name has 1 to 2048 bytes, and the source of its keys at most so many")]
    Issuer,
    /// A time that is none.
    #[error("{0} is no time")]
    Time(i64),
    /// A generation before the first.
    #[error("its generation is {0}")]
    Generation(i64),
}

/// Reads one message.
pub fn read_news(message: node_v1::MeshNews) -> Result<News, NewsError> {
    let node_v1::MeshNews {
        stream,
        sequence,
        is_complete,
        put_workloads,
        gone_workloads,
        put_services,
        gone_services,
        put_intentions,
        gone_intentions,
        put_issuers,
        gone_issuers,
    } = message;
    let workload = |id: &str, source| NewsError::Workload { id: shown(id), source };
    let service = |id: &str, source| NewsError::Service { id: shown(id), source };
    let issuer = |id: &str, source| NewsError::Issuer { id: shown(id), source };
    let intention = |id: &str, source| NewsError::Intention { id: shown(id), source };
    Ok(News {
        stream: uid(&stream).map_err(NewsError::Stream)?.as_ref().into(),
        sequence,
        is_complete,
        put_workloads: each(put_workloads, |it| {
            let id = it.uid.clone();
            read_workload(it).map_err(|source| workload(&id, source))
        })?,
        gone_workloads: each(gone_workloads, |it| uid(&it).map_err(|why| workload(&it, why)))?,
        put_services: each(put_services, |it| {
            let id = format!("{}/{}", it.namespace, it.name);
            read_service(it).map_err(|source| service(&id, source))
        })?,
        gone_services: each(gone_services, |it| it.parse().map_err(|source| service(&it, source)))?,
        put_intentions: each(put_intentions, |it| {
            let id = it.uid.clone();
            read_intention(it).map_err(|source| intention(&id, source))
        })?,
        gone_intentions: each(gone_intentions, |it| uid(&it).map_err(|why| intention(&it, why)))?,
        put_issuers: each(put_issuers, |it| {
            let id = it.issuer.clone();
            read_issuer(it).map_err(|source| issuer(&id, source))
        })?,
        gone_issuers: each(gone_issuers, |it| text(&it).map_err(|why| issuer(&it, why)))?,
    })
}

/// Writes one message.
pub fn write_news(news: &News) -> node_v1::MeshNews {
    let uids = |all: &[Uid]| all.iter().map(ToString::to_string).collect();
    node_v1::MeshNews {
        stream: news.stream.to_string(),
        sequence: news.sequence,
        is_complete: news.is_complete,
        put_workloads: news.put_workloads.iter().map(write_workload).collect(),
        gone_workloads: uids(&news.gone_workloads),
        put_services: news.put_services.iter().map(write_service).collect(),
        gone_services: news.gone_services.iter().map(ToString::to_string).collect(),
        put_intentions: news.put_intentions.iter().map(write_intention).collect(),
        gone_intentions: uids(&news.gone_intentions),
        put_issuers: news.put_issuers.iter().map(write_issuer).collect(),
        gone_issuers: news.gone_issuers.iter().map(ToString::to_string).collect(),
    }
}

/// Whether an address can be that of a pod or a Service.
pub fn is_address(address: &IpAddr) -> bool {
    address.to_canonical() == *address
        && !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

fn read_workload(message: node_v1::Workload) -> Result<Workload, ItemError> {
    let node_v1::Workload {
        uid: id,
        namespace: of,
        name: called,
        service_account,
        node,
        addresses: at,
        spiffe_id,
        mode,
        local,
    } = message;
    let mode = match node_v1::MeshMode::try_from(mode) {
        Ok(node_v1::MeshMode::None) => Mode::None,
        Ok(node_v1::MeshMode::Node) => Mode::Node,
        Ok(node_v1::MeshMode::Sidecar) => Mode::Sidecar,
        Ok(node_v1::MeshMode::Unspecified) | Err(_) => {
            return Err(ItemError::Unknown { field: "its mode", value: mode });
        }
    };
    let spiffe_id = match spiffe_id.as_str() {
        "" => None,
        id => Some(id.parse().map_err(ItemError::Spiffe)?),
    };
    if mode != Mode::None && spiffe_id.is_none() {
        return Err(ItemError::Nobody);
    }
    Ok(Workload {
        uid: uid(&id)?,
        namespace: namespace(&of)?,
        name: name(&called).map_err(|_| ItemError::Name("its name"))?,
        service_account: match service_account.as_str() {
            "" => "".into(),
            account => name(account).map_err(|_| ItemError::Name("its account"))?,
        },
        node: name(&node).map_err(|_| ItemError::Name("its node"))?,
        addresses: addresses(&at)?,
        spiffe_id,
        mode,
        local: local.map(read_local).transpose()?,
    })
}

fn read_local(message: node_v1::LocalWorkload) -> Result<Local, ItemError> {
    let node_v1::LocalWorkload { labels, has_more_labels, ports, probe_ports } = message;
    let mut read = BTreeMap::new();
    for node_v1::Port { port: number, protocol: spoken } in ports {
        if read.insert(port(number)?, protocol(spoken)?).is_some() {
            return Err(ItemError::Doubled("ports"));
        }
    }
    let probe_ports: Vec<u16> = each(probe_ports, port)?;
    if !probe_ports.is_sorted_by(|one, next| one < next) {
        return Err(ItemError::Doubled("probes' ports"));
    }
    let rest = if has_more_labels { Rest::Unknown } else { Rest::None };
    let labels = Labels::new(labels.into_iter().collect(), rest);
    Ok(Local { labels, ports: read, probe_ports })
}

fn read_service(message: node_v1::Service) -> Result<Service, ItemError> {
    let node_v1::Service { namespace: of, name: called, addresses: at, ports, import } = message;
    let service_name = service_name(&of, &called)?;
    most("endpoints", ports.iter().map(|port| port.endpoints.len()).sum(), ENDPOINTS_MAX)?;
    let mut read = BTreeMap::new();
    for node_v1::ServicePort { port: number, protocol: spoken, endpoints } in ports {
        let service_port = ServicePort {
            protocol: protocol(spoken)?,
            endpoints: each(endpoints, |it| {
                let workload = match it.workload.as_str() {
                    "" => None,
                    id => Some(uid(id)?),
                };
                Ok(Endpoint { address: address(&it.address)?, port: port(it.port)?, workload })
            })?,
        };
        if read.insert(port(number)?, service_port).is_some() {
            return Err(ItemError::Doubled("ports"));
        }
    }
    let import = import.map(read_import).transpose()?;
    Ok(Service { name: service_name, addresses: addresses(&at)?, ports: read, import })
}

fn service_name(of: &str, called: &str) -> Result<ServiceName, ItemError> {
    let name = name(called).map_err(|_| ItemError::Name("its name"))?;
    Ok(ServiceName { namespace: namespace(of)?, name })
}

fn read_import(message: node_v1::Import) -> Result<Import, ItemError> {
    let node_v1::Import { namespace, name, gateways, gateway_ids, spiffe_ids } = message;
    most("gateways", gateways.len(), IMPORT_MAX)?;
    let gateways = each(gateways, |text| {
        let at = text.parse::<SocketAddr>().ok().filter(|at| at.to_string() == text);
        at.filter(|at| is_address(&at.ip()) && at.port() != 0)
            .ok_or_else(|| ItemError::Address(shown(&text)))
    })?;
    let ids = |texts: Vec<String>| {
        most("SPIFFE IDs", texts.len(), IMPORT_MAX)?;
        each(texts, |text| text.parse::<SpiffeId>().map_err(ItemError::Spiffe))
    };
    Ok(Import {
        name: service_name(&namespace, &name)?,
        gateways,
        gateway_ids: ids(gateway_ids)?.into(),
        ids: ids(spiffe_ids)?.into(),
    })
}

fn read_intention(message: node_v1::IntentionObject) -> Result<IntentionObject, ItemError> {
    let node_v1::IntentionObject { uid: id, origin, generation, json } = message;
    let origin = match node_v1::IntentionOrigin::try_from(origin) {
        Ok(node_v1::IntentionOrigin::Cluster) => Origin::Cluster,
        Ok(node_v1::IntentionOrigin::Fleet) => Origin::Fleet,
        Ok(node_v1::IntentionOrigin::Unspecified) | Err(_) => {
            return Err(ItemError::Unknown { field: "its origin", value: origin });
        }
    };
    if generation < 0 {
        return Err(ItemError::Generation(generation));
    }
    most("bytes", json.len(), INTENTION_MAX)?;
    Ok(IntentionObject { uid: uid(&id)?, origin, generation, json: json.into() })
}

fn read_issuer(message: node_v1::IssuerKeys) -> Result<IssuerNews, ItemError> {
    let node_v1::IssuerKeys { issuer, source, jwks, until } = message;
    most("bytes", jwks.len(), JWKS_MAX)?;
    if source.len() > ISSUER_MAX {
        return Err(ItemError::Issuer);
    }
    let until = match until {
        0 => None,
        second => Some(Timestamp::from_second(second).map_err(|_| ItemError::Time(second))?),
    };
    Ok(IssuerNews { issuer: text(&issuer)?, source: source.into(), jwks: jwks.into(), until })
}

fn text(issuer: &str) -> Result<Box<str>, ItemError> {
    let is_one = (1..=ISSUER_MAX).contains(&issuer.len());
    if is_one { Ok(issuer.into()) } else { Err(ItemError::Issuer) }
}

fn write_issuer(issuer: &IssuerNews) -> node_v1::IssuerKeys {
    node_v1::IssuerKeys {
        issuer: issuer.issuer.to_string(),
        source: issuer.source.to_string(),
        jwks: issuer.jwks.to_vec(),
        until: issuer.until.map_or(0, Timestamp::as_second),
    }
}

fn write_workload(workload: &Workload) -> node_v1::Workload {
    let mode = match workload.mode {
        Mode::None => node_v1::MeshMode::None,
        Mode::Node => node_v1::MeshMode::Node,
        Mode::Sidecar => node_v1::MeshMode::Sidecar,
    };
    let local = workload.local.as_ref().map(|local| node_v1::LocalWorkload {
        labels: local.labels.known().clone().into_iter().collect(),
        has_more_labels: local.labels.rest() == Rest::Unknown,
        ports: local
            .ports
            .iter()
            .map(|(port, spoken)| node_v1::Port {
                port: (*port).into(),
                protocol: write_protocol(*spoken),
            })
            .collect(),
        probe_ports: local.probe_ports.iter().map(|port| (*port).into()).collect(),
    });
    node_v1::Workload {
        uid: workload.uid.to_string(),
        namespace: workload.namespace.to_string(),
        name: workload.name.to_string(),
        service_account: workload.service_account.to_string(),
        node: workload.node.to_string(),
        addresses: workload.addresses.iter().map(IpAddr::to_string).collect(),
        spiffe_id: workload.spiffe_id.as_ref().map_or_else(String::new, ToString::to_string),
        mode: mode.into(),
        local,
    }
}

fn write_service(service: &Service) -> node_v1::Service {
    let endpoint = |endpoint: &Endpoint| node_v1::Endpoint {
        address: endpoint.address.to_string(),
        port: endpoint.port.into(),
        workload: endpoint.workload.as_deref().unwrap_or_default().to_owned(),
    };
    let ports = service.ports.iter().map(|(port, of)| node_v1::ServicePort {
        port: (*port).into(),
        protocol: write_protocol(of.protocol),
        endpoints: of.endpoints.iter().map(endpoint).collect(),
    });
    node_v1::Service {
        namespace: service.name.namespace.to_string(),
        name: service.name.name.to_string(),
        addresses: service.addresses.iter().map(IpAddr::to_string).collect(),
        ports: ports.collect(),
        import: service.import.as_ref().map(|import| node_v1::Import {
            namespace: import.name.namespace.to_string(),
            name: import.name.name.to_string(),
            gateways: import.gateways.iter().map(SocketAddr::to_string).collect(),
            gateway_ids: import.gateway_ids.iter().map(ToString::to_string).collect(),
            spiffe_ids: import.ids.iter().map(ToString::to_string).collect(),
        }),
    }
}

fn write_intention(intention: &IntentionObject) -> node_v1::IntentionObject {
    let origin = match intention.origin {
        Origin::Cluster => node_v1::IntentionOrigin::Cluster,
        Origin::Fleet => node_v1::IntentionOrigin::Fleet,
    };
    node_v1::IntentionObject {
        uid: intention.uid.to_string(),
        origin: origin.into(),
        generation: intention.generation,
        json: intention.json.to_vec(),
    }
}

fn write_protocol(protocol: PortProtocol) -> i32 {
    let word = match protocol {
        PortProtocol::Auto => node_v1::PortProtocol::Auto,
        PortProtocol::Tcp => node_v1::PortProtocol::Tcp,
        PortProtocol::Http => node_v1::PortProtocol::Http,
        PortProtocol::Http2 => node_v1::PortProtocol::Http2,
    };
    word.into()
}

fn each<M, T, E>(all: Vec<M>, read: impl Fn(M) -> Result<T, E>) -> Result<Vec<T>, E> {
    all.into_iter().map(read).collect()
}

fn uid(text: &str) -> Result<Uid, ItemError> {
    let is_one = (1..=UID_MAX).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic());
    if is_one { Ok(Arc::from(text)) } else { Err(ItemError::Uid) }
}

/// A name of an object. What is legal in it is the API server's to say; what is not here would not fit into a line or a path.
pub(super) fn name(text: &str) -> Result<Box<str>, ItemError> {
    let legal = |c: u8| c.is_ascii_graphic() && c != b'/';
    let is_one = (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(legal);
    if is_one { Ok(text.into()) } else { Err(ItemError::Name("a name")) }
}

fn namespace(text: &str) -> Result<Namespace, ItemError> {
    text.parse().map_err(|_| ItemError::Namespace(shown(text)))
}

fn addresses(texts: &[String]) -> Result<Vec<IpAddr>, ItemError> {
    most("addresses", texts.len(), ADDRESSES_MAX)?;
    let mut all = Vec::with_capacity(texts.len());
    for text in texts {
        let read = address(text)?;
        if all.contains(&read) {
            return Err(ItemError::Doubled("addresses"));
        }
        all.push(read);
    }
    Ok(all)
}

fn address(text: &str) -> Result<IpAddr, ItemError> {
    let read: Option<IpAddr> = text.parse().ok();
    let is_usable = |it: &IpAddr| it.to_string() == text && is_address(it);
    read.filter(is_usable).ok_or_else(|| ItemError::Address(shown(text)))
}

fn port(number: u32) -> Result<u16, ItemError> {
    match u16::try_from(number) {
        Ok(0) | Err(_) => Err(ItemError::Port(number)),
        Ok(port) => Ok(port),
    }
}

fn protocol(number: i32) -> Result<PortProtocol, ItemError> {
    match node_v1::PortProtocol::try_from(number) {
        Ok(node_v1::PortProtocol::Auto) => Ok(PortProtocol::Auto),
        Ok(node_v1::PortProtocol::Tcp) => Ok(PortProtocol::Tcp),
        Ok(node_v1::PortProtocol::Http) => Ok(PortProtocol::Http),
        Ok(node_v1::PortProtocol::Http2) => Ok(PortProtocol::Http2),
        Ok(node_v1::PortProtocol::Unspecified) | Err(_) => {
            Err(ItemError::Unknown { field: "the protocol of a port", value: number })
        }
    }
}

fn most(what: &'static str, count: usize, most: usize) -> Result<(), ItemError> {
    if count > most { Err(ItemError::Many { what, count, most }) } else { Ok(()) }
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
