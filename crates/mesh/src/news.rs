//! What a node is told of its cluster, and the state that it makes of that: pods, the Services that lead to them, intentions.
//!
//! [`read_news`] takes a message strictly, [`Picture::hear`] gathers messages until they are complete and then applies them as one. After
//! a fault the stream is to begin anew with a new picture; what was in force stays until that one is complete.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use nullius_intention::{Labels, Origin};
use nullius_model::{Namespace, SpiffeId, Timestamp};

use crate::{Exported, Via};

mod picture;
mod wire;

pub use picture::{Changed, Picture, PictureError};
pub use wire::{ItemError, NewsError, is_address, read_news, write_news};

/// The longest message, in bytes.
pub const NEWS_MAX: usize = 16 * 1024 * 1024;
/// Gateways of one import, and SPIFFE IDs of each kind.
pub const IMPORT_MAX: usize = 16;
/// Pods that a node is told of.
pub const WORKLOADS_MAX: usize = 250_000;
/// Services that a node is told of.
pub const SERVICES_MAX: usize = 50_000;
/// Endpoints of one Service, of all its ports.
pub const ENDPOINTS_MAX: usize = 65_536;
/// Intentions that a node is told of.
pub const INTENTIONS_MAX: usize = 50_000;
/// Issuers of tokens that a node is told of.
pub const ISSUERS_MAX: usize = 64;
/// Bytes of one intention.
pub const INTENTION_MAX: usize = 2 * 1024 * 1024;
/// Addresses of a pod or a Service.
pub const ADDRESSES_MAX: usize = 8;

/// The id of a pod or an intention: the UID that the API server gave it.
pub type Uid = Arc<str>;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// The stream.
    pub stream: Box<str>,
    /// Counts its messages from 1.
    pub sequence: u64,
    /// Whether what was told so far belongs together.
    pub is_complete: bool,
    /// Pods that are new, or other than before.
    pub put_workloads: Vec<Workload>,
    /// Pods that are gone.
    pub gone_workloads: Vec<Uid>,
    /// Services that are new, or other than before.
    pub put_services: Vec<Service>,
    /// Services that are gone.
    pub gone_services: Vec<ServiceName>,
    /// Intentions that are new, or other than before.
    pub put_intentions: Vec<IntentionObject>,
    /// Intentions that are gone.
    pub gone_intentions: Vec<Uid>,
    /// Issuers of tokens that are new, or have other keys than before.
    pub put_issuers: Vec<IssuerNews>,
    /// Issuers that are gone.
    pub gone_issuers: Vec<Box<str>>,
}

/// Who leads the calls of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Nobody: it is not in the mesh.
    None,
    /// Its node.
    Node,
    /// A proxy beside it.
    Sidecar,
}

/// What is spoken at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortProtocol {
    /// Nobody says.
    Auto,
    /// Anything.
    Tcp,
    /// HTTP, of whichever version.
    Http,
    /// HTTP/2 from its first byte, and gRPC.
    Http2,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its UID.
    pub uid: Uid,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: Box<str>,
    /// Its ServiceAccount; empty where it has none.
    pub service_account: Box<str>,
    /// The node that it is scheduled to.
    pub node: Box<str>,
    /// None until it has them.
    pub addresses: Vec<IpAddr>,
    /// Who it is; in the mesh everybody is somebody.
    pub spiffe_id: Option<SpiffeId>,
    /// Who leads its calls.
    pub mode: Mode,
    /// What only its own node is told.
    pub local: Option<Local>,
}

/// What only the node of a pod is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Local {
    /// Its labels.
    pub labels: Labels,
    /// What is spoken where.
    pub ports: BTreeMap<u16, PortProtocol>,
    /// Where the kubelet calls, in order.
    pub probe_ports: Vec<u16>,
}

/// What names a Service, and as text `NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: Box<str>,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for ServiceName {
    type Err = ItemError;

    fn from_str(text: &str) -> Result<Self, ItemError> {
        let (namespace, name) = text.split_once('/').ok_or(ItemError::ServiceName)?;
        let namespace = namespace.parse().map_err(|_| ItemError::ServiceName)?;
        Ok(Self { namespace, name: wire::name(name).map_err(|_| ItemError::ServiceName)? })
    }
}

/// A Service that leads to the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Which one.
    pub name: ServiceName,
    /// Its cluster IPs; none where it is headless.
    pub addresses: Vec<IpAddr>,
    /// By the Service's own number.
    pub ports: BTreeMap<u16, ServicePort>,
    /// Where it stands for a Service of another cluster: how that is reached.
    pub import: Option<Import>,
}

/// How a Service of another cluster is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// What it is called there.
    pub name: ServiceName,
    /// Where gateways of that cluster listen; none where it is not reached at this moment.
    pub gateways: Vec<SocketAddr>,
    /// Who may be a gateway.
    pub gateway_ids: Arc<[SpiffeId]>,
    /// Who may be behind the Service.
    pub ids: Arc<[SpiffeId]>,
}

impl Import {
    /// How one of its ports is reached; none where nobody could have that name.
    pub fn port(&self, number: u16) -> Option<Via> {
        let ServiceName { namespace, name } = &self.name;
        Some(Via {
            service: Exported::new(namespace.clone(), name, number).ok()?,
            gateways: self.gateways.clone(),
            gateway_ids: Arc::clone(&self.gateway_ids),
            expect: Arc::clone(&self.ids),
        })
    }
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// What is spoken there.
    pub protocol: PortProtocol,
    /// Those that are ready.
    pub endpoints: Vec<Endpoint>,
}

/// Where a Service leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
    /// The pod in the mesh that has the address.
    pub workload: Option<Uid>,
}

/// An issuer of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerNews {
    /// Who it is.
    pub issuer: Box<str>,
    /// Where its keys come from.
    pub source: Box<str>,
    /// Its keys; empty where who tells has none.
    pub jwks: Arc<[u8]>,
    /// Until when they count.
    pub until: Option<Timestamp>,
}

/// An intention as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentionObject {
    /// Its UID.
    pub uid: Uid,
    /// Who gave it.
    pub origin: Origin,
    /// Which version of its spec it is.
    pub generation: i64,
    /// The object without its status; it need not be right.
    pub json: Arc<[u8]>,
}
