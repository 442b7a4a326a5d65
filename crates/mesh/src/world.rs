//! What decides at this moment: identity, bundles, rules, and where others are; swapped as one when any of it changes.
//!
//! Whoever decides something that lasts subscribes before it decides, so that no change falls between.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use nullius_intention::{Protocol, RuleSet};
use nullius_tls::WorkloadTls;
use tokio::sync::watch;

use crate::{Directory, Exports, issuers::Issuers};

/// What decides at this moment, for one workload.
#[derive(Debug, Clone)]
pub struct World {
    /// Grows with each new SVID or bundle.
    pub(crate) generation: u64,
    pub(crate) tls: Arc<WorkloadTls>,
    pub(crate) rules: Arc<RuleSet>,
    pub(crate) here: Arc<Here>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) issuers: Arc<Issuers>,
    pub(crate) exports: Arc<Exports>,
}

/// Who looks at what decides; as long as nothing is known, nothing is let through.
pub(crate) type View = watch::Receiver<Option<Arc<World>>>;

impl World {
    /// Puts it together; `generation` grows with each new `tls`, and with nothing else.
    pub fn new(
        generation: u64,
        tls: Arc<WorkloadTls>,
        rules: Arc<RuleSet>,
        here: Arc<Here>,
        directory: Arc<Directory>,
    ) -> Self {
        let (issuers, exports) = (Arc::default(), Arc::default());
        Self { generation, tls, rules, here, directory, issuers, exports }
    }

    /// With issuers whose tokens count; without, none does.
    #[must_use]
    pub fn with_issuers(self, issuers: Arc<Issuers>) -> Self {
        Self { issuers, ..self }
    }

    /// With what a gateway leads to; without, it leads nowhere.
    #[must_use]
    pub fn with_exports(self, exports: Arc<Exports>) -> Self {
        Self { exports, ..self }
    }

    /// Whether it was put together of the same: then nothing has to be judged again.
    #[must_use]
    pub fn is_of_the_same(&self, other: &Self) -> bool {
        self.generation == other.generation
            && Arc::ptr_eq(&self.tls, &other.tls)
            && Arc::ptr_eq(&self.rules, &other.rules)
            && Arc::ptr_eq(&self.here, &other.here)
            && Arc::ptr_eq(&self.directory, &other.directory)
            && Arc::ptr_eq(&self.exports, &other.exports)
            && self.issuers.are(&other.issuers)
    }
}

impl World {
    /// Whether it decides about who calls from an address as another one does: where Services lead, and where others are, makes no
    /// difference to that.
    pub(crate) fn decides_as(&self, other: &Self, caller: IpAddr) -> bool {
        self.generation == other.generation
            && Arc::ptr_eq(&self.tls, &other.tls)
            && Arc::ptr_eq(&self.rules, &other.rules)
            && Arc::ptr_eq(&self.here, &other.here)
            && self.issuers.are(&other.issuers)
            && (Arc::ptr_eq(&self.directory, &other.directory)
                || self.directory.is_of_mesh(caller) == other.directory.is_of_mesh(caller))
    }
}

/// The pod itself, as its cluster describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Here {
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// What is spoken at its ports; of others nothing is known.
    pub ports: BTreeMap<u16, PortProtocol>,
    /// The ports that the kubelet asks whether it lives.
    pub probe_ports: BTreeSet<u16>,
    /// The addresses of its node.
    pub node_addresses: BTreeSet<IpAddr>,
}

/// What a port is said to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum PortProtocol {
    /// Nobody says.
    #[default]
    Auto,
    /// Something that is not read.
    Tcp,
    /// HTTP of any version.
    Http,
}

impl Here {
    /// What is judged by at a port. Where nobody says what is spoken, it is HTTP as soon as requests decide, and otherwise it makes no
    /// difference: what connections decide passes unread.
    pub(crate) fn protocol(&self, port: u16) -> Protocol {
        match self.ports.get(&port).copied().unwrap_or_default() {
            PortProtocol::Auto | PortProtocol::Http => Protocol::Http,
            PortProtocol::Tcp => Protocol::Tcp,
        }
    }

    /// Whether the kubelet may ask there whether the pod lives; it is the node's address, and no proof yet that the node calls.
    pub(crate) fn is_probe(&self, client: IpAddr, at: SocketAddr) -> bool {
        self.node_addresses.contains(&client)
            && self.addresses.contains(&at.ip())
            && self.probe_ports.contains(&at.port())
    }
}
