//! What decides about one pod: its identity, the rules that are for it, and where others are.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use nullius_intention::Workload as Destination;
use nullius_mesh::{
    Here, PortProtocol, World,
    news::{self, Workload},
};
use nullius_pki::workload::TrustBundle;
use nullius_tls::WorkloadTls;
use nullius_workload::{Entry, Held, Holdings, PodUid, Selector};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::known::Known;

/// Makes it, and makes it anew when something of it changes.
pub(crate) struct WorldMaker {
    pod: PodUid,
    addresses: Vec<IpAddr>,
    generation: u64,
    tls: Option<Proof>,
}

/// What the pod proves itself by, and of what it was made.
struct Proof {
    held: Arc<Held>,
    bundles: Vec<Arc<TrustBundle>>,
    tls: Arc<WorkloadTls>,
}

impl WorldMaker {
    /// For a pod that has got these addresses.
    pub(crate) fn new(pod: PodUid, addresses: Vec<IpAddr>) -> Self {
        Self { pod, addresses, generation: 0, tls: None }
    }

    /// What decides now; nothing while the pod cannot prove itself.
    pub(crate) fn make(
        &mut self,
        known: &Known,
        workload: &Workload,
        holdings: &Holdings,
    ) -> Option<World> {
        let tls = self.prove(workload, holdings)?;
        let local = workload.local.clone().unwrap_or_default();
        let rules = known.intentions.rules_for(Destination {
            namespace: workload.namespace.clone(),
            service_account: workload.service_account.to_string(),
            labels: local.labels,
        });
        let ports = local.ports.into_iter().map(|(port, protocol)| (port, spoken(protocol)));
        let here = Here {
            addresses: self.addresses.iter().chain(&workload.addresses).copied().collect(),
            ports: ports.collect(),
            probe_ports: local.probe_ports.into_iter().collect(),
            node_addresses: node_addresses(),
        };
        let directory = Arc::clone(&known.directory);
        Some(World::new(self.generation, tls, Arc::new(rules), Arc::new(here), directory))
    }

    fn prove(&mut self, workload: &Workload, holdings: &Holdings) -> Option<Arc<WorkloadTls>> {
        let found =
            holdings.registered.entries.iter().find(|(_, entry)| self.is_default(entry, workload));
        let Some((held, entry)) =
            found.and_then(|(id, entry)| Some((holdings.held.get(id)?, entry)))
        else {
            self.tls = None;
            return None;
        };
        let registered = &holdings.registered;
        let wanted = entry.federates_with.iter().chain([&registered.trust_domain]);
        let bundles: Vec<_> =
            wanted.filter_map(|domain| registered.bundles.get(domain)).cloned().collect();
        if let Some(proof) = &self.tls
            && Arc::ptr_eq(&proof.held, held)
            && proof.bundles == bundles
        {
            return Some(Arc::clone(&proof.tls));
        }
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(held.key.to_vec()));
        let stand_behind = bundles.iter().map(|bundle| (**bundle).clone());
        let made = WorkloadTls::new(held.svid.chain.clone(), key, stand_behind);
        match made {
            Ok(tls) => {
                let tls = Arc::new(tls);
                self.generation += 1;
                let held = Arc::clone(held);
                self.tls = Some(Proof { held, bundles, tls: Arc::clone(&tls) });
                Some(tls)
            }
            Err(error) => {
                tracing::error!(%error, pod = %self.pod, "fail to use an SVID");
                self.tls = None;
                None
            }
        }
    }

    /// The entry that says of the pod what the mesh is told it is.
    fn is_default(&self, entry: &Entry, workload: &Workload) -> bool {
        workload.spiffe_id.as_ref() == Some(&entry.spiffe_id)
            && entry.selectors.contains(&Selector::Pod(self.pod.clone()))
    }
}

fn spoken(protocol: news::PortProtocol) -> PortProtocol {
    match protocol {
        news::PortProtocol::Auto => PortProtocol::Auto,
        news::PortProtocol::Tcp => PortProtocol::Tcp,
        news::PortProtocol::Http | news::PortProtocol::Http2 => PortProtocol::Http,
    }
}

/// Addresses of this node, by one of which the kubelet calls. They come and go with interfaces.
fn node_addresses() -> BTreeSet<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
    };
    interfaces.filter_map(address).filter(|address| !address.is_loopback()).collect()
}
