//! What decides about one pod: its identity, the rules that are for it, and where others are.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use nullius_intention::{RuleSet, Workload as Destination};
use nullius_mesh::{
    Here, PortProtocol, World,
    news::{self, Workload},
};
use nullius_pki::workload::TrustBundle;
use nullius_tls::WorkloadTls;
use nullius_workload::{Entry, Held, Holdings, PodUid, Selector};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{addresses::Addresses, known::Known, rules::Within};

/// Makes it, and makes anew what of it has changed.
pub(crate) struct WorldMaker {
    pod: PodUid,
    addresses: Vec<IpAddr>,
    generation: u64,
    tls: Option<Proof>,
    rules: Option<(Within, Arc<RuleSet>)>,
    here: Arc<Here>,
    last: Option<Arc<World>>,
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
        let here = Arc::default();
        Self { pod, addresses, generation: 0, tls: None, rules: None, here, last: None }
    }

    /// What decides now, the same value as before where nothing has changed; nothing while the pod cannot prove itself.
    pub(crate) fn make(
        &mut self,
        known: &Known,
        workload: &Workload,
        holdings: &Holdings,
        of_node: &Addresses,
    ) -> Option<Arc<World>> {
        let Some(tls) = self.prove(workload, holdings) else {
            self.last = None;
            return None;
        };
        let rules = self.rules(known, workload);
        let here = self.here(workload, of_node);
        let directory = Arc::clone(&known.directory);
        let world = World::new(self.generation, tls, rules, here, directory)
            .with_issuers(Arc::clone(&known.issuers));
        if let Some(last) = self.last.as_ref().filter(|last| last.is_of_the_same(&world)) {
            return Some(Arc::clone(last));
        }
        Some(Arc::clone(self.last.insert(Arc::new(world))))
    }

    fn rules(&mut self, known: &Known, workload: &Workload) -> Arc<RuleSet> {
        let within = known.rules.within(&workload.namespace);
        let labels = workload.local.as_ref().map(|local| &local.labels);
        let called = Destination {
            namespace: workload.namespace.clone(),
            service_account: workload.service_account.to_string(),
            labels: labels.cloned().unwrap_or_default(),
        };
        if let Some((before, rules)) = &self.rules
            && before.is(&within)
            && **rules.workload() == called
        {
            return Arc::clone(rules);
        }
        let rules = Arc::new(within.rules_for(called));
        self.rules = Some((within, Arc::clone(&rules)));
        rules
    }

    fn here(&mut self, workload: &Workload, of_node: &Addresses) -> Arc<Here> {
        let local = workload.local.as_ref();
        let ports = local.into_iter().flat_map(|local| &local.ports);
        let here = Here {
            addresses: self.addresses.iter().chain(&workload.addresses).copied().collect(),
            ports: ports.map(|(port, protocol)| (*port, spoken(*protocol))).collect(),
            probe_ports: local.into_iter().flat_map(|local| &local.probe_ports).copied().collect(),
            node_addresses: BTreeSet::clone(of_node),
        };
        if *self.here != here {
            self.here = Arc::new(here);
        }
        Arc::clone(&self.here)
    }

    fn prove(&mut self, workload: &Workload, holdings: &Holdings) -> Option<Arc<WorkloadTls>> {
        let of_pod = holdings.registered.entries.iter();
        let mut of_pod = of_pod.filter(|(_, entry)| self.is_default(entry, workload));
        let found = of_pod.find_map(|(id, entry)| Some((holdings.held.get(id)?, entry)));
        let Some((held, entry)) = found else {
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

    /// The entry that says of the whole pod, and not of a part of it, what the mesh is told it is.
    fn is_default(&self, entry: &Entry, workload: &Workload) -> bool {
        workload.spiffe_id.as_ref() == Some(&entry.spiffe_id)
            && entry.selectors.len() == 1
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
