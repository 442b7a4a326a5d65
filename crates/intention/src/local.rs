//! The workloads of one node: which rules are for a pod, found by its address, and kept as intentions and pods come and go.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use crate::{
    destination::Workload,
    intention::{Intention, Tier},
    set::{Intentions, RuleSet},
};

/// Rules by the address of the pod that is called. Pods of one workload share theirs.
#[derive(Debug, Clone, Default)]
pub struct Destinations {
    intentions: Intentions,
    sets: HashMap<Arc<Workload>, Shared>,
    pods: HashMap<IpAddr, Arc<Workload>>,
}

/// Rules, and how many pods they are for.
#[derive(Debug, Clone)]
struct Shared {
    rules: Arc<RuleSet>,
    pods: usize,
}

impl Destinations {
    /// The rules for the pod at an address; none where no pod is known there, and then everything is denied.
    pub fn rules(&self, address: IpAddr) -> Option<&Arc<RuleSet>> {
        let workload = self.pods.get(&address)?;
        self.sets.get(workload).map(|shared| &shared.rules)
    }

    /// All intentions.
    pub fn intentions(&self) -> &Intentions {
        &self.intentions
    }

    /// A pod is there, in place of the one that had its address.
    pub fn put_pod(&mut self, address: IpAddr, workload: Workload) {
        self.remove_pod(address);
        let workload = Arc::new(workload);
        let shared = match self.sets.entry(Arc::clone(&workload)) {
            Entry::Occupied(shared) => shared.into_mut(),
            Entry::Vacant(place) => {
                let rules = Arc::new(self.intentions.rules_for((*workload).clone()));
                place.insert(Shared { rules, pods: 0 })
            }
        };
        shared.pods += 1;
        self.pods.insert(address, workload);
    }

    /// A pod is gone.
    pub fn remove_pod(&mut self, address: IpAddr) {
        let Some(workload) = self.pods.remove(&address) else { return };
        if let Entry::Occupied(mut shared) = self.sets.entry(workload) {
            shared.get_mut().pods -= 1;
            if shared.get().pods == 0 {
                shared.remove();
            }
        }
    }

    /// Puts an intention in force, in place of the one of its name in its tier.
    ///
    /// Who holds rules of before keeps them as they were; they are copied only then.
    pub fn put(&mut self, intention: Intention) {
        let old = self.intentions.put(intention.clone());
        for (workload, shared) in &mut self.sets {
            let was = old.as_ref().is_some_and(|old| old.destination().selects(workload));
            if was || intention.destination().selects(workload) {
                Arc::make_mut(&mut shared.rules).put(&intention);
            }
        }
    }

    /// Takes an intention out of force.
    pub fn remove(&mut self, tier: Tier, name: &str) {
        let Some(old) = self.intentions.remove(tier, name) else { return };
        for (workload, shared) in &mut self.sets {
            if old.destination().selects(workload) {
                Arc::make_mut(&mut shared.rules).remove(tier, name);
            }
        }
    }
}
